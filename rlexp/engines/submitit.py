"""Jobs on a Slurm cluster, by submitit: `pip install 'rlexp[slurm]'`.

One Slurm job a seed, all of them one array. Where Slurm stops a job, at its time limit or to make room for another, the
job is queued again and goes on from what it has saved. What seeds tell is read from their files, so that this process
may end while they go on.
"""

import importlib.util
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.engines.base import DEATHS, Detached, Engine, Followed, Follower, GivenUp, Handle, NextJob, reached
from rlexp.util.errors import UserError
from rlexp.util.params import Params, param
from rlexp.util.processes import cores, require_workers, search_path
from rlexp.util.watchdog import Hung

LOOK_EVERY = 1.0  # s between two looks at the jobs' files
SECONDS_TO_END = 5  # for jobs that are stopped
REQUEUES = 1000  # at the time limit; jobs that come no further end before, see DEATHS


class Submitit(Engine):
    """Jobs of Slurm; `cluster=local`: processes of this machine, which behave like them, to try it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        cluster: str = param("where jobs run", choices=("slurm", "local"), default="slurm")
        partition: str | None = param("Slurm's; null: its default", default=None)
        account: str | None = param("Slurm's", default=None)
        qos: str | None = param("Slurm's quality of service", default=None)
        constraint: str | None = param("features that nodes must have, Slurm's words", default=None)
        minutes: int = param("until a job is stopped and queued again", unit="minutes", ge=1, default=240)
        memory: float = param("of each job", unit="GB", gt=0, default=4.0)
        workers: int | None = param("jobs at once; null: as Slurm sees fit", default=None)
        threads: int = param("processor cores of each job", ge=1, default=1)
        device: str = param("where networks are trained", choices=("cpu", "cuda", "auto"), default="cpu")
        gpus: int | None = param("of each job; null: 1 where the device is cuda, else none", ge=0, default=None)
        setup: list[str] = param("shell commands before each job, such as module load")
        extra: dict[str, Any] = param("further options of sbatch, such as {nice: 100}")
        wait: bool = param("look on until all jobs have ended; false: submit and end", default=True)

    def __init__(self, config: Config):
        require_workers(config.workers)
        if importlib.util.find_spec("submitit") is None:
            raise UserError("engine=submitit: the package submitit is not installed; pip install 'rlexp[slurm]'")
        if config.cluster == "slurm" and shutil.which("sbatch") is None:
            local = "engine.cluster=local runs the jobs as processes of this machine"
            raise UserError(f"engine=submitit: no Slurm here, the command sbatch is not found; {local}")
        if config.cluster == "local" and not config.wait:
            raise UserError("engine.wait=false: jobs of engine.cluster=local end with this command")
        self.config = config
        self.folder = Path()

    def prepare(self, folder: Path) -> None:
        """Jobs and what they print will lie in the folder `submitit` there. Raises UserError for options that Slurm
        refuses."""
        if self.config.cluster == "slurm":
            self._require_accepted()
        self.folder = folder / "submitit"
        self.folder.mkdir(exist_ok=True)

    def _require_accepted(self) -> None:
        """Ask Slurm whether it would take a job with these options."""
        given = {**self._of_slurm(), **self.config.extra}
        words = [f"--{name}={value}" for name, value in given.items()]
        answer = subprocess.run(["sbatch", "--test-only", *words, "--wrap=true"], capture_output=True, text=True)
        if answer.returncode:
            raise UserError(f"engine=submitit: {' '.join(answer.stderr.split())}")

    def run(self, next_job: NextJob, handle: Handle) -> None:
        executor = self._executor()
        tasks: list[_Task] = []
        try:
            while True:
                jobs = _take(next_job, self._places() - len(tasks))
                tasks += self._submitted(executor, jobs)
                if not tasks:
                    return
                if not self.config.wait:
                    raise Detached(f"Slurm's job {tasks[0].submitted.job_id.split('_')[0]}")
                time.sleep(LOOK_EVERY)
                for task in tasks:
                    task.look(handle)
                tasks = [task for task in tasks if not task.ended]
        except Detached:
            raise
        except BaseException:
            _cancel(tasks)
            raise

    def _places(self) -> int:
        """How many jobs may be under way: Slurm takes all at once, and starts them as it sees fit."""
        if self.config.cluster == "local":
            return self.config.workers or max(1, cores() // self.config.threads)
        return 10**9

    def _executor(self) -> Any:
        import submitit

        config = self.config
        limits = {f"{config.cluster}_max_num_timeout": REQUEUES}
        executor = submitit.AutoExecutor(self.folder, cluster=config.cluster, **limits)
        executor.update_parameters(
            name="rlexp",
            timeout_min=config.minutes,
            cpus_per_task=config.threads,
            mem_gb=config.memory,
            gpus_per_node=self._gpus(),
            slurm_setup=config.setup,
            slurm_additional_parameters=config.extra,
            **{f"slurm_{name}": value for name, value in self._of_slurm().items()},
            **({"slurm_array_parallelism": config.workers} if config.workers else {}),
        )
        return executor

    def _of_slurm(self) -> dict[str, Any]:
        """Slurm's own options that were given."""
        named = {name: getattr(self.config, name) for name in ("partition", "account", "qos", "constraint")}
        return {name: value for name, value in named.items() if value is not None}

    def _gpus(self) -> int:
        if self.config.gpus is not None:
            return self.config.gpus
        return 1 if self.config.device == "cuda" else 0

    def _submitted(self, executor: Any, jobs: Sequence[Any]) -> list["_Task"]:
        if not jobs:
            return []
        os.environ["PYTHONPATH"] = os.pathsep.join(search_path())  # jobs inherit the environment
        here = os.getcwd()
        with _errors_in(self.folder / "submitted.log"):
            submitted = executor.submit_array([Attempt(job, here) for job in jobs])
        return [_Task(job, one, _follow(job)) for job, one in zip(jobs, submitted, strict=True)]


