"""One job after another, in this process."""

from rlexp.engines.base import Engine, Handle, NextJob, messages


class Serial(Engine):
    """One job after another, in this process."""

    at_once = 1

    def run(self, next_job: NextJob, handle: Handle) -> None:
        while (job := next_job()) is not None:
            for message in messages(job):
                handle(job, message)
