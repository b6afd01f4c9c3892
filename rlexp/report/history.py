"""What the seeds of a run have written so far: its config, its record, and every metric as lines."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from rlexp.loggers.base import Row
from rlexp.loggers.jsonl import read
from rlexp.report.lines import Line
from rlexp.util.errors import UserError, did_you_mean, nearest


@dataclass
class Run:
    """What a run folder says, as far as it can be read yet."""

    config: dict[str, Any]
    record: dict[str, Any]
    rows: dict[str, list[Row]] = field(default_factory=dict)  # by seed

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """The run in `folder`. Raises UserError where its config or record cannot be read."""
        try:
            config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
            record = json.loads((folder / "run.json").read_text())
            if not config["seeds"]:
                raise ValueError("no seeds in config.yaml")
            seeds = list(record["seeds"])
        except Exception as error:  # of a yaml or json parser, or of what is no run's
            what = "its config.yaml or run.json cannot be read"
            raise UserError(f"{folder}: {what} ({_in_one_line(error)})") from None
        rows = {seed: read(folder / f"seed_{seed}" / "metrics.jsonl") for seed in seeds}
        return cls(config, record, rows)

    @property
    def clock(self) -> str:
        """What a step of the algorithm is: env_steps or updates."""
        return self.record["clock"]

    def status(self, seed: str) -> str:
        """waiting, running, done, failed or interrupted."""
        return self.record["seeds"][seed]["status"]

    def metrics(self, prefix: str) -> list[str]:
        """Sorted names, beginning with `prefix`, that any row of any seed has."""
        found = {name for rows in self.rows.values() for row in rows for name in row}
        return sorted(name for name in found if name.startswith(prefix))

    def lines(self, metric: str, x: str = "step") -> dict[str, Line]:
        """`metric` over `x` of each seed that has any of it, NaN and infinite values left out."""
        found = {}
        for seed, rows in self.rows.items():
            pairs = [(row[x], row[metric]) for row in rows if metric in row and x in row]
            points_N2 = np.array(pairs, float).reshape(-1, 2)
            finite_N2 = points_N2[np.isfinite(points_N2).all(axis=1)]
            if len(finite_N2) > 0:
                found[seed] = (finite_N2[:, 0], finite_N2[:, 1])
        return found

    def averaged(self, lines: Mapping[str, Line]) -> list[Line]:
        """The lines a mean is taken of: of seeds that are done or, before two are, of all that have not failed.

        Others would cut it to the steps that they have reached; they are drawn, and counted in the title.
        """
        done = [line for seed, line in lines.items() if self.status(seed) == "done"]
        if len(done) > 1:
            return done
        return [line for seed, line in lines.items() if self.status(seed) != "failed"]


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
    """The run folders that `place` stands for, by what they are called in pictures; a study's arms, or itself.

    An arm is called what the study's `names` say, else as its folder. Raises UserError for what is no run or study.
    """
    file = place / "study.yaml"
    if file.is_file():
        try:
            study: Any = OmegaConf.to_container(OmegaConf.load(file))
            names = arm_names(study)
            return {names[arm]: place / arm for arm in names}
        except Exception as error:  # of a yaml parser, or of what is no study's
            raise UserError(f"{file}: cannot be read ({_in_one_line(error)})") from None
    if (place / "run.json").is_file():
        return {place.name: place}
    raise UserError(f"{place}: no run or study folder")


def arm_names(study: dict[str, Any]) -> dict[str, str]:
    """What each arm of a study's yaml is called in pictures. Raises UserError where `names` do not fit the arms."""
    arms = [str(arm) for arm in study["arms"]]
    given = study.get("names") or {}
    if not isinstance(given, dict):
        raise UserError("names: is no mapping of arms to what they are called")
    for arm in given:
        if arm not in arms:
            raise UserError(f"names.{arm}: there is no such arm{did_you_mean(nearest(str(arm), arms))}")
    names = {arm: str(given.get(arm, arm)) for arm in arms}
    if len(set(names.values())) < len(names):
        raise UserError("names: two arms are called the same")
    return names


def _in_one_line(error: Exception) -> str:
    """The beginning of an error's message, which may have many lines."""
    return " ".join(str(error).split())[:200]
