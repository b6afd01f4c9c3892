"""Reference curves that come with the project, gallery/<algo>_<env>[-<variant>].csv with a card each."""

import csv
import functools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.report.differences import DIGITS, GROUPS, LENGTH, MEANINGLESS, SETTING, Difference, differences
from rlexp.report.lines import Line
from rlexp.report.naming import names
from rlexp.report.records import KINDS, OF_A_SEED, check_config
from rlexp.util import paths
from rlexp.util.errors import UserError, among, did_you_mean, nearest, said_of
from rlexp.util.files import read_object, read_text

RETURN = "return_mean"  # the column that every entry has
ENOUGH = 3  # seeds: fewer say nothing of the spread
MACHINE = ("versions.", "hardware.")


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
        if not any(row.get("step") and row.get(RETURN) for row in rows):
            raise UserError(f"{file}: has no row with a step and a {RETURN}")
        for number, row in enumerate(rows, 2):
            if row.get("seed") not in facts["seeds"]:
                raise UserError(f"{file}: line {number}: is of no seed that its card has")
            if not all(_is_cell(name, value) for name, value in row.items()):
                raise UserError(f"{file}: line {number}: holds what is no number")
        return cls(file.stem, facts, rows)

    def metrics(self, seed: str) -> dict[str, float]:
        """The last number of each metric of a seed's training; of an entry from before they were kept, none."""
        return self.card.get("metrics", {}).get(seed, {})

    def lines(self, column: str, x: str) -> dict[str, Line]:
        """`column` over the column `x`, of each seed that is done; empty where the entry has no such column."""
        points: dict[str, list[tuple[float, float]]] = {}
        for row in self.rows:
            if row.get(column) and row.get(x) and self.card["seeds"][row["seed"]]["status"] == "done":
                points.setdefault(row["seed"], []).append((float(row[x]), float(row[column])))
        found = {}
        for seed, pairs in points.items():
            points_N2 = np.array(pairs)
            found[seed] = (points_N2[:, 0], points_N2[:, 1])
        return found


@dataclass(frozen=True)
class Choice:
    """The entry that is nearest to a run, and in what their settings differ."""

    file: Path  # its csv
    differences: list[Difference]

    @property
    def fits(self) -> bool:
        """Whether the entry is of the run's own settings and data, but for its length and last digits."""
        return all(one.kind in (LENGTH, DIGITS) for one in self.differences)


def reference_of(about: Mapping[str, Any]) -> Path | None:
    """The csv of the entry that a run is drawn over and judged by: the one that its config names, else the nearest.

    None where neither is there, or the settings are not known.
    about: what is known of the run, as in a card
    """
    config = about.get("config")
    if not config:
        return None
    if config.get("reference"):
        file = entries().get(config["reference"])  # it was there when the run began
        return file if file is not None and _is_whole(file) else None
    choice = choose(about)
    return None if choice is None else choice.file


def entry_of(about: Mapping[str, Any]) -> "Entry | None":
    """The entry itself of `reference_of`."""
    file = reference_of(about)
    return None if file is None else Entry.read(file)


def choose(about: Mapping[str, Any]) -> Choice | None:
    """The entry nearest to a run by its settings, among those of its algorithm and environment; None: there is none.

    about: what is known of the run, as in a card. Of entries that are equally near the one with more seeds is meant,
    then that of the shorter name. One that is broken is left out, and stderr says so.
    """

    def rank(choice: Choice) -> tuple[int | str, ...]:
        name = choice.file.stem
        return (*_distance(choice.differences, card(choice.file)), len(name), name)

    return next((choice for choice in sorted(choices(about), key=rank) if _is_whole(choice.file)), None)


def _is_whole(file: Path) -> bool:
    """Whether the entry whose csv is `file` can be read; stderr says why it cannot."""
    try:
        Entry.read(file)
    except UserError as error:
        _left_out(file, error)
        return False
    return True


