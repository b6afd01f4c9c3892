"""One job after another, in this process."""

from collections.abc import Iterable

from rlexp.experiment.engines.base import Handle, Job
from rlexp.experiment.events import failure
from rlexp.experiment.train import run_seed


def run(jobs: Iterable[Job], handle: Handle) -> None:
    """One job after another, in this process."""
    for job in jobs:
        events = run_seed(job.config, job.seed, job.folder.seed(job.seed))
        while True:
            try:
                event = next(events)
            except StopIteration:
                break
            except Exception as error:
                event = failure(job.seed, error)
            handle(job, event)
