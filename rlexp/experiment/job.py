"""One seed of one run as a job for any engine: it needs nothing but the run's folder."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.engines.base import GivenUp
from rlexp.experiment import status
from rlexp.experiment.config import build, stored
from rlexp.experiment.events import Event, failure
from rlexp.experiment.follow import Follower
from rlexp.experiment.train import run_seed
from rlexp.util import checkpoint
from rlexp.util.errors import UserError
from rlexp.util.processes import WorkerDied
from rlexp.util.watchdog import Hung


@dataclass(frozen=True)
class SeedJob:
    """Begin or continue one seed of the run in `run_folder`, whose config.yaml says everything else."""

    run_folder: Path  # absolute
    seed: int

    @property
    def folder(self) -> Path:
        return self.run_folder / f"seed_{self.seed}"

    def run(self) -> Iterator[Event]:
        config = build(stored(self.run_folder))
        yield from run_seed(config, self.seed, self.folder)

    def reached(self) -> str:
        newest = checkpoint.latest(self.folder / "checkpoints")
        if newest is None:
            return "the beginning"
        return f"step {int(newest.stem.removeprefix('step_')):,}"

    def follow(self) -> Follower:
        return Follower(self.folder, self.seed)

    def failed(self, error: BaseException) -> Event:
        if isinstance(error, WorkerDied | GivenUp):
            facts = self._last_word()
            if facts["status"] == "done":  # it was its films that hung
                return Event(self.seed, "done", facts["message"], facts)
            if facts["status"] == "failed":
                error = Hung(facts["message"])
        event = failure(self.seed, error)
        if isinstance(error, status.Superseded):  # the seed's folder is another process's
            return event
        with contextlib.suppress(OSError):  # the disk may be what failed
            status.update(self.folder, status="failed", message=event.text)
        return event

    def _last_word(self) -> dict[str, Any]:
        """What a process of this job wrote into status.json before it ended itself."""
        with contextlib.suppress(OSError, UserError):
            return status.read(self.folder) or status.waiting()
        return status.waiting()
