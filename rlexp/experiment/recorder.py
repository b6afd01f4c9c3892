"""Keeps run folders up to date with what their seeds report."""

import sys
import time
from pathlib import Path
from typing import Any

from rlexp.experiment.events import Event
from rlexp.experiment.folder import Folder

TABLES_EVERY = 5.0  # s between two makings of the tables
PICTURE_EVERY = 60.0  # s between two drawings of the curves


class Recorder:
    """Writes train.log and lets tables and pictures follow. What fails there is said once, and survived."""

    def __init__(self, folders: dict[Path, Folder]):
        self.folders = folders
        self.complained = False
        self.tables: dict[Path, float] = {}  # when they were made
        self.pictures: dict[Path, float] = {}

    def __call__(self, job: Any, event: Event) -> None:
        """Take down what the seed of `job` reports."""
        self.attempt(lambda: self._keep(job, event))

    def attempt(self, action: Any) -> None:
        """`action()`, where failure, of a full disk or of a picture that cannot be drawn, does not end training."""
        try:
            action()
        except Exception as error:
            if not self.complained:
                reason = f"{type(error).__name__}: {error}"
                print(f"warning: cannot write the run's record: {reason}", file=sys.stderr)
            self.complained = True

    def _keep(self, job: Any, event: Event) -> None:
        folder = self.folders[job.run_folder]
        self._say(folder, event)
        ended = event.kind in ("done", "failed")
        now = time.monotonic()
        if ended or (event.kind == "evaluation" and self._due(self.tables, folder, now, TABLES_EVERY)):
            self.pictures.setdefault(folder.path, now)  # the first picture can wait
            draw = ended or self._due(self.pictures, folder, now, PICTURE_EVERY)
            folder.refresh(draw)
            self.tables[folder.path] = now
            if draw:
                self.pictures[folder.path] = now

    @staticmethod
    def _due(made: dict[Path, float], folder: Folder, now: float, interval: float) -> bool:
        return now - made.get(folder.path, -interval) > interval

    @staticmethod
    def _say(folder: Folder, event: Event) -> None:
        if event.text:
            folder.say(f"seed {event.seed}: {event.kind}: {event.text}")
        if "traceback" in event.data:
            folder.say(event.data["traceback"])
        if event.kind == "evaluation":
            reached = f"step {event.data['step']:,}: return {event.data['return_mean']:.2f}"
            folder.say(f"seed {event.seed}: {reached}")
