"""What every engine runs: jobs, one seed of one run each."""

from collections.abc import Callable
from dataclasses import dataclass

from rlexp.experiment.config import RunConfig
from rlexp.experiment.events import Event
from rlexp.experiment.folder import Folder


@dataclass(frozen=True)
class Job:
    """One seed of one run."""

    folder: Folder
    config: RunConfig
    seed: int


Handle = Callable[[Job, Event], None]
