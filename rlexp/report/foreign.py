"""Curves that are not ours, from the files that people have of them:

    evaluations.npz, progress.csv, monitor.csv   of Stable-Baselines3
    event files of TensorBoard                   of CleanRL, Stable-Baselines3, anybody
    csv                                          with a column of steps, one of values, and perhaps one of seeds; or
                                                 W&B's export of a chart, with a column for each run

Or a folder that holds these, one folder below it for each seed. What is read is said with it: `Curves.kind`, `step` and
`value`. Nothing in a file is executed.
"""

import itertools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlexp.loggers.tensorboard import FILES
from rlexp.report import foreign_sources as sources
from rlexp.report.foreign_columns import ENV_STEPS, VALUES, Columns, find, given, is_evaluation, listed, plain
from rlexp.report.foreign_sources import Source
from rlexp.report.foreign_table import Points
from rlexp.report.lines import Line
from rlexp.util.errors import UserError, did_you_mean, nearest, said_of

ENTRIES = 100_000  # files below a folder, before it is taken for one that was not meant
TABLES = (".csv", ".tsv", ".txt")


@dataclass(frozen=True)
class Curves:
    """What was found, and which column or tag it was found in."""

    kind: str  # csv, progress.csv, monitor.csv, evaluations.npz, TensorBoard, W&B export
    step: str  # the column of steps
    value: str  # the column or tag of values
    lines: dict[str, Line]  # by seed: steps, ascending, each once, and values; finite
    clock: str | None  # env_steps where that is what steps certainly are
    evaluation: bool | None  # evaluations; False: episodes played to train; None: cannot be told
    env: str | None  # Gymnasium's id, where the files say it
    left_out: int  # points that were not finite


def read(
    *places: Path | str,
    step: str | None = None,
    value: str | None = None,
    seed: str | None = None,
) -> Curves:
    """The curves in files and folders, which are seeds of one experiment.

    step, value, seed: the names of columns; value also of a tag. Where they are not given they are told by the names
    that are usual. Raises UserError where they cannot be, and for what is no curve.
    """
    asked = Columns(step, value, seed)
    found: list[tuple[Source, str]] = []
    for place in places:
        found += _of_place(Path(place).expanduser(), asked)
    columns = {name for _, name in found}
    if len(columns) > 1:
        raise UserError(f"which one is the value? Say value=NAME; the files have {listed(sorted(columns))}")
    first, name = found[0]
    lines, left_out = _lines(found)
    if not lines:
        where = ", ".join(str(place) for place in places)
        raise UserError(f"{where}: '{name}' has no finite value")
    evaluation = is_evaluation(name) if first.evaluation is None else first.evaluation
    clock = "env_steps" if _counts_env_steps(first, name) else None
    env = next((source.env for source, _ in found if source.env), None)
    return Curves(first.kind, first.step, name, lines, clock, evaluation, env, left_out)


def is_foreign(place: Path) -> bool:
    """Whether `place` looks like what is read here, and not like a run's folder."""
    if place.is_dir():
        own = (place / "run.json").is_file() or (place / "study.yaml").is_file()
        return not own and any(files for files, _ in _kinds(place))
    return place.is_file() and _reader(place) is not None


def _counts_env_steps(source: Source, name: str) -> bool:
    """Stable-Baselines3's and CleanRL's tags are logged by environment steps; of another's nothing is known."""
    if source.kind in ("monitor.csv", "evaluations.npz") or plain(source.step) in ENV_STEPS:
        return True
    usual = ("rollout/ep_rew_mean", "eval/mean_reward", "charts/episodic_return")
    return source.kind == "TensorBoard" and plain(name) in usual


def _of_place(place: Path, asked: Columns) -> list[tuple[Source, str]]:
    """The sources of one file or folder, and the name of the metric in each."""
    if place.is_dir():
        return _of_folder(place, asked)
    if not place.is_file():
        there = [entry.name for entry in place.parent.glob("*")]
        raise UserError(f"{place}: no such file or folder{did_you_mean(nearest(place.name, there))}")
    reader = _reader(place)
    if reader is None:
        known = ", ".join((*TABLES, "evaluations.npz", "events.out.tfevents.*"))
        raise UserError(f"{place}: is no file of curves; known are {known}")
    source = reader(place, asked)
    return [(source, _metric(place, [source], asked))]


def _reader(file: Path) -> Callable[[Path, Columns], Source] | None:
    """What reads a file of this name."""
    if "tfevents" in file.name:
        return lambda file, _: sources.tensorboard(file.parent, [file])
    if file.suffix.lower() == ".npz":
        return lambda file, _: sources.evaluations(file)
    if file.suffix.lower() in TABLES:
        return sources.table
    return None


def _of_folder(place: Path, asked: Columns) -> list[tuple[Source, str]]:
    """Of the kinds of files in a folder the first that can be read and has what was asked for."""
    errors = []
    for files, read_them in _kinds(place):
        if not files:
            continue
        try:
            found = read_them(files, asked)
            name = _metric(place, found, asked)
        except UserError as error:
            errors.append(error)
            continue
        return [(source, name) for source in found if name in source.metrics]
    if errors:
        raise errors[0]
    raise UserError(f"{place}: holds no curves; looked for evaluations.npz, event files of TensorBoard, and csv")