@dataclass
class Attempt:
    """What a job of Slurm calls, and again when it has been queued again. `began`: what the attempt before began from;
    `stopped`: how many in a row were stopped before they came further."""

    job: Any
    folder: str
    began: str | None = None
    stopped: int = 0

    def __call__(self) -> list[Any]:
        """Returns the messages that the job's files do not tell. SystemExit passes through: it is how submitit leaves
        when Slurm stops the job."""
        os.chdir(self.folder)  # configs may name files relative to where the command was called
        begins = reached(self.job)
        self.stopped = self.stopped + 1 if begins == self.began else 0
        self.began = begins
        if self.stopped >= DEATHS:
            return [
                self.job.failed(GivenUp(f"stopped {self.stopped} times after {begins}: is engine.minutes too short?"))
            ]
        told: list[Any] = []
        try:
            for message in self.job.run():
                told = self._with(told, message)
        except (Exception, Hung) as error:
            told = self._with(told, self.job.failed(error))
        return told

    def _with(self, told: list[Any], message: Any) -> list[Any]:
        """`told` and `message`; of a job whose files tell the rest, only the last."""
        text = getattr(message, "text", "")
        if text:
            print(text, flush=True)  # into the job's own log
        return [message] if isinstance(self.job, Followed) else [*told, message]

    def checkpoint(self) -> Any:
        """Called by submitit when Slurm stops the job: what is queued again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass
class _Task:
    """A job under way. `submitted`: submitit's own; `follower`: of one whose files tell."""

    job: Any
    submitted: Any
    follower: Follower | None
    ended: bool = False

    def look(self, handle: Handle) -> None:
        """Handle what the job has told since the last look."""
        done = self.submitted.done()  # first: files are written before the job is done
        if self.follower is not None and not self.follower.ended:  # afterwards its files may be another job's
            for message in self.follower.news():
                handle(self.job, message)
        if not done:
            return
        self.ended = True
        last = self._result()
        if self.follower is None or not self.follower.ended:
            for message in last:
                handle(self.job, message)

    def _result(self) -> list[Any]:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            return self.submitted.result()
        except (FailedJobError, UncompletedJobError):
            return [self.job.failed(Lost(f"{self._fate()}; its log: {self.submitted.paths.stderr}"))]

    def _fate(self) -> str:
        return f"Slurm's job {self.submitted.job_id} has ended without a result ({self.submitted.state.lower()})"


class Lost(Exception):
    """A job has ended, and has not said how: killed, cancelled, out of memory."""


def _follow(job: Any) -> Follower | None:
    return job.follow() if isinstance(job, Followed) else None


def _take(next_job: NextJob, number: int) -> list[Any]:
    """At most `number` jobs."""
    return list(itertools.islice(iter(next_job, None), number))


def _cancel(tasks: Sequence[_Task]) -> None:
    """End jobs that are under way: files are whole at every moment."""
    for task in tasks:
        task.submitted.cancel(check=False)
    until = time.monotonic() + SECONDS_TO_END
    while time.monotonic() < until and any(task.submitted.state == "RUNNING" for task in tasks):
        time.sleep(0.1)


@contextmanager
def _errors_in(file: Path) -> Iterator[None]:
    """Processes that are started within write their errors to `file`."""
    before = os.dup(2)
    with open(file, "ab") as log:
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
