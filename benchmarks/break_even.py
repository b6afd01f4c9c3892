"""From how many updates on `train.compile=true` pays: what `train.compile=auto` is decided by.

    python benchmarks/break_even.py --rounds 3

Sides alternate within a round, each in a process of its own with one thread. "cold" is the first compilation on a
machine, "cached" the next, which finds its code in torch's cache; both are the seconds that a compiled side's first
twenty updates take longer than an eager one's. It pays from cold seconds / (eager - compiled seconds an update) on.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import common

WORKER = str(Path(__file__).with_name("gpu_worker.py"))


def measure(work: str, cache: str, seconds: float, *options: str) -> dict[str, Any]:
    command = [sys.executable, WORKER, "speed", work, *options, "--device", "cpu", "--seconds", str(seconds)]
    env = {**os.environ, **common.ONE_THREAD, "TORCHINDUCTOR_CACHE_DIR": cache}
    return json.loads(
        subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--works", nargs="+", default=["ppo", "sac", "bc", "dt", "diffusion"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    args = parser.parse_args()
    heads = ["work", "eager ms an update", "compiled ms", "cold s", "cached s", "pays from updates"]
    print(f"`{' '.join(['python', *sys.argv])}`\n\n{common.machine()}\n\n{common.table(heads, [])}", flush=True)
    for work in args.works:
        eager, compiled, cold, cached = [], [], [], []
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory() as cache:
                plain = measure(work, cache, args.seconds)
                first = measure(work, cache, args.seconds, "train.compile=true")
                again = measure(work, cache, args.seconds, "train.compile=true")
            eager.append(1 / plain["updates_per_second"])
            compiled += [1 / first["updates_per_second"], 1 / again["updates_per_second"]]
            cold.append(first["first_seconds"] - plain["first_seconds"])
            cached.append(again["first_seconds"] - plain["first_seconds"])
        slow, fast, wait, less = map(statistics.median, (eager, compiled, cold, cached))
        pays = "never"
        if slow > fast:
            pays = f"{wait / (slow - fast):,.0f}"
        cells = (work, f"{1000 * slow:.2f}", f"{1000 * fast:.2f}", f"{wait:.1f}", f"{less:.1f}", pays)
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