def choices(about: Mapping[str, Any]) -> Iterator[Choice]:
    """Every entry of a run's algorithm and environment, and in what it differs from the run."""
    algorithm, environment = names(about["config"])
    for file in entries().values():
        theirs = card(file)
        if theirs.get("config") and _is_candidate(theirs["config"], about["config"], algorithm, environment):
            yield Choice(file, differences(about, theirs))


def _is_candidate(theirs: Any, ours: Any, algorithm: str, environment: str) -> bool:
    if not all(isinstance(theirs.get(group), dict) for group in ("algo", "env")):
        return False
    their_algorithm, their_environment = names(theirs)
    same_environment = their_environment == environment or theirs["env"].get("id") == ours["env"].get("id")
    return their_algorithm == algorithm and same_environment


def _distance(found: list[Difference], theirs: Mapping[str, Any]) -> tuple[int, ...]:
    """How far an entry is from a run: less is nearer."""
    kinds = Counter(one.kind for one in found)
    digits = sum(one.kind == DIGITS and not one.what.startswith(MACHINE) for one in found)
    seeds = sum(facts["status"] == "done" for facts in theirs["seeds"].values())
    is_thin = int(seeds < ENOUGH)
    return kinds[MEANINGLESS], kinds[SETTING], is_thin, kinds[LENGTH], digits, -seeds


def find(reference: str | None, name: str) -> Path | None:
    """The csv of a gallery entry. Raises UserError where `reference` names one that is not there.

    reference: the entry's name; None: the one called `name`, <algo>_<env>, or None where there is none
    """
    if reference is not None:
        return _named(reference)
    return entries().get(name)


def entries() -> dict[str, Path]:
    """The csv of every entry by its name, in alphabetical order. Of two of one name the user's own is meant; one
    without a card that can be read is left out, and stderr says so."""
    found = {}
    for gallery in reversed(paths.galleries()):
        for file in gallery.glob("*.csv"):
            try:
                card(file)
            except UserError as error:
                _left_out(file, error)
                continue
            found[file.stem] = file
    return dict(sorted(found.items()))


def _left_out(file: Path, error: UserError) -> None:
    _say(f"warning: the gallery's entry {file.stem} is left out: {error}")


@functools.cache
def _say(text: str) -> None:
    """Once for each text."""
    print(text, file=sys.stderr)


def _named(reference: str) -> Path:
    """The csv of the entry with this very name. Raises UserError."""
    known = entries()
    if reference in known:
        with said_of(f"reference={reference}"):
            Entry.read(known[reference])
        return known[reference]
    close = nearest(reference, known)
    if close is not None:
        hint = did_you_mean(close)
    elif known:
        hint = f"; there are {among(known)}"
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
    if "clock" not in found:
        raise UserError(f"{file}: is no card of a curve (it has no clock)")
    _check_kinds(file, "", found, KINDS)
    for seed, facts in found["seeds"].items():
        if not isinstance(facts, dict) or not isinstance(facts.get("status"), str):
            raise UserError(f"{file}: is no card of a curve (seed {seed})")
        _check_kinds(file, f"seed {seed}: ", facts, OF_A_SEED)
    if found["config"]:
        check_config(f"{file}: config", found["config"])
    for group in GROUPS:
        if not isinstance(found["config"].get(group), dict | None):
            raise UserError(f"{file}: config: {group}: is no group of options")
    return found


def _check_kinds(file: Path, where: str, facts: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Raise UserError where a card's `facts` hold something of another kind than is written; null says nothing."""
    for key, value in facts.items():
        if value is not None and not isinstance(value, kinds.get(key, object)):
            raise UserError(f"{file}: is no card of a curve ({where}{key} is a {type(value).__name__})")


def _is_cell(name: Any, value: Any) -> bool:
    """Whether a cell of curve.csv holds what it should: a number, or nothing where it is not the step."""
    if name == "seed" or value == "":
        return name != "step"
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