Kind = tuple[list[Path], Callable[[list[Path], Columns], list[Source]]]


def _kinds(place: Path) -> list[Kind]:
    """The files of each kind that lie in or below a folder, the best kind first."""
    files = _below(place)
    named: dict[str, list[Path]] = {
        "evaluations.npz": [],
        "progress.csv": [],
        "events": [],
        "monitor.csv": [],
        "csv": [],
    }
    for file in files:
        if file.name in ("evaluations.npz", "progress.csv", "monitor.csv"):
            named[file.name].append(file)
        elif file.match(FILES):
            named["events"].append(file)
        elif file.name.endswith(".monitor.csv"):
            named["monitor.csv"].append(file)
        elif file.suffix == ".csv":
            named["csv"].append(file)
    readers = {
        "evaluations.npz": lambda files, _: [sources.evaluations(file) for file in files],
        "progress.csv": lambda files, asked: [sources.table(file, asked) for file in files],
        "events": _event_folders,
        "monitor.csv": lambda files, _: [sources.monitor(mine) for mine in _by_folder(files).values()],
        "csv": lambda files, asked: [sources.table(file, asked) for file in files],
    }
    return [(found, readers[kind]) for kind, found in named.items()]


def _below(place: Path) -> list[Path]:
    """All files in and below a folder, in the order of their names."""
    found: list[Path] = []
    for folder, _, names in os.walk(place):
        found += [Path(folder) / name for name in names]
        if len(found) > ENTRIES:
            raise UserError(f"{place}: holds more than {ENTRIES:,} files; name the folder of an experiment")
    return sorted(found)


def _by_folder(files: list[Path]) -> dict[Path, list[Path]]:
    found: dict[Path, list[Path]] = {}
    for file in files:
        found.setdefault(file.parent, []).append(file)
    return found


def _event_folders(files: list[Path], _: Columns) -> list[Source]:
    found = [sources.tensorboard(folder, mine) for folder, mine in _by_folder(files).items()]
    return [source for source in found if source.metrics] or found


def _metric(place: Path, found: Sequence[Source], asked: Columns) -> str:
    """What the value is called in these sources: as asked for, else by its usual name, else the only one there is."""
    choices = list(dict.fromkeys(name for source in found for name in source.metrics))
    if asked.value is not None:
        with said_of(str(place)):
            return given("value", asked.value.rpartition(" - ")[2], choices)
    if not choices:
        raise UserError(f"{place}: holds no column or tag of numbers besides steps and times")
    usual = find(choices, VALUES)
    if usual is None and len(choices) > 1:
        raise UserError(f"{place}: which one is the value? Say value=NAME; there are {listed(choices)}")
    return usual or choices[0]


def _lines(found: list[tuple[Source, str]]) -> tuple[dict[str, Line], int]:
    """The lines by seed, and how many points were not finite."""
    named: list[tuple[str, Points]] = []
    for source, name in found:
        for seed, points in source.points(name).items():
            named.append((_joined_name(source, seed, alone=len(found) == 1), points))
    labels = _labels([name for name, _ in named])
    lines = {}
    left_out = 0
    for label, (_, points) in zip(labels, named, strict=True):
        line, without = _tidy(points)
        left_out += without
        if len(line[0]):
            lines[label] = line
    return lines, left_out


def _joined_name(source: Source, seed: str, *, alone: bool) -> str:
    place = source.place.absolute().as_posix()
    if not seed:
        return place
    return seed if alone else f"{place}/{seed}"


def _labels(names: list[str]) -> list[str]:
    """What lines are called: the seeds' numbers where each name has one, else what tells the names apart."""
    numbers = [_seed_in(name) for name in names]
    if None not in numbers and len(set(numbers)) == len(numbers):
        return [str(number) for number in numbers]
    parts = [name.split("/") for name in names]
    if len(parts) == 1:
        return [parts[0][-1]]
    common = _in_common(parts)
    ends = _in_common([part[::-1] for part in parts])
    return ["/".join(part[common : len(part) - ends]) or part[-1] for part in parts]


def _in_common(lists: list[list[str]]) -> int:
    """How many first words all lists share."""
    columns = zip(*lists, strict=False)  # as long as the shortest
    return len(list(itertools.takewhile(lambda words: len(set(words)) == 1, columns)))


def _seed_in(name: str) -> str | None:
    """The number in seed_3, or in CartPole-v1__ppo__3__1700000000 as CleanRL names its runs, or in a plain number."""
    last = re.findall(r"(?<![a-z])seed[ _=-]?(\d+)|__(\d+)__\d{9,}|^(\d+)$", name, re.IGNORECASE)
    return "".join(last[-1]) if last else None


def _tidy(points: Points) -> tuple[Line, int]:
    """Points in ascending order, of equal steps their mean; and how many were left out because they are not finite."""
    step_N, value_N = points
    finite_N = np.isfinite(step_N) & np.isfinite(value_N)
    x, where_N = np.unique(step_N[finite_N], return_inverse=True)
    y = np.bincount(where_N, value_N[finite_N]) / np.bincount(where_N)
    return (x, y), int((~finite_N).sum())
