"""How often `rlexp check` errs: the rule of rlexp/report/verdict.py on resampled seeds of the gallery's entries.

    python benchmarks/verdict.py --write            # 1000 trials, minutes; renews gallery/verdict.md
    python benchmarks/verdict.py --trials 100       # prints the table

For each entry with at least five seeds, and each number of seeds, a trial draws a run's and a reference's seeds, with
replacement, and adds to every evaluation the noise that an evaluation of so many episodes has. The run is then left as
it is, or loses a share of what the seed gained since its beginning, or learns at half the speed.
"""

import argparse
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlexp.report.references import Entry, entries
from rlexp.report.verdict import align, decide

SIZES = ((1, 3), (1, 5), (1, 10), (3, 3), (3, 5), (3, 10), (5, 3), (5, 5), (5, 10))  # run, reference
LEAST_SEEDS = 5
PAGE = Path(__file__).parent.parent / "gallery" / "verdict.md"
TRAINED = "## Fresh seeds"  # the heading from which on the page is of fresh.py and spoilt.py
DIFFERS = ("better", "worse", "unusual")
MATCHES = ("matches",)


@dataclass(frozen=True)
class Curves:
    """An entry's evaluations, and the standard error of each. Rows: seeds; columns: evaluations."""

    name: str
    mean_SN: np.ndarray
    error_SN: np.ndarray

    def draw(self, rng: np.random.Generator, seeds: int) -> np.ndarray:
        """Evaluations of so many seeds, drawn with replacement and evaluated anew."""
        rows = rng.integers(len(self.mean_SN), size=seeds)
        return rng.normal(self.mean_SN[rows], self.error_SN[rows])


def curves(name: str, entry: Entry) -> Curves:
    """The curves of an entry's seeds at common steps."""
    found = []
    for column in ("return_mean", "return_std"):
        lines = entry.lines(column, "step")
        found.append(align(lines, lines)[1])
    mean_SN, std_SN = found
    return Curves(name, mean_SN, std_SN / np.sqrt(entry.card["eval"]["episodes"]))


def usable() -> list[Curves]:
    """The gallery's entries with LEAST_SEEDS or more that are done."""
    found = []
    for name, file in entries().items():
        entry = Entry.read(file)
        if "config" in entry.card and len(entry.lines("return_mean", "step")) >= LEAST_SEEDS:
            found.append(curves(name, entry))
    return found


def lose(share: float) -> Callable[[np.ndarray], np.ndarray]:
    """Runs that gain `share` less than they did."""
    return lambda run_SN: run_SN - share * (run_SN - run_SN[:, :1])


def half_speed(run_SN: np.ndarray) -> np.ndarray:
    """Runs that are, at each evaluation, where they were at half of its step."""
    place_N = np.arange(run_SN.shape[1])
    return np.array([np.interp(place_N / 2, place_N, run_N) for run_N in run_SN])


# What a row of the table counts: the words of verdicts on runs that are altered so.
ROWS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], tuple[str, ...]]] = {
    "differs, though the same": (lose(0.0), DIFFERS),
    "finds 20 % of the gain lost": (lose(0.2), DIFFERS),
    "finds 50 % lost": (lose(0.5), DIFFERS),
    "finds half the speed": (half_speed, DIFFERS),
    "matches, though the same": (lose(0.0), MATCHES),
    "matches, though 10 % are lost": (lose(0.1), MATCHES),
}


def rates(source: Curves, run: int, reference: int, trials: int) -> dict[str, float]:
    """Of each row of the table, the share of trials, for so many seeds of a run and of a reference."""
    alterations = dict.fromkeys(alter for alter, _ in ROWS.values())
    words: dict[Callable, list[str]] = {alter: [] for alter in alterations}
    rng = np.random.default_rng([*source.name.encode(), run, reference])
    for _ in range(trials):
        run_SN = source.draw(rng, run)
        reference_SN = source.draw(rng, reference)
        for alter in alterations:
            words[alter].append(decide(alter(run_SN), reference_SN).word)
    found = {}
    for row, (alter, counted) in ROWS.items():
        found[row] = sum(word in counted for word in words[alter]) / trials
    return found


def table(sources: list[Curves], trials: int) -> dict[tuple[int, int], dict[str, np.ndarray]]:
    """Of each pair of SIZES and each row: the rate in every entry."""
    found = {}
    for sizes in SIZES:
        every = [rates(source, *sizes, trials) for source in sources]
        found[sizes] = {row: np.array([one[row] for one in every]) for row in ROWS}
    return found


def markdown(found: dict[tuple[int, int], dict[str, np.ndarray]]) -> str:
    """The table of percentages, mean over entries; in brackets the worst entry of the first row."""
    heads = [f"{run}×{reference}" for run, reference in found]
    lines = ["| % | " + " | ".join(heads) + " |", "|---" * (1 + len(heads)) + "|"]
    for row in ROWS:
        cells = []
        for each in found.values():
            mean = 100 * each[row].mean()
            digits = 1 if mean < 10 else 0
            worst = f" [{100 * each[row].max():.0f}]" if row == next(iter(ROWS)) else ""
            cells.append(f"{mean:.{digits}f}{worst}")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(sources: list[Curves], rates_table: str, trials: int) -> str:
    """What gallery/verdict.md says."""
    rule = sys.modules[decide.__module__].__doc__ or ""
    names = textwrap.fill(", ".join(f"`{source.name}`" for source in sources) + ".", 120, break_on_hyphens=False)
    return f"""# How often a verdict errs

`python benchmarks/verdict.py --write` makes this page, but for the tables of runs at its end.

{rule.strip()}

## Error rates

{trials} trials an entry and cell, on the {len(sources)} entries that had {LEAST_SEEDS} seeds or more (below). Columns:
seeds of the run × seeds of the reference. Mean over entries, in brackets the worst entry. "Differs" is better, worse
or, of one seed, unusual.

{rates_table}

A run's and a reference's seeds are drawn from one entry, with replacement and with new evaluation noise. That measures
what chance does, not what another machine or version does. The entries:
{names}
"""


def trained() -> str:
    """The part of the page that is not of this script: tables of runs that were trained."""
    _, heading, rest = PAGE.read_text(encoding="utf-8").partition(TRAINED)
    return f"\n{heading}{rest}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="of each entry and cell (default 1000)")
    parser.add_argument("--write", action="store_true", help=f"renew {PAGE.name} in gallery/")
    args = parser.parse_args()
    sources = usable()
    text = markdown(table(sources, args.trials))
    print(text)
    if args.write:
        PAGE.write_text(page(sources, text, args.trials) + trained(), encoding="utf-8")


if __name__ == "__main__":
    main()
