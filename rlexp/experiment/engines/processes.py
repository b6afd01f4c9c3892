"""Run jobs one after another or in parallel processes; either way the same `run_seed`, hence the same numbers.

`handle(job, event)` is called in this process for everything that any job reports. A job that fails is an event like
any other; the rest go on. KeyboardInterrupt (Ctrl-C, or SIGTERM: see `launch`) ends all of it within seconds.
"""

import os
import signal
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

from rlexp.experiment.config import build
from rlexp.experiment.engines.base import Handle, Job
from rlexp.experiment.events import failure
from rlexp.experiment.train import run_seed
from rlexp.util.processes import spawn


def run(jobs: Iterable[Job], handle: Handle, workers: int) -> None:
    """Jobs in `workers` spawned processes, each of which takes the next job when it has finished one."""
    waiting = list(jobs)
    busy: dict[Connection, tuple[Any, Job]] = {}

    def give(pipe: Connection, process: Any) -> None:
        job = waiting[0] if waiting else None
        try:
            pipe.send(job and (job.config.plain, job.seed, str(job.folder.seed(job.seed))))
        except OSError:  # it died between two jobs
            if job:
                start()
            return
        if job:
            busy[pipe] = (process, waiting.pop(0))
        else:
            pipe.close()

    def start() -> None:
        process, pipe = spawn(_work)
        give(pipe, process)

    try:
        for _ in range(min(workers, len(waiting))):
            start()
        while busy:
            for ready in wait(list(busy)):
                pipe = cast(Connection, ready)
                process, job = busy[pipe]
                try:
                    event = pipe.recv()
                except (EOFError, OSError):  # the process is gone: killed, out of memory, a crash in native code
                    process.join()
                    del busy[pipe]
                    handle(job, failure(job.seed, RuntimeError(f"worker process ended with code {process.exitcode}")))
                    if waiting:
                        start()
                    continue
                if event.kind in ("done", "failed"):
                    del busy[pipe]
                    give(pipe, process)
                handle(job, event)
    finally:
        processes = [process for process, _ in busy.values()]
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(3)
            if process.is_alive():
                process.kill()


def _work(pipe: Connection) -> None:
    """A worker process: run jobs from `pipe` until there are no more."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))  # at once: files are whole at every moment
    try:
        while (job := pipe.recv()) is not None:
            plain, seed, folder = job
            try:
                for event in run_seed(build(plain), seed, Path(folder)):
                    pipe.send(event)
            except Exception as error:
                pipe.send(failure(seed, error))
    except (EOFError, BrokenPipeError):
        os._exit(1)
