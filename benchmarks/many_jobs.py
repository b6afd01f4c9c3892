"""How much time engine=ray loses on many small jobs, beside engine=processes on the same cores.

    python benchmarks/many_jobs.py [--jobs 200] [--rounds 2] [--workers 2]

Each job is a seed of CMA-ES on the sphere, about a second of work. The two engines take turns; what is timed is the
whole command, from its start to its summary.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from common import machine, save, table, versions

ROOT = Path(__file__).parent.parent
JOB = ["algo=cmaes", "env=sphere", "algo.population_size=100", "video=none", "logger=none"]
ENGINES = ("processes", "ray")


def timed(engine: str, words: list[str]) -> float:
    """Seconds that `python main.py` takes on `engine`."""
    with tempfile.TemporaryDirectory() as place:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(ROOT / "main.py"), *words, f"engine={engine}", f"runs={place}"],
            capture_output=True,
            text=True,
        )
        took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--budget", type=int, default=100, help="generations of each job")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    words = [*JOB, f"train.budget={args.budget}", f"seeds=range({args.jobs})", f"workers={args.workers}"]
    print(f"{machine()}, {versions('ray', 'torch')}\n", flush=True)
    took: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for number in range(args.rounds):
        for engine in ENGINES[:: 1 if number % 2 == 0 else -1]:
            took[engine].append(timed(engine, words))
    rows = []
    for engine in ENGINES:
        every = ", ".join(f"{one:.0f}" for one in took[engine])
        rows.append([engine, every, f"{median(took[engine]) / args.jobs:.2f}"])
    print(table(["engine", f"s for {args.jobs} jobs", "s a job"], rows))
    ratios = [ours / theirs for ours, theirs in zip(took["ray"], took["processes"], strict=True)]
    print(f"ray / processes: {', '.join(f'{one:.2f}' for one in ratios)}")
    save(args.json, took)


if __name__ == "__main__":
    main()
