"""Memory of a long training: resident size of the process after each share of the time.

    python benchmarks/memory.py [--minutes 10] [--algo ppo] [--algo dpo]

PPO on CartPole and DPO on Swimmer; a size that goes on growing is a leak.
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
    "dpo": ["algo=dpo", "env=swimmer", "train.budget=384000", "algo.iterations=1000", "train.save_every=500"],
}


def resident(pid: int) -> float:
    """MB (10^6 bytes) of memory that a process holds. Linux only."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--algo", choices=RUNS, action="append")
    args = parser.parse_args()
    for algo in args.algo or RUNS:
        with tempfile.TemporaryDirectory() as place:
            words = [*RUNS[algo], "seeds=[0]", "video=none", "train.eval_every=100000", f"runs={place}"]
            process = subprocess.Popen(
                [sys.executable, "main.py", *words], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            started = time.monotonic()
            for share in (0.05, 0.1, 0.25, 0.5, 0.75, 1.0):
                time.sleep(max(0.0, started + 60 * args.minutes * share - time.monotonic()))
                if process.poll() is not None:
                    print(f"{algo}: ended ({process.stderr.read().decode()[-300:]})")
                    break
                print(f"{algo}: {resident(process.pid):,.0f} MB after {args.minutes * share:.2g} min", flush=True)
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
