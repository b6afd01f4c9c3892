"""The contract of a logger: it is told the rows of one seed of one run, and its films and pictures.

A logger is a class, and one yaml in a folder `logger/` of a conf package:

    csv: {_target_: my_package.csvlogger.CSV, delimiter: ";"}       # conf/logger/csv.yaml

`python main.py logger=csv` uses it, `logger=[csv,tensorboard]` both, `rlexp track RUN --to csv` after the fact.

A run that was killed and goes on replays rows that it has logged before, equal bit for bit. Hence a logger says what
its tracker has (`last_step`), and is given newer rows only. Errors that a logger raises never end training: the
first one is a warning, and nothing more is given to it.
"""

import datetime
import re
import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from rlexp.loggers.jsonl import COUNTERS, Row
from rlexp.util.params import Params

__all__ = ["COUNTERS", "LoggedSeed", "Logger", "Row", "Status", "film_name"]

Status = Literal["done", "failed", "interrupted"]  # how a seed's training ended


@dataclass(frozen=True)
class LoggedSeed:
    """What a logger is told of the seed whose rows it gets."""

    folder: Path  # the seed's own: runs/DAY/RUN/seed_0
    seed: int
    config: dict[str, Any]  # of the run, resolved, as in config.yaml

    @property
    def group(self) -> str:
        """The run's name, which all of its seeds share: that of its folder, with the day and the study it is of."""
        run = self.folder.resolve().parent
        return "_".join([*run.parent.relative_to(self.runs).parts, run.name])

    @property
    def name(self) -> str:
        """`<group>_seed<k>`."""
        return f"{self.group}_seed{self.seed}"

    @property
    def runs(self) -> Path:
        """The folder that this run and its neighbours lie in."""
        place = self.folder.resolve().parent.parent
        if (place / "study.yaml").is_file():
            place = place.parent
        return place.parent if _is_day(place.name) else place

    def identity(self) -> str:
        """A random word that stays with the seed's folder, wherever that is moved: how trackers know it again."""
        file = self.folder / "tracker_id"
        if not file.is_file():
            part = file.with_name(".tracker_id.tmp")
            part.write_text(uuid.uuid4().hex[:12] + "\n", encoding="utf-8")
            part.replace(file)  # whole, or not there
        return file.read_text(encoding="utf-8").strip()


def _is_day(name: str) -> bool:
    try:
        datetime.date.fromisoformat(name)
    except ValueError:
        return False
    return True


class Logger(ABC):
    """Base of all loggers. Every method may raise whatever its tracker does."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        """The options of the logger's yaml, each declared with `param`."""

    packages: ClassVar[tuple[str, ...]] = ()  # modules that must be installed, and are imported in `__init__` only
    install: ClassVar[str] = ""  # what gets them, for the message: "rlexp[wandb]"

    @abstractmethod
    def __init__(self, config: Any, seed: LoggedSeed):
        """Open the tracker's record of `seed`, a new one or the one it has. Must not ask the user anything."""

    def last_step(self) -> int:
        """The step of the last row that the tracker had of this seed when it was opened; -1: none."""
        return -1

    @abstractmethod
    def log(self, row: Row) -> None:
        """One row of metrics.jsonl, whole or not at all. Steps grow; rows of one step can be several (DPO, RLHF): of
        these a kill between two can leave the later out."""

    def log_film(self, path: Path, step: int) -> None:
        """An mp4 of the policy of `step`. The same film may come again, and must not be there twice."""

    def log_picture(self, path: Path, step: int) -> None:
        """A PNG that was drawn at `step`. The same picture may come again, newer, and replaces the former."""

    def close(self, status: Status) -> None:
        """Nothing more will come; what is still on its way is to arrive. It is not called where the process is killed,
        which Ctrl-C does with engine=processes: the tracker's record stays open until the run is resumed or tracked."""


def film_name(path: Path) -> str:
    """Which film it is: `best` of `best_-12.3.mp4`."""
    return re.sub(r"_-?[\d.]+$", "", path.stem)
