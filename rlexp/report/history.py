"""What the seeds of a run have written so far: its config, its record, and every metric as lines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.loggers.base import Row
from rlexp.loggers.jsonl import read
from rlexp.report.lines import Line
from rlexp.report.records import arm_names, read_config, read_record, read_study
from rlexp.util.errors import UserError


@dataclass
class Run:
    """What a run folder says, as far as it can be read yet."""

    config: dict[str, Any]
    record: dict[str, Any]
    rows: dict[str, list[Row]] = field(default_factory=dict)  # by seed

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """The run in `folder`. Raises UserError where its config or record cannot be read."""
        config = read_config(folder)
        record = read_record(folder)
        if "clock" not in record:
            raise UserError(f"{folder / 'run.json'}: is no run's record (it has no clock)")
        rows = {seed: read(folder / f"seed_{seed}" / "metrics.jsonl") for seed in record["seeds"]}
        return cls(config, record, rows)

    @property
    def clock(self) -> str:
        """What a step of the algorithm is: env_steps or updates."""
        return self.record["clock"]

    @property
    def about(self) -> dict[str, Any]:
        """What a gallery's card says of a run: its record, and its config."""
        return {**self.record, "config": self.config}

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


def folders(place: Path) -> dict[str, Path]:
    """The run folders that `place` stands for, by what they are called in pictures; a study's arms, or itself.

    An arm is called what the study's `names` say, else as its folder. Raises UserError for what is no run or study.
    """
    if (place / "study.yaml").is_file():
        names = arm_names(read_study(place))
        return {names[arm]: place / arm for arm in names}
    if (place / "run.json").is_file():
        return {place.name: place}
    raise UserError(f"{place}: no run or study folder")
