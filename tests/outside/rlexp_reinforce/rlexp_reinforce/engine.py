"""An engine of one's own: the jobs in reverse order, in this process."""

from dataclasses import dataclass

from rlexp.engines.base import Engine, Handle, NextJob, messages
from rlexp.util.params import Params, param


class Reversed(Engine):
    """The last job first."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        most: int = param("jobs that are taken at a time, at most", ge=1)

    def run(self, next_job: NextJob, handle: Handle) -> None:
        while jobs := self._taken(next_job):
            for job in reversed(jobs):
                for message in messages(job):
                    handle(job, message)

    def _taken(self, next_job: NextJob) -> list:
        jobs = []
        while len(jobs) < self.config.most and (job := next_job()) is not None:
            jobs.append(job)
        return jobs
