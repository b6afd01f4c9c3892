"""One file, or folder of event files, of other people's curves: which columns or tags it has, and their points.

Nothing in such a file is executed, and none is believed about how much room it needs.
"""

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.loggers.tensorboard import events
from rlexp.report.foreign_columns import Columns
from rlexp.report.foreign_table import MOST, Points, Table
from rlexp.report.lines import Line
from rlexp.util.errors import UserError


@dataclass(frozen=True)
class Source:
    """What one file, or one folder of event files, has."""

    place: Path  # a run's folder, or a file without its suffix
    kind: str
    step: str  # what the steps are called
    metrics: list[str]  # what could be the value, in the file's order
    points: Callable[[str], Mapping[str, Points]]  # of a metric, by seed; "": the source is one seed
    env: str | None = None  # Gymnasium's id
    evaluation: bool | None = None  # whether its values are evaluations; None: the metric's name says


def table(file: Path, asked: Columns) -> Source:
    """A csv file with a step column, and perhaps one of seeds; or one of W&B, with a column for each run."""
    read = Table.read(file)
    kind = "csv"
    place = file.with_suffix("")
    if file.name == "progress.csv":
        kind = "progress.csv"
        place = file.parent
    if read.is_monitor and asked.step is None:
        _require_alone(file)
        return monitor([file])
    step = read.step(asked.step, asked.seed)
    if read.wide and asked.seed is None:
        return Source(place, "W&B export", step, read.wide, lambda name: read.runs(step, name))
    seed = read.seed(asked.seed)
    metrics = read.metrics([step, seed])
    return Source(place, kind, step, metrics, lambda name: read.seeds(step, name, seed))


def monitor(files: list[Path]) -> Source:
    """Stable-Baselines3's Monitor: an episode a row. Files of one folder are environments of one run, side by side."""
    tables = [Table.read(file) for file in files]
    env = None
    starts = []
    for file, read in zip(files, tables, strict=True):
        if read.is_monitor and (read.numbers("l") < 0).any():
            raise UserError(f"{file}: an episode's length, in column l, is negative")
        if not read.is_monitor:
            raise UserError(f"{file}: is no monitor.csv, whose columns are r, l, t; it has {', '.join(read.names[:8])}")
        header = _header(read.comment)
        env = header.get("env_id") if isinstance(header.get("env_id"), str) else env
        start = header.get("t_start")
        starts.append(float(start) if isinstance(start, int | float) else 0.0)
    metrics = [name for name in tables[0].names if name not in ("l", "t")]

    def points(name: str) -> Mapping[str, Points]:
        parts = []
        for read, start in zip(tables, starts, strict=True):
            end_N = start + read.numbers("t")
            parts.append(np.stack([end_N, read.numbers("l"), read.numbers(name)], 1))
        rows_N3 = np.concatenate(parts)
        if len(tables) > 1:
            rows_N3 = rows_N3[np.argsort(rows_N3[:, 0], kind="stable")]
        whole_N3 = rows_N3[np.isfinite(rows_N3[:, 1])]  # the last row may be cut short
        return {"": (np.cumsum(whole_N3[:, 1]), whole_N3[:, 2])}

    return Source(_monitored(files[0]), "monitor.csv", "l, summed up", metrics, points, env, evaluation=False)


def _require_alone(file: Path) -> None:
    """Raises UserError for one of several environments side by side: it does not count the others' steps."""
    if re.fullmatch(r"\d+\.monitor\.csv", file.name):
        several = len([other for other in file.parent.glob("*.monitor.csv") if other.name.split(".")[0].isdigit()])
        if several > 1:
            raise UserError(
                f"{file}: is of one of {several} environments side by side, and counts none of the others' steps; "
                f"name the folder instead: {file.parent}"
            )


def _header(comment: str) -> dict[str, Any]:
    """The JSON object in a monitor file's first line; empty where it is none."""
    try:
        found = json.loads(comment)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _monitored(file: Path) -> Path:
    """What the run is called that a monitor file is of: its name before .monitor, or its folder's."""
    name = file.name.removesuffix("monitor.csv").rstrip(".")
    if name and not name.isdigit():
        return file.parent / name
    return file.parent


def evaluations(file: Path) -> Source:
    """evaluations.npz of Stable-Baselines3's EvalCallback: returns (evaluations, episodes), whose means are taken."""
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(member.file_size for member in archive.infolist()) > MOST:
                raise UserError(f"{file}: is larger than {MOST // 10**6} MB")
        with np.load(file, allow_pickle=False) as arrays:
            step_N = arrays["timesteps"].astype(float)
            return_NE = arrays["results"].astype(float)
        if step_N.ndim != 1 or return_NE.ndim != 2 or len(step_N) != len(return_NE) or not return_NE.size:
            raise ValueError(f"timesteps are {step_N.shape}, results {return_NE.shape}")
    except UserError:
        raise
    except Exception as error:  # whatever numpy makes of broken bytes
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"{file}: is no evaluations.npz with timesteps and results ({reason})") from None
    line = (step_N, return_NE.mean(1))
    return Source(file.parent, "evaluations.npz", "timesteps", ["results"], lambda _: {"": line}, evaluation=True)


def tensorboard(place: Path, files: list[Path]) -> Source:
    """The scalars in event files of one folder, in the order of their names, which is that of their making."""
    found: dict[str, list[list[tuple[float, float]]]] = {}  # tag: of each file that has it, its points
    for file in files:
        if file.stat().st_size > MOST:
            raise UserError(f"{file}: is larger than {MOST // 10**6} MB")
        for tag, points in _scalars(file).items():
            found.setdefault(tag, []).append(points)
    cleanrl = re.fullmatch(r"(.+?)__.+__\d+__\d{9,}", place.name)
    env = cleanrl[1] if cleanrl else None
    return Source(place, "TensorBoard", "step", list(found), lambda tag: {"": _joined(found[tag])}, env)


def _scalars(file: Path) -> dict[str, list[tuple[float, float]]]:
    """(step, value) of each tag of numbers in one event file."""
    found: dict[str, list[tuple[float, float]]] = {}
    for event in events(file):
        for value in event.summary.value:
            number = _number(value)
            if number is not None:
                found.setdefault(value.tag, []).append((float(event.step), number))
    return found


TENSORS = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  # DataType of a TensorProto: bytes of its content


def _number(value: Any) -> float | None:
    """A summary's number, as PyTorch writes it, or as TensorFlow 2 does; None: it is none."""
    which = value.WhichOneof("value")
    if which == "simple_value":
        return float(value.simple_value)
    if which != "tensor" or value.tensor.tensor_shape.dim:
        return None
    tensor = value.tensor
    for numbers in (tensor.float_val, tensor.double_val, tensor.int_val, tensor.int64_val):
        if len(numbers) == 1:
            return float(numbers[0])
    dtype = np.dtype(TENSORS.get(tensor.dtype, "V0"))
    if dtype.itemsize and len(tensor.tensor_content) == dtype.itemsize:
        return float(np.frombuffer(tensor.tensor_content, dtype)[0])
    return None


def _joined(parts: list[list[tuple[float, float]]]) -> Line:
    """Points of several files of one folder: one that begins before the last ended is a run resumed from there."""
    kept: list[tuple[float, float]] = []
    for points in parts:
        begin = min(step for step, _ in points)
        kept = [point for point in kept if point[0] < begin] + points
    points_N2 = np.array(kept)
    return points_N2[:, 0], points_N2[:, 1]
