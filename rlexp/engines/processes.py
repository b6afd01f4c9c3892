"""Jobs in parallel processes of this machine, each of which takes the next job when it has finished one."""

from contextlib import closing

from rlexp.engines.base import Engine, Handle, NextJob, messages
from rlexp.util.processes import cores, require_workers, run_jobs


class Processes(Engine):
    """`workers` spawned processes; None: as many as there are cores for processes of `threads` threads each."""

    def __init__(self, workers: int | None = None, threads: int = 1):
        require_workers(workers)
        self.workers = workers or max(1, cores() // threads)

    def run(self, next_job: NextJob, handle: Handle) -> None:
        with closing(run_jobs(messages, next_job, self.workers)) as news:
            for report in news:
                if report.kind == "yielded":
                    handle(report.job, report.value)
                elif report.kind == "failed":  # its process died
                    handle(report.job, report.job.failed(report.value))
