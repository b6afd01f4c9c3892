"""How long `rlexp list`, `compare` and `report` take over many run folders.

    python benchmarks/many_runs.py [--runs 1000]

The folders are copies of one toy run, each with a seed of its own. Each command is timed twice: the second finds the
files in the system's memory.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOY = ["algo=cmaes", "env=sphere", "train.budget=10", "video=none", "logger=none", "seeds=[0]"]


def copies(place: Path, count: int) -> list[Path]:
    """`count` run folders in `place`/runs."""
    subprocess.run([sys.executable, str(ROOT / "main.py"), *TOY, f"runs={place / 'one'}"], check=True, stdout=-3)
    (run,) = place.glob("one/*/*")
    made = []
    for number in range(count):
        folder = place / "runs" / "2026-01-31" / f"12-{number // 60:02}-{number % 60:02}_cmaes_sphere"
        shutil.copytree(run, folder)
        (folder / "seed_0").rename(folder / f"seed_{number}")
        config = folder / "config.yaml"
        config.write_text(re.sub(r"^seeds:\n- 0$", f"seeds:\n- {number}", config.read_text(), flags=re.MULTILINE))
        record = json.loads((folder / "run.json").read_text())
        record["seeds"] = {str(number): record["seeds"]["0"]}
        record["final"]["return_mean"]["mean"] += number
        (folder / "run.json").write_text(json.dumps(record))
        made.append(folder)
    return made


def timed(name: str, words: list[str], place: Path) -> None:
    took = []
    for _ in range(2):
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "rlexp", *words], cwd=place, check=True, stdout=-3)
        took.append(time.monotonic() - began)
    print(f"| {name} | {took[0]:.1f} s | {took[1]:.1f} s |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        runs = [str(folder.relative_to(place)) for folder in copies(place, args.runs)]
        print(f"| {args.runs} runs | first | again |\n|---|---|---|")
        timed("list", ["list"], place)
        timed("list --algo cmaes --sort score", ["list", "--algo", "cmaes", "--sort", "score"], place)
        names = ",".join(map(str, range(args.runs)))
        timed("compare", ["compare", *runs, "--names", names], place)
        timed("report", ["report", *runs, "-o", "all.html"], place)


if __name__ == "__main__":
    main()
