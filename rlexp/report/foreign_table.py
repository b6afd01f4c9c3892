"""A text table of somebody's curves: comma, tab or semicolon between cells, the first line with names."""

import csv
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlexp.report.foreign_columns import CLOCKS, SEEDS, STEPS, VALUES, find, find_all, given, listed, plain
from rlexp.util.errors import UserError, said_of

MOST = 10**9  # bytes of an event file, or of an archive's arrays
MOST_TEXT = 2 * 10**8  # bytes of a text table: a hundred times as much is taken to hold its cells
GROUPS = 50  # values of a column of words that tells curves apart

Points = tuple[np.ndarray, np.ndarray]  # steps, values: as they came, whether finite or not


@dataclass(frozen=True)
class Table:
    """The cells of a file. Raises UserError, which names file and line, for what is wrong in it."""

    file: Path
    names: list[str]
    rows: list[list[str]]
    first: int  # number of the line that rows[0] stands in
    comment: str  # the first line, where it begins with #; without that

    @classmethod
    def read(cls, file: Path) -> "Table":
        text = _text(file)
        comment = ""
        skipped = 0
        while text.startswith("#"):
            line, _, text = text.partition("\n")
            comment = comment or line[1:].strip()
            skipped += 1
        head = text.partition("\n")[0]
        delimiter = max(",\t;", key=head.count)
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        except csv.Error as error:
            raise UserError(f"{file}: cannot be read as a table ({error})") from None
        if not any(rows):
            raise UserError(f"{file}: is empty")
        names = [name.strip() for name in rows[0]]
        if all(_is_number(name) for name in names):
            raise UserError(f"{file}: its first line is numbers ({listed(names)}), where the columns' names should be")
        table = cls(file, names, rows[1:], skipped + 2, comment)
        table._check_widths(cut=not text.endswith("\n"))
        return table

    def _check_widths(self, *, cut: bool) -> None:
        """`cut`: the file does not end with a line's end. A last row is left out then, where cells are missing."""
        if cut and self.rows and len(self.rows[-1]) < len(self.names):
            self.rows.pop()
        for number, row in enumerate(self.rows, self.first):
            if any(cell.strip() for cell in row[len(self.names) :]):
                raise UserError(f"{self.file}: line {number} has {len(row)} cells, its first line {len(self.names)}")
        if not any(self.rows):
            raise UserError(f"{self.file}: has names of columns, and no rows")

    @property
    def is_monitor(self) -> bool:
        """Whether it is a file of Stable-Baselines3's Monitor: reward, length and time of each episode."""
        return self.names[:3] == ["r", "l", "t"]

    @property
    def wide(self) -> list[str]:
        """What is measured where each run has a column `run - metric`, as W&B exports a chart; else empty."""
        found: dict[str, None] = {}
        for name in self.names:
            if " - " in name:
                metric = name.rpartition(" - ")[2]
                if plain(metric) not in (*STEPS, *CLOCKS) and not metric.endswith(("__MIN", "__MAX")):
                    found[metric] = None
        return list(found)

    def step(self, name: str | None, seed: str | None = None) -> str:
        """The column of steps: of the usual names the first that goes on, as learning from data leaves the count of
        environment steps where it was. name, seed: the columns of steps and of seeds that the user named."""
        choices = [choice for choice in self.names if choice]
        if name is not None:
            with said_of(str(self.file)):
                return given("step", name, choices)
        usual = find_all(choices, STEPS)
        if not usual:
            raise UserError(f"{self.file}: which column is the step? Say step=NAME; it has {listed(choices)}")
        seeds = self.seed(seed)
        seed_of_row = [""] * len(self.rows) if seeds is None else self.cells(seeds)
        going = [choice for choice in usual if not self._stands(choice, seed_of_row)]
        return (going or usual)[0]

    def _stands(self, name: str, seed_of_row: list[str]) -> bool:
        """Whether its numbers repeat, and a seed has at most two different ones on average."""
        filled = [(seed, cell) for seed, cell in zip(seed_of_row, self.cells(name), strict=True) if cell.strip()]
        different = len(set(filled))
        return different < len(filled) and different <= 2 * len(set(seed_of_row))

    def seed(self, name: str | None) -> str | None:
        """The column of seeds; None where there is none."""
        if name is not None:
            with said_of(str(self.file)):
                return given("seed", name, self.names)
        return find(self.names, SEEDS)

    def metrics(self, taken: list[str | None]) -> list[str]:
        """Other columns than those `taken` and the usual ones of time, where the first cell is a number; where there is
        none such, those that are called as values are: reading them says in which line they are no numbers."""
        others = [name for name in self.names if name not in taken and plain(name) not in (*STEPS, *CLOCKS)]
        numeric = [name for name in others if self._has_numbers(name)]
        return numeric or [name for name in others if plain(name) in VALUES]

    def _has_numbers(self, name: str) -> bool:
        place = self.names.index(name)
        cells = (row[place] for row in self.rows if place < len(row) and row[place].strip())
        return _is_number(next(cells, "none"))

    def cells(self, name: str) -> list[str]:
        """A column; where a row is short, as if its cell were empty."""
        if self.names.count(name) > 1:
            raise UserError(f"{self.file}: has {self.names.count(name)} columns '{name}'")
        place = self.names.index(name)
        return [row[place] if place < len(row) else "" for row in self.rows]

    def numbers(self, name: str) -> np.ndarray:
        """A column as numbers, NaN where a cell is empty."""
        found = np.full(len(self.rows), np.nan)
        for i, cell in enumerate(self.cells(name)):
            if cell.strip():
                try:
                    found[i] = float(cell)
                except ValueError:
                    what = f"'{name}' is {cell[:40]!r}, which is no number"
                    raise UserError(f"{self.file}: line {self.first + i}: {what}") from None
        return found

    def runs(self, step: str, metric: str) -> dict[str, Points]:
        """The points of each run that has a column `run - metric`."""
        step_N = self.numbers(step)
        found = {}
        for name in self.names:
            run, between, what = name.rpartition(" - ")
            if between and what == metric:
                found[run] = self._filled(step_N, self.numbers(name))
        return found

    def seeds(self, step: str, value: str, seed: str | None) -> dict[str, Points]:
        """The points of each seed; of "" where no column tells seeds apart."""
        step_N = self.numbers(step)
        value_N = self.numbers(value)
        there = np.flatnonzero(~(np.isnan(step_N) | np.isnan(value_N)))
        names = [""] * len(self.rows)
        if seed is None:
            self._check_one_run(step_N, there, step)
        else:
            names = [_seed_name(cell) for cell in self.cells(seed)]
        self._check_one_group([(names[i], step_N[i]) for i in there], there, [step, value, seed])
        places: dict[str, list[int]] = {}
        for i in there:
            places.setdefault(names[i], []).append(int(i))
        return {name: (step_N[mine], value_N[mine]) for name, mine in places.items()}

    def _filled(self, step_N: np.ndarray, value_N: np.ndarray) -> Points:
        """Without rows where a cell is empty (or NaN): a logger that writes a row for each thing leaves many."""
        there_N = ~(np.isnan(step_N) | np.isnan(value_N))
        return step_N[there_N], value_N[there_N]

    def _check_one_run(self, step_N: np.ndarray, there: np.ndarray, step: str) -> None:
        """`there`: the rows that have a step and a value."""
        falls = np.flatnonzero(np.diff(step_N[there]) < 0)
        if len(falls):
            line = self.first + there[falls[0] + 1]
            what = f"'{step}' falls in line {line}; where it holds several runs, say which column tells them apart"
            raise UserError(f"{self.file}: {what}: seed=NAME")

    def _check_one_group(
        self,
        points: list[tuple[str, float]],
        there: np.ndarray,
        taken: list[str | None],
    ) -> None:
        """Curves of several algorithms in one file must not become one: (seed, step) is there twice, words beside it.

        `there`: the rows of the points
        """
        if len(set(points)) == len(points):
            return
        for name in self.names:
            if name in taken or self.names.count(name) > 1 or self._has_numbers(name):
                continue
            cells = self.cells(name)
            words = {cells[i].strip() for i in there} - {""}
            if 1 < len(words) <= GROUPS:
                what = f"has curves of several kinds, by '{name}' ({listed(sorted(words))})"
                raise UserError(f"{self.file}: {what}; keep the rows of one")


def _text(file: Path) -> str:
    if file.stat().st_size > MOST_TEXT:
        raise UserError(f"{file}: is larger than {MOST_TEXT // 10**6} MB")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is no text in UTF-8 (byte {error.start})") from None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _seed_name(cell: str) -> str:
    """A seed as it is called: 0 for 0.0, too."""
    name = cell.strip()
    if re.fullmatch(r"\d{1,15}\.0*", name) and math.isfinite(float(name)):
        return str(int(float(name)))
    return name
