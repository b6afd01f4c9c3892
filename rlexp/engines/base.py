"""The contract of engines and of the jobs that they run.

A job is picklable and needs nothing but what it holds: its `run` may happen in another process, or on another machine.
An engine decides where and when; what a job computes does not depend on it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rlexp.util.errors import UserError
from rlexp.util.params import Params


class Job(Protocol):
    """One piece of work."""

    def run(self) -> Iterator[Any]:
        """Do it. Yields messages: picklable values, for whoever handles this kind of job."""

    def failed(self, error: BaseException) -> Any:
        """The message that stands in for the rest of a job which `error` ended."""


@runtime_checkable
class Resumable(Job, Protocol):
    """A job whose work lies in files, so that another process, on whatever machine sees them, goes on with it: `run`
    continues from what is saved. An engine whose processes or machines die may call it again."""

    def reached(self) -> str:
        """What another `run` would begin from, in words: "step 4,096"."""


class Follower(Protocol):
    """Reads what another process writes."""

    @property
    def ended(self) -> bool:
        """Whether it has told that the job has ended."""

    def news(self) -> Iterable[Any]:
        """The job's messages since the last call."""


@runtime_checkable
class Followed(Resumable, Protocol):
    """A job whose files tell, to whoever sees them, what its messages tell."""

    def follow(self) -> Follower: ...


DEATHS = 3  # of a job's processes, all from one checkpoint, after which it is given up


class GivenUp(Exception):
    """Processes that ran a job died again and again, and none came further than the one before."""


class Detached(Exception):
    """The jobs go on without this process, as what the message names."""


NextJob = Callable[[], Any]  # the job to start now; None where there is none now, and maybe none any more
Handle = Callable[[Any, Any], None]  # given a job and one of its messages, in the process that called `run`


class Engine(ABC):
    """Runs jobs. Made of the options that stand beside `_target_` in conf/engine/<name>.yaml, checked."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        """The options of the engine's yaml, each declared with `param`."""

    at_once: int | None = None  # jobs at a time; None: not known before they run

    def __init__(self, config: Any):
        self.config = config

    def prepare(self, folder: Path) -> None:
        """Called once before `run`, when nothing has been written yet, with the folder that the jobs will work in.
        Raises UserError where they could not."""

    @abstractmethod
    def run(self, next_job: NextJob, handle: Handle) -> None:
        """Run the jobs that `next_job` gives, until it gives none while none is under way.

        It is asked whenever a place is free, again after a job has ended. A job that fails, or whose process or machine
        dies, ends with its `failed` message; the others go on. What `handle` raises ends all of them, and so does
        KeyboardInterrupt, within seconds. Raises Detached where they go on without it.
        """


def one_by_one(jobs: Iterable[Any]) -> NextJob:
    """Gives each of `jobs` once, in order."""
    waiting = iter(jobs)
    return lambda: next(waiting, None)


def reached(job: Any) -> str:
    """What `job` goes on from; "" for one that cannot, or whose files are broken, which its `run` will say."""
    if not isinstance(job, Resumable):
        return ""
    try:
        return job.reached()
    except UserError:
        return ""


def messages(job: Job) -> Iterator[Any]:
    """What `job` tells; where it raises an exception, its `failed` message comes last. Ctrl-C passes through."""
    told = _told(job)
    try:
        while True:
            try:
                message = next(told)
            except StopIteration:
                return
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit and GeneratorExit too: this job's, not ours
                yield job.failed(error)
                return
            yield message
    finally:
        told.close()


def _told(job: Job) -> Generator[Any, None, None]:
    yield from job.run()
