"""Jobs in parallel processes of this machine, each of which takes the next job when it has finished one."""

from contextlib import closing
from dataclasses import dataclass

from rlexp.engines.base import Engine, Handle, NextJob, messages
from rlexp.util.params import Params, param
from rlexp.util.processes import cores, require_workers, run_jobs


class Processes(Engine):
    """Spawned processes; where their number is null as many as there are cores for."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        workers: int | None = param("processes; null: cores / threads", default=None)
        threads: int = param("of each process", ge=1, default=1)

    def __init__(self, config: Config):
        require_workers(config.workers)
        self.workers = config.workers or max(1, cores() // config.threads)
        self.at_once = self.workers

    def run(self, next_job: NextJob, handle: Handle) -> None:
        with closing(run_jobs(messages, next_job, self.workers)) as news:
            for report in news:
                if report.kind == "yielded":
                    handle(report.job, report.value)
                elif report.kind == "failed":  # its process died
                    handle(report.job, report.job.failed(report.value))
