"""Whether a change moved numbers: short runs of every algorithm in two checkouts, compared bit for bit.

    git worktree add ../before HEAD~1
    python benchmarks/same_numbers.py ../before .

Every algorithm trains two seeds of its toy (conf/experiment/<algo>_toy.yaml, or the line world). Rows of metrics.jsonl
must be equal, `seconds` aside. Exit code 1 where any is not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SHORT = {"ppo": "train.budget=20000", "vpg": "train.budget=20000", "cmaes": "train.budget=20"}


def toy(checkout: Path, algo: str) -> list[str]:
    """The options of an algorithm's shortest run that learns something."""
    if (checkout / "conf" / "experiment" / f"{algo}_toy.yaml").is_file():
        return [f"+experiment={algo}_toy"]
    return [f"algo={algo}", "env=lineworld", "train.eval_episodes=10", SHORT[algo]]


def trained(checkout: Path, algo: str, place: Path) -> dict[str, list[dict]]:
    """Rows of each seed of a toy run of `algo` in `checkout`, without times. Raises CalledProcessError."""
    words = [*toy(checkout, algo), "seeds=[0,1]", "video=none", f"runs={place}"]
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(checkout / "main.py"), *words]
    subprocess.run(command, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
    return {file.parent.name: rows(file) for file in place.rglob("metrics.jsonl")}


def rows(file: Path) -> list[dict]:
    found = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="a checkout")
    parser.add_argument("after", type=Path, help="another")
    args = parser.parse_args()
    checkouts = [args.before.resolve(), args.after.resolve()]
    algos = sorted(file.stem for file in (checkouts[0] / "conf" / "algo").glob("*.yaml"))
    print("| algorithm | rows of two seeds | equal bit for bit |")
    print("|---|---|---|")
    moved = False
    with tempfile.TemporaryDirectory() as place:
        for algo in algos:
            before, after = (trained(one, algo, Path(place) / f"{algo}{i}") for i, one in enumerate(checkouts))
            equal = before == after and bool(before)
            moved = moved or not equal
            print(f"| {algo} | {sum(map(len, before.values()))} | {'yes' if equal else 'NO'} |", flush=True)
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main())
