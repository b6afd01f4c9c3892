"""Memory of a long training: resident size of the process at some moments.

    python benchmarks/memory.py [--minutes 1 10 30] [--algo ppo] [--algo dt] [--algo dpo]

PPO on CartPole, a Decision Transformer on Swimmer's data (made first, where they are not there), DPO on Swimmer. A size
that goes on growing is a leak; DPO's grows until it first learns, which takes more room than collecting.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUNS = {
    "ppo": ["algo=ppo", "env=cartpole", "train.budget=1000000000", "train.save_every=200000"],
    "dt": ["algo=dt", "env=swimmer", "buffer.dataset=expert", "train.budget=1000000", "train.save_every=1000"],
    "dpo": ["algo=dpo", "env=swimmer", "train.budget=384000", "algo.iterations=4000", "train.save_every=500"],
}
EVALUATED = {"ppo": 100_000, "dt": 500, "dpo": 100_000}  # every so many of its clock


def resident(pid: int) -> float:
    """MB (10^6 bytes) of memory that a process holds. Linux only."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def measure(algo: str, minutes: list[float], place: str) -> None:
    """Print what a training of `algo` holds after so many minutes each."""
    words = [*RUNS[algo], "seeds=[0]", "video=none", f"train.eval_every={EVALUATED[algo]}", f"runs={place}"]
    with open(Path(place) / "said", "wb") as said:
        process = subprocess.Popen([sys.executable, "main.py", *words], cwd=ROOT, stdout=said, stderr=said)
    started = time.monotonic()
    for moment in sorted(minutes):
        time.sleep(max(0.0, started + 60 * moment - time.monotonic()))
        if process.poll() is not None:
            print(f"{algo}: ended ({(Path(place) / 'said').read_text()[-300:]})")
            break
        print(f"{algo}: {resident(process.pid):,.0f} MB after {moment:g} min", flush=True)
    process.kill()
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 30])
    parser.add_argument("--algo", choices=RUNS, action="append")
    args = parser.parse_args()
    for algo in args.algo or RUNS:
        with tempfile.TemporaryDirectory() as place:
            measure(algo, args.minutes, place)


if __name__ == "__main__":
    main()
