"""The two sides of a verdict: a run folder, an entry of the gallery, or what a file says of somebody's curves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlexp.report import foreign, references
from rlexp.report.differences import DIGITS, differences
from rlexp.report.history import Run
from rlexp.report.lines import Line
from rlexp.util.errors import UserError

RETURN = "return_mean"  # of an evaluation


@dataclass(frozen=True)
class Side:
    """Curves of evaluation returns, and what is known of where they come from."""

    name: str
    lines: dict[str, Line]  # by seed; of those that are done or, while none is, of all that have not failed
    about: Mapping[str, Any] = field(default_factory=dict)  # as in a card; empty for what is not ours
    left_out: int = 0  # seeds that failed or have not finished


def of_run(name: str, run: Run) -> Side:
    """The side of a run, as far as its seeds have come."""
    every = run.lines(f"eval/{RETURN}", run.clock)
    done = {seed: line for seed, line in every.items() if run.status(seed) == "done"}
    going = {seed: line for seed, line in every.items() if run.status(seed) != "failed"}
    lines = done or going
    return Side(name, lines, {**run.record, "config": run.config}, len(run.record["seeds"]) - len(lines))


def of_entry(file: Path, clock: str | None = None) -> Side:
    """The side of the gallery's entry whose csv is `file`; x is its own clock, or the column `clock`."""
    entry = references.Entry.read(file)
    lines = entry.lines(RETURN, clock or entry.card["clock"])
    return Side(entry.name, lines, entry.card, len(entry.card["seeds"]) - len(lines))


def pooled(sides: Iterable[Side]) -> Side:
    """Several sides as one with the seeds of all. Raises UserError where two hold the same seed, or other settings."""
    first, *others = sides
    lines = dict(first.lines)
    for side in others:
        _check_same(first, side)
        twice = lines.keys() & side.lines.keys()
        if twice:
            raise UserError(f"{side.name}: has seed {min(twice)}, which another one has too; name each seed once")
        lines |= side.lines
    name = ", ".join(side.name for side in (first, *others))
    return Side(name, lines, first.about, first.left_out + sum(side.left_out for side in others))


def _check_same(first: Side, other: Side) -> None:
    """Raises UserError unless both are of the same settings, as far as that is known."""
    for one in differences(first.about, other.about):
        if one.kind != DIGITS:
            what = f"{one.what} is {one.reference}, in {first.name} {one.run}"
            raise UserError(f"{other.name}: {what}; together they are no one curve. Check them apart")


def of_files(files: list[Path], **columns: str | None) -> Side:
    """The side of files and folders of anybody's curves, which are seeds of one experiment. Raises UserError.

    columns: `step`, `value` and `seed`, where the names are not usual ones
    """
    found = foreign.read(*files, **columns)
    about = {"clock": found.clock, "env": found.env, "training": found.evaluation is False}
    return Side(", ".join(map(str, files)), found.lines, about)
