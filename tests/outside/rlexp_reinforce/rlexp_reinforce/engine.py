"""An engine of one's own: the jobs in reverse order, in this process."""

from rlexp.engines.base import Engine, Handle, NextJob, messages


class Reversed(Engine):
    """The last job first; `most` jobs at most are taken at a time."""

    def __init__(self, most: int = 100):
        self.most = most

    def run(self, next_job: NextJob, handle: Handle) -> None:
        while jobs := self._taken(next_job):
            for job in reversed(jobs):
                for message in messages(job):
                    handle(job, message)

    def _taken(self, next_job: NextJob) -> list:
        jobs = []
        while len(jobs) < self.most and (job := next_job()) is not None:
            jobs.append(job)
        return jobs
