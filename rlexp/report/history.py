"""What the seeds of a run have written so far, as lines: read, averaged over seeds, thinned for drawing."""

import json
import math
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from rlexp.loggers.base import Row
from rlexp.loggers.jsonl import read
from rlexp.util import stats
from rlexp.util.errors import UserError

if typing.TYPE_CHECKING:
    pass


Line = tuple[np.ndarray, np.ndarray]  # x ascending, y


POINTS = 600  # of one line: more cannot be seen


STRETCHES = 60  # that a noisy metric is averaged in before its mean over seeds is drawn


@dataclass
class Run:
    """What a run folder says, as far as it can be read yet."""

    config: dict[str, Any]
    record: dict[str, Any]
    rows: dict[str, list[Row]] = field(default_factory=dict)  # by seed

    @classmethod
    def read(cls, folder: Path) -> "Run":
        try:
            config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
            record = json.loads((folder / "run.json").read_text())
            seeds = list(config["seeds"] and record["seeds"])
        except UserError:
            raise
        except Exception as error:  # of a yaml or json parser, or of what is no run's
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{folder}: its config.yaml or run.json cannot be read ({reason})") from None
        return cls(config, record, {k: read(folder / f"seed_{k}" / "metrics.jsonl") for k in seeds})

    @property
    def clock(self) -> str:
        return self.record["clock"]

    def lines(self, metric: str, x: str = "step") -> dict[str, Line]:
        """`metric` of each seed that has any of it, over `x`, NaN and infinite values left out."""
        found = {}
        for seed, rows in self.rows.items():
            both = [(row[x], row[metric]) for row in rows if metric in row and x in row]
            pairs = np.array(both, float).reshape(-1, 2)
            if (pairs := pairs[np.isfinite(pairs).all(axis=1)]).size:
                found[seed] = (pairs[:, 0], pairs[:, 1])
        return found

    def status(self, seed: str) -> str:
        return self.record["seeds"][seed]["status"]

    def averaged(self, lines: Mapping[str, Line]) -> list[Line]:
        """The lines a mean is taken of: of seeds that are done or, before two are, of all that have not failed.

        Others would cut it to the steps that they have reached; they are drawn, and counted in the title.
        """
        done = [line for seed, line in lines.items() if self.status(seed) == "done"]
        return done if len(done) > 1 else [line for seed, line in lines.items() if self.status(seed) != "failed"]

    def metrics(self, prefix: str) -> list[str]:
        return sorted({name for rows in self.rows.values() for row in rows for name in row if name.startswith(prefix)})


def read_record(run: Path) -> dict[str, Any]:
    """What run.json in the folder `run` says. Raises UserError where it is broken."""
    file = run / "run.json"
    try:
        record = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file}: cannot be read as JSON ({error})") from None
    if not isinstance(record, dict) or not isinstance(record.setdefault("seeds", {}), dict):
        raise UserError(f"{file}: is no run's record")
    return record


def folders(place: Path) -> dict[str, Path]:
    """The run folders by name that `place` stands for: a study's arms, or itself. UserError for anything else."""
    if (place / "study.yaml").is_file():
        try:
            study: Any = OmegaConf.load(place / "study.yaml")
            return {str(arm): place / str(arm) for arm in study["arms"]}
        except Exception as error:  # of a yaml parser, or of what is no study's
            raise UserError(f"{place / 'study.yaml'}: cannot be read ({' '.join(str(error).split())[:200]})") from None
    if (place / "run.json").is_file():
        return {place.name: place}
    raise UserError(f"{place}: no run or study folder")


def mean_band(lines: list[Line]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x, mean, half width of the t-interval) over the range that all of `lines` cover; may be empty."""
    start, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    x = np.unique(np.concatenate([x for x, _ in lines]))
    x = x[(x >= start) & (x <= end)]
    x = x[np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int))] if len(x) else x
    y = np.array([np.interp(x, *line) for line in lines])
    n = len(lines)
    if n < 2:
        return x, y[0], np.full(len(x), np.nan)
    return x, y.mean(axis=0), stats.t_quantile(0.95, n - 1) * y.std(axis=0, ddof=1) / math.sqrt(n)


def smoothed(line: Line) -> Line:
    """Means of at most STRETCHES stretches of neighbouring points."""
    if len(line[0]) <= STRETCHES:
        return line
    x, y = (np.array([part.mean() for part in np.array_split(values, STRETCHES)]) for values in line)
    return x, y


def thinned(line: Line) -> Line:
    """At most 2 · POINTS points: of each stretch the lowest and the highest, so that no spike is lost."""
    x, y = line
    if len(x) <= 2 * POINTS:
        return line
    edges = np.linspace(0, len(x), POINTS + 1).astype(int)
    extremes = [start + f(y[start:end]) for start, end in pairwise(edges) for f in (np.argmin, np.argmax)]
    keep = np.unique(extremes)
    return x[keep], y[keep]


def names(plain: dict[str, Any]) -> tuple[str, str]:
    """Short names of the algorithm and the environment of a resolved config, usable in file names."""
    return plain["algo"]["_target_"].split(".")[-2], re.sub(r"[^A-Za-z0-9.]+", "-", plain["env"]["name"])
