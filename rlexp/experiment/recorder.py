"""Keeps run folders up to date with what their seeds report."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlexp.experiment.engines.base import Job
    from rlexp.experiment.events import Event


class Recorder:
    """Keeps all folders' records up to date with what the seeds report. What fails there is said once, and survived."""

    def __init__(self, work: Any):
        self.work, self.complained = work, False
        self.drawn: dict[Path, float] = {}  # when, by folder
        self.refreshed: dict[Path, float] = {}

    def __call__(self, job: "Job", event: "Event") -> None:
        try:
            self._keep(job, event)
        except Exception as error:  # a full disk, a picture that cannot be drawn: training goes on
            self._complain(error)

    def _keep(self, job: "Job", event: "Event") -> None:
        import time

        folder, now = job.folder, time.monotonic()
        facts = {
            k: v for k, v in event.data.items() if k in ("step", "env_steps", "updates", "seconds", "final", "best")
        }
        status = event.kind if event.kind in ("done", "failed") else "running"
        if status == "running":  # a seed that goes on has no final score
            folder.record["seeds"][str(job.seed)].pop("final", None)
        folder.update(job.seed, status=status, **facts)
        if event.kind in ("failed", "warning"):
            folder.update(job.seed, message=event.text)
        if event.text:
            folder.say(f"seed {job.seed}: {event.kind}: {event.text}")
        if "traceback" in event.data:
            folder.say(event.data["traceback"])
        if event.kind == "evaluation":
            folder.say(f"seed {job.seed}: step {event.data['step']:,}: return {event.data['return_mean']:.2f}")
        ended = event.kind in ("done", "failed")
        if ended or (event.kind == "evaluation" and now - self.refreshed.get(folder.path, -1e9) > 5):
            draw = ended or now - self.drawn.setdefault(folder.path, now) > 60
            folder.refresh(draw)
            self.refreshed[folder.path] = now
            if draw:
                self.drawn[folder.path] = now

    def close(self, interrupted: bool) -> None:
        try:
            self.work.close(interrupted)
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        if not self.complained:
            self.complained = True
            print(f"warning: cannot write the run's record: {type(error).__name__}: {error}", file=sys.stderr)
