"""Kill a sweep of 24 combinations at random moments, resume it each time, and compare it with an undisturbed one.

    python benchmarks/sweep_kills.py [--kills 5] [--seed 0]

Every combination must be there exactly once, with the same metrics (the time columns aside) and in the same table.
"""

import argparse
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rlexp.loggers import jsonl

MAIN = Path(__file__).parent.parent / "main.py"
WORDS = ["algo=cmaes", "env=sphere", "train.budget=30", "video=none", "logger=none", "seeds=range(2)"]
SWEPT = ["algo.sigma0=1,2,3,5,8,10", "algo.eps=0.1,0.25", "algo.population_size=20,40"]


def start(words: list[str], place: Path) -> subprocess.Popen[bytes]:
    engine = ["engine=processes", "workers=2", f"runs={place}"]
    if words[0].startswith("resume="):
        engine.pop()
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, str(MAIN), *words, *engine], **quiet)


def finish(words: list[str], place: Path) -> None:
    process = start(words, place)
    _, said = process.communicate()
    assert process.returncode == 0, said.decode()


def folder(place: Path) -> Path | None:
    """The sweep's folder, once there is one to resume; half a one that was killed before that is dropped."""
    for found in place.glob("*/*_sweep"):
        if (found / "study.yaml").exists():
            return found
        shutil.rmtree(found)
    return None


def metrics(sweep: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every seed of every combination, without times."""
    found = {}
    for file in sorted(sweep.glob("*/seed_*/metrics.jsonl")):
        rows = jsonl.read(file)
        found[str(file.relative_to(sweep))] = [
            {key: value for key, value in row.items() if "second" not in key} for row in rows
        ]
    return found


def table(sweep: Path) -> str:
    """The rows of the table in summary.md."""
    return "\n".join(re.findall(r"^\|.*$", (sweep / "summary.md").read_text(), re.MULTILINE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    chance = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        whole, killed = Path(temporary) / "whole", Path(temporary) / "killed"
        began = time.monotonic()
        finish(["-m", *WORDS, *SWEPT], whole)
        took = time.monotonic() - began
        print(f"undisturbed: {took:.0f} s", flush=True)
        kills = 0
        while kills < args.kills:
            there = folder(killed)
            process = start([f"resume={there}"] if there else ["-m", *WORDS, *SWEPT], killed)
            try:
                process.wait(chance.uniform(0.1, 0.6) * took)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                kills += 1
                done = sum('"status": "done"' in file.read_text() for file in killed.rglob("status.json"))
                print(f"kill {kills}: {done} of 48 seeds done", flush=True)
            else:  # it had ended before
                process.communicate()
                break
            time.sleep(1)  # its workers see that it has gone
        there = folder(killed)
        finish([f"resume={there}"] if there else ["-m", *WORDS, *SWEPT], killed)
        (first,), (second,) = whole.glob("*/*_sweep"), killed.glob("*/*_sweep")
        ours, theirs = metrics(first), metrics(second)
        assert len(ours) == 48
        assert ours == theirs, "other metrics"
        assert table(first) == table(second), "another table"
        print(f"{kills} kills, 24 combinations x 2 seeds, each once: metrics and table as undisturbed")
        print(table(second))


if __name__ == "__main__":
    main()
