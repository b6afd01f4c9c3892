"""Reference curves that come with the project, gallery/<algo>_<env>[-<variant>].csv with a card each."""

import csv
import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.report.lines import Line
from rlexp.report.naming import data_of
from rlexp.util import paths
from rlexp.util.errors import UserError, did_you_mean, nearest
from rlexp.util.files import read_object, read_text


@dataclass(frozen=True)
class Entry:
    """A published curve: what is known of the run behind it, and every evaluation of its seeds."""

    name: str
    card: dict[str, Any]
    rows: list[dict[str, str]]  # of curve.csv, by column

    @classmethod
    def read(cls, file: Path) -> "Entry":
        """The entry whose csv is `file`. Raises UserError where it is broken."""
        facts = card(file)
        rows = list(csv.DictReader(read_text(file).splitlines()))
        for number, row in enumerate(rows, 2):
            if row.get("seed") not in facts["seeds"]:
                raise UserError(f"{file}: line {number}: is of no seed that its card has")
            if not all(_is_cell(name, value) for name, value in row.items()):
                raise UserError(f"{file}: line {number}: holds what is no number")
        return cls(file.stem, facts, rows)

    def lines(self, column: str, x: str) -> dict[str, Line]:
        """`column` over the column `x`, of each seed that is done; empty where the entry has no such column."""
        points: dict[str, list[tuple[float, float]]] = {}
        for row in self.rows:
            if column in row and self.card["seeds"][row["seed"]]["status"] == "done":
                points.setdefault(row["seed"], []).append((float(row[x]), float(row[column])))
        found = {}
        for seed, pairs in points.items():
            points_N2 = np.array(pairs)
            found[seed] = (points_N2[:, 0], points_N2[:, 1])
        return found


def find(reference: str | None, name: str, data: str | None = None) -> Path | None:
    """The csv of a gallery entry. Raises UserError where `reference` names one that is not there.

    reference: the entry's name; None: choose by the two others
    name: <algo>_<env> of a run; its entry is chosen, or None where the gallery has no such entry
    data: what the run learns from (`data_of`); a variant <name>-... that learned from the same is preferred to an
        entry that did not
    """
    if reference is not None:
        return _named(reference)
    known = entries()
    if name not in known:
        return None
    variants = [entry for stem, entry in known.items() if stem.startswith(f"{name}-")]
    for entry in [known[name], *variants]:
        if data_of(card(entry).get("config", {})) == data:
            return entry
    return known[name]


def entries() -> dict[str, Path]:
    """The csv of every entry by its name, in alphabetical order. Of two of one name the user's own is meant; one
    without a card that can be read is left out, and stderr says so."""
    found = {}
    for gallery in reversed(paths.galleries()):
        for file in gallery.glob("*.csv"):
            try:
                card(file)
            except UserError as error:
                _say(f"warning: the gallery's entry {file.stem} is left out: {error}")
                continue
            found[file.stem] = file
    return dict(sorted(found.items()))


@functools.cache
def _say(text: str) -> None:
    """Once for each text."""
    print(text, file=sys.stderr)


def _named(reference: str) -> Path:
    """The csv of the entry with this very name. Raises UserError."""
    known = entries()
    if reference in known:
        return known[reference]
    close = nearest(reference, known)
    if close is not None:
        hint = did_you_mean(close)
    elif known:
        hint = f"; there are {', '.join(known)}"
    else:
        hint = "; the gallery is empty"
    raise UserError(f"reference={reference}: no such gallery entry{hint}")


def card(entry: Path) -> dict[str, Any]:
    """What is known of the run behind an entry's csv: command, commit, versions, config, seeds, … Raises UserError
    where there is no card, or a broken one."""
    file = entry.with_suffix(".json")
    if not file.is_file():
        raise UserError(f"it has no card ({file})")
    found = read_object(file)
    if not isinstance(found.get("seeds"), dict) or not isinstance(found.setdefault("config", {}), dict):
        raise UserError(f"{file}: is no card of a curve")
    for seed, facts in found["seeds"].items():
        if not isinstance(facts, dict) or not isinstance(facts.get("status"), str):
            raise UserError(f"{file}: is no card of a curve (seed {seed})")
    return found


def _is_cell(name: Any, value: Any) -> bool:
    """Whether a cell of curve.csv holds what it should: a number, or nothing where it is not the step."""
    if name == "seed" or value == "":
        return name != "step"
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
