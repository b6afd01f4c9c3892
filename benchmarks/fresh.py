"""What `rlexp check` says of the gallery's own commands with a seed that their entries have not seen.

    python benchmarks/fresh.py [--runs FOLDER] [--seed 100]

Trains the command of each entry with five seeds or more once more, with that one seed, cheapest first, and prints a row
for each as soon as it is there. Entries that were trained on a GPU are left out. What has been trained is kept in
FOLDER: called again, the rest is trained.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rlexp.report import judge, sides
from rlexp.report.history import Run
from rlexp.report.references import card, entries, reference_of

ROOT = Path(__file__).parent.parent
LEAST_SEEDS = 5
DROPPED = ("seeds=", "workers=", "reference=", "video=")

HEAD = "| entry | its seeds | verdict | difference | half width | % of the gain |\n|---|---|---|---|---|---|"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "fresh")
    parser.add_argument("--seed", type=int, default=100)
    args = parser.parse_args()
    print(HEAD, flush=True)
    said = set()
    for words in commands():
        name = "_".join(words).replace("/", "_")
        place = args.runs / (name or "default")
        for run in trained(place, words, args.seed):
            side = sides.of_run(run.name, Run.read(run))
            file = reference_of(side.about)
            if file is not None and file not in said:
                said.add(file)
                print(row(judge.judge(side, sides.of_entry(file))), flush=True)
    return 0


def commands() -> Iterator[list[str]]:
    """The words behind main.py of the entries' commands, each command once, the cheapest first."""
    costs: dict[tuple[str, ...], float] = {}
    for file in entries().values():
        facts = card(file)
        if "command" in facts and len(facts["seeds"]) >= LEAST_SEEDS and "device=cuda" not in facts["command"]:
            words = tuple(word for word in shlex.split(facts["command"])[2:] if not word.startswith(DROPPED))
            costs[words] = costs.get(words, 0.0) + facts["seconds"] / len(facts["seeds"])
    for words in sorted(costs, key=costs.__getitem__):
        yield list(words)


def trained(place: Path, words: list[str], seed: int) -> list[Path]:
    """The run folders of these options, a study's arms, trained if they are not there."""
    done = place / "done"
    if not done.exists():
        shutil.rmtree(place, ignore_errors=True)  # what was interrupted
        command = [sys.executable, ROOT / "main.py", *words, f"seeds=[{seed}]", f"runs='{place}'"]
        subprocess.run([*command, "video=none", "logger=none"], check=True, stdout=subprocess.DEVNULL)
        done.touch()
    return sorted(file.parent for file in place.glob("**/run.json"))


def row(judged: judge.Judgement) -> str:
    """A row of the table."""
    measure = judged.measure
    cells = ["", "", ""]
    if measure is not None:
        half = "" if measure.half_width is None else f"{measure.half_width:.3g}"
        cells = [f"{measure.difference:+.3g}", half, f"{100 * measure.difference / measure.span:+.1f}"]
    return f"| {judged.reference} | {judged.n_reference} | {judged.word.replace('_', ' ')} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
