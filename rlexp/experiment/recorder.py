"""Keeps run folders up to date with what their seeds report."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlexp.experiment.events import Event
from rlexp.experiment.folder import Folder
from rlexp.util.files import named

TABLES_EVERY = 5.0  # s between two makings of the tables
PICTURE_EVERY = 60.0  # s between two drawings of the curves, where no seed has ended
SHARE = 20  # times as long as the last one took it is until the next: of many seeds they take a while


@dataclass
class Pace:
    """When something was made last, and how long that took; in seconds."""

    made: float = -math.inf
    took: float = 0.0

    def due(self, now: float, interval: float) -> bool:
        return now - self.made > max(interval, SHARE * self.took)

    def follow(self, action: Callable[[], None], now: float) -> None:
        """`action()`, which begins `now`."""
        action()
        self.made = time.monotonic()
        self.took = self.made - now


@dataclass
class Derived:
    """What is made of a run folder as its seeds go on."""

    left: set[int]  # seeds that have not ended
    picture: Pace
    tables: Pace = field(default_factory=Pace)


class Recorder:
    """Writes train.log and lets tables and pictures follow. What fails there is said once, and survived."""

    def __init__(self, folders: dict[Path, Folder]):
        self.folders = folders
        self.complained = False
        self.derived: dict[Path, Derived] = {}

    def __call__(self, job: Any, event: Event) -> None:
        """Take down what the seed of `job` reports."""
        self.attempt(lambda: self._keep(job, event))

    def attempt(self, action: Any) -> None:
        """`action()`, where failure, of a full disk or of a picture that cannot be drawn, does not end training."""
        try:
            action()
        except Exception as error:
            if not self.complained:
                print(f"warning: cannot write the run's record: {named(error)}", file=sys.stderr)
            self.complained = True

    def _keep(self, job: Any, event: Event) -> None:
        folder = self.folders[job.run_folder]
        folder.heard()
        self._say(folder, event)
        now = time.monotonic()
        if folder.path not in self.derived:  # its first picture can wait
            self.derived[folder.path] = Derived(_left(folder), Pace(now))
        derived = self.derived[folder.path]
        ended = event.kind in ("done", "failed")
        if ended:
            derived.left.discard(event.seed)
        elif event.kind != "evaluation":
            return
        if (ended and not derived.left) or derived.picture.due(now, 0.0 if ended else PICTURE_EVERY):
            derived.picture.follow(lambda: folder.refresh(draw=True), now)
        elif derived.tables.due(now, 0.0 if ended else TABLES_EVERY):
            derived.tables.follow(lambda: folder.refresh(draw=False), now)

    @staticmethod
    def _say(folder: Folder, event: Event) -> None:
        if event.text:
            folder.say(f"seed {event.seed}: {event.kind}: {event.text}")
        if "traceback" in event.data:
            folder.say(event.data["traceback"])
        if event.kind == "evaluation":
            reached = f"step {event.data['step']:,}: return {event.data['return_mean']:.2f}"
            folder.say(f"seed {event.seed}: {reached}")


def _left(folder: Folder) -> set[int]:
    """The seeds of a folder that are still to end."""
    return {int(seed) for seed, facts in folder.seeds().items() if facts["status"] != "done"}
