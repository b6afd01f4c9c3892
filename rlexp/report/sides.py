"""The two sides of a verdict: a run folder, an entry of the gallery, or what a file says of somebody's curves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

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
    by_env_steps: dict[str, Line] = field(default_factory=dict)  # the same curves; empty where that is not known


def of_run(name: str, run: Run) -> Side:
    """The side of a run, as far as its seeds have come."""
    metric = f"eval/{RETURN}"
    every = run.lines(metric, run.clock)
    done = [seed for seed in every if run.status(seed) == "done"]
    going = [seed for seed in every if run.status(seed) != "failed"]
    kept = done or going
    lines = {seed: every[seed] for seed in kept}
    by_env_steps = _counted(run.lines(metric, "env_steps"), kept)
    left_out = len(run.record["seeds"]) - len(lines)
    return Side(name, lines, run.about, left_out, by_env_steps)


def of_entry(file: Path) -> Side:
    """The side of the gallery's entry whose csv is `file`. Raises UserError where it is broken."""
    entry = references.Entry.read(file)
    lines = entry.lines(RETURN, entry.card["clock"])
    left_out = len(entry.card["seeds"]) - len(lines)
    by_env_steps = _counted(entry.lines(RETURN, "env_steps"), lines)
    return Side(entry.name, lines, entry.card, left_out, by_env_steps)


def _counted(lines: Mapping[str, Line], seeds: Iterable[str]) -> dict[str, Line]:
    """The lines of these seeds over environment steps; none where a count stands still, as it does while one learns
    from data, whether that was collected first or not."""
    kept = {seed: lines[seed] for seed in seeds if seed in lines}
    stands = any(len(np.unique(x)) <= 2 for x, _ in kept.values())
    return {} if stands else kept


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
    by_env_steps = {seed: line for side in (first, *others) for seed, line in side.by_env_steps.items()}
    return Side(name, lines, first.about, first.left_out + sum(side.left_out for side in others), by_env_steps)


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
    for file in files:
        require_no_runs(file)
    found = foreign.read(*files, **columns)
    about = {"clock": found.clock, "env": found.env, "training": found.evaluation is False}
    by_env_steps = found.lines if found.clock == "env_steps" else {}
    return Side(", ".join(map(str, files)), found.lines, about, by_env_steps=by_env_steps)


def require_no_runs(place: Path) -> None:
    """Raises UserError for a folder of run folders, whose tables would be taken for somebody's."""
    run = next(place.glob("*/run.json"), None)
    if run is not None:
        raise UserError(f"{place}: no run or study folder, but one with runs in it; name them, e.g. {run.parent}")
