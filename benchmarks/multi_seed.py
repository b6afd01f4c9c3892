"""How much sooner do seeds finish in parallel? Wall time of main.py and of main_mp.py with the same seeds.

    python benchmarks/multi_seed.py

Runs alternate; the table gives medians over rounds. Whole commands are timed, start-up included. It is also checked
that both wrote the same metrics, bit for bit, apart from the times.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import common


def run(script: str, options: list[str], runs: Path) -> tuple[float, dict[str, list[str]]]:
    """Wall seconds of one command, and each seed's metrics as lines without times."""
    start = time.perf_counter()
    common.run([sys.executable, script, *options, f"runs={runs}"])
    seconds = time.perf_counter() - start
    files = sorted(runs.glob("*/*/seed_*/metrics.jsonl"))
    return seconds, {file.parent.name: [_without_times(line) for line in file.open()] for file in files}


def _without_times(line: str) -> str:
    row = json.loads(line)
    return json.dumps({key: value for key, value in row.items() if key != "seconds" and not key.startswith("time/")})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budget", type=int, default=100_000, help="environment steps of each seed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write every measurement there")
    parser.add_argument("options", nargs="*", default=["algo=ppo", "env=hopper"], help="what to train")
    args = parser.parse_args()

    options = [
        *args.options,
        f"seeds={list(range(args.seeds))}".replace(" ", ""),
        f"train.budget={args.budget}",
        "video=none",
    ]
    times: dict[str, list[float]] = {"main.py": [], "main_mp.py": []}
    metrics: list[Any] = []
    print(common.machine(), file=sys.stderr)
    for i in range(args.rounds):
        for script, seconds in times.items():
            with tempfile.TemporaryDirectory() as folder:
                took, found = run(script, options, Path(folder))
            seconds.append(took)
            metrics.append(found)
            print(f"round {i} {script}: {took:.1f} s", file=sys.stderr)
    rows = sum(map(len, metrics[0].values()))
    if not rows or any(found != metrics[0] for found in metrics[1:]):
        raise SystemExit("the metrics of the runs differ")

    print(f"\n`python main.py {shlex.join(options)}`, {common.machine()}\n")
    ratios = [a / b for a, b in zip(times["main.py"], times["main_mp.py"], strict=True)]
    one, many = (median(seconds) for seconds in times.values())
    cells = [
        args.seeds,
        os.cpu_count(),
        f"{one:.1f}",
        f"{many:.1f}",
        f"{one / many:.2f}",
        " ".join(f"{r:.2f}" for r in ratios),
        f"yes, {rows} rows",
    ]
    head = [
        "seeds",
        "cores",
        "main.py s",
        "main_mp.py s",
        "ratio of medians",
        "each round",
        "metrics equal, bit for bit",
    ]
    print(common.table(head, [cells]))
    common.save(args.json, {"options": options, "machine": common.machine(), "seconds": times, "equal_rows": rows})


if __name__ == "__main__":
    main()
