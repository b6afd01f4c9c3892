"""Child processes that end with this one and leave Ctrl-C to it, a pool of them, and the cores and threads there are.

`run_jobs` is the one pool of worker processes: an engine runs the seeds of runs in it, a data set's shards are played
in it. It knows nothing of either.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast

from rlexp.util.errors import UserError
from rlexp.util.output import say_of_thread

JobT = TypeVar("JobT")

SECONDS_TO_END = 3  # for a worker that was asked to; then it is killed


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def require_workers(workers: Any) -> None:
    """Raise UserError for what is no number of worker processes; None stands for as many as there are cores for."""
    if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
        raise UserError(f"workers: {workers!r} is not a whole number ≥ 1")


def limit_threads(n: int) -> None:
    """Threads of numerical libraries, in this process before they are imported, and in those that it starts."""
    os.environ.update(thread_variables(n))


def thread_variables(n: int) -> dict[str, str]:
    """The environment variables that limit threads of numerical libraries to `n`."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(n))


def search_path() -> Iterator[str]:
    """Folders of modules that belong to no installation: those of a clone, of a script, of PYTHONPATH."""
    for place in sys.path:
        path = Path(place or ".").resolve()
        if not any(path.is_relative_to(prefix) for prefix in (sys.prefix, sys.base_prefix)):
            yield str(path)


def is_worker() -> bool:
    """Whether another process of ours started this one."""
    return multiprocessing.parent_process() is not None


GUARD = 'if __name__ == "__main__":'


def refuse_to_begin_again() -> None:
    """End a worker process that imports a script which, without a guard, does all again that started the worker."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(f"error: a script with engine=processes is imported by each worker; train below {GUARD}")


CRASHES = {
    getattr(signal, name).value: name
    for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")
    if hasattr(signal, name)
}


class WorkerDied(Exception):
    """A worker process ended before its job did: killed, out of memory, or a crash in native code."""

    def __init__(self, exitcode: int | None):
        hint = ""
        if exitcode == 1 and hasattr(sys.modules["__main__"], "__file__"):
            hint = f" (does your script train outside of {GUARD}? Each worker process imports it)"
        if exitcode is not None and -exitcode in CRASHES:
            hint = f" ({CRASHES[-exitcode]}: native code has crashed, of the simulator perhaps)"
        super().__init__(f"worker process ended with code {exitcode}{hint}")
        self.exitcode = exitcode


@dataclass(frozen=True)
class Message(Generic[JobT]):
    """What a job reports: any number of `yielded`, then one `finished` or one `failed`."""

    job: JobT
    kind: Literal["yielded", "finished", "failed"]
    value: Any = None  # yielded: what `work` yielded; failed: the error, see `run_jobs`


def run_jobs(
    work: Callable[[JobT], Iterable[Any]],
    next_job: Callable[[], JobT | None],
    workers: int,
) -> Generator[Message[JobT], None, None]:
    """Run jobs in at most `workers` spawned processes, each started when there is a job for it; yield their messages.

    `work` is a function of some module, and a generator: what it yields is sent here. Jobs and what is yielded must be
    picklable. `next_job` is asked whenever a worker is free; None says that there is no job now, and it is asked again
    after the next message. The pool ends when no worker is busy and there is no job.

    A job that raises (SystemExit too) or whose process dies is a `failed` message, and the others go on; its value is
    a UserError, a RuntimeError that holds the worker's traceback, or WorkerDied. Whatever ends this generator ends the
    processes, within seconds: KeyboardInterrupt, an exception, `close()`. Use it within `contextlib.closing`, so that
    an exception in the loop over it ends them at once.
    """
    pool: _Pool[JobT] = _Pool(work)
    try:
        while True:
            while len(pool.busy) < workers:
                job = next_job()
                if job is None:
                    break
                pool.give(job)
            if not pool.busy:
                return
            yield from pool.messages()
    finally:
        pool.close()


class _Pool(Generic[JobT]):
    """Worker processes by their pipes."""

    def __init__(self, work: Callable[[JobT], Iterable[Any]]):
        self.work = work
        self.processes: dict[Connection, Any] = {}
        self.busy: dict[Connection, JobT] = {}

    def give(self, job: JobT) -> None:
        """Start `job` in an idle worker, or in a new one. Raises what pickling it raises."""
        for pipe in self.processes.keys() - self.busy.keys():
            try:
                pipe.send(job)
            except OSError:  # it died between two jobs
                self._forget(pipe)
                continue
            self.busy[pipe] = job
            return
        process, pipe = spawn(_work)
        self.processes[pipe] = process
        self.busy[pipe] = job
        with contextlib.suppress(OSError):  # it died at once: said where its messages are missing
            pipe.send(self.work)
            pipe.send(job)

    def messages(self) -> Iterator[Message[JobT]]:
        """Wait until workers have something to say; a message of each of those."""
        for ready in wait(list(self.busy)):
            pipe = cast(Connection, ready)
            job = self.busy[pipe]
            try:
                kind, value = pipe.recv()
            except (EOFError, OSError):
                kind, value = "failed", WorkerDied(self._forget(pipe))
            if kind != "yielded":
                self.busy.pop(pipe, None)
            yield Message(job, kind, value)

    def _forget(self, pipe: Connection) -> int | None:
        """Drop a worker that died. Returns its exit code."""
        process = self.processes.pop(pipe)
        self.busy.pop(pipe, None)
        pipe.close()
        process.join(SECONDS_TO_END)
        return process.exitcode

    def close(self) -> None:
        """End all workers: idle ones see that nobody will send more, the others are asked to stop, then killed."""
        for pipe, process in self.processes.items():
            if pipe in self.busy:
                process.terminate()
            pipe.close()
        for process in self.processes.values():
            process.join(SECONDS_TO_END)
            if process.is_alive():
                process.kill()
                process.join()


def _work(pipe: Connection) -> None:
    """A worker process: run jobs from `pipe` until nobody sends more."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))  # at once: files are whole at every moment
    try:
        work = pipe.recv()
        while True:
            _run_job(work, pipe)
    except (EOFError, OSError):  # the other end is closed
        return


def _run_job(work: Callable[[Any], Iterable[Any]], pipe: Connection) -> None:
    job = pipe.recv()
    try:
        for value in work(job):
            pipe.send(("yielded", value))
    except UserError as error:
        pipe.send(("failed", UserError(str(error))))
    except BaseException:  # SystemExit too: this job's, not the worker's
        pipe.send(("failed", RuntimeError(f"in a worker process:\n{traceback.format_exc()}")))
    else:
        pipe.send(("finished", None))


def spawn(target: Callable[[Connection], None]) -> tuple[Any, Connection]:
    """Start `target(pipe)` in a new process. Returns the process, and the other end of its pipe."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_begin, args=(target, theirs), daemon=True)
    if threading.current_thread() is not threading.main_thread():  # no other may set handlers
        process.start()
    else:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # deaf to Ctrl-C from its birth
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
    theirs.close()
    return process, ours


def _begin(target: Callable[[Connection], None], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Windows inherits no handlers
    threading.excepthook = say_of_thread
    threading.Thread(target=_die_with_parent, daemon=True).start()
    target(pipe)


def _die_with_parent() -> None:
    """A killed parent must not leave workers that write into a folder which somebody resumes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
