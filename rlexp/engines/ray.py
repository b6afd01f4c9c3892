"""Jobs on a Ray cluster, whose machines and processes may die: `pip install 'rlexp[ray]'`.

One Ray task a job. Where its process or machine dies, Ray calls it again, on whatever machine has room, and the job
goes on from what it has saved. An exception in Python is no such death: it ends the job. What jobs tell goes through an
actor beside this process, which is asked for news while Ray is waited for. (A task's own stream of results would not
do: Ray counts the items of a second call from the first one's.)
"""

import importlib.util
import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlexp.engines.base import DEATHS, Engine, GivenUp, Handle, NextJob, Resumable, messages, reached
from rlexp.util import trust
from rlexp.util.errors import UserError
from rlexp.util.files import in_one_line
from rlexp.util.params import Params, param
from rlexp.util.processes import cores, require_workers, search_path, thread_variables

ASK_EVERY = 0.3  # s between two looks into the mailbox
SEND_EVERY = 0.2  # s between two letters of one job
SECONDS_TO_END = 5  # for jobs that are stopped
STORE = 100_000_000  # bytes of a local cluster's object store; through it go messages only
FORWARDED = (trust.VARIABLE, "MINARI_DATASETS_PATH", "MUJOCO_GL")  # environment variables


class Ray(Engine):
    """One Ray task a job, on the cluster at `address`; None: on one of this machine's own, which ends with this."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        address: str | None = param("host:port of a node; auto; null: a cluster of this command's own", default=None)
        workers: int | None = param("jobs at once; null: as many as there is room for", default=None)
        threads: int = param("processor cores of each job", ge=1, default=1)
        device: str = param("where networks are trained", choices=("cpu", "cuda", "auto"), default="cpu")
        gpus: float | None = param("of each job; null: 1 where the device is cuda, else none", ge=0, default=None)
        patience: float = param("waited for the cluster before anything starts", unit="seconds", ge=0, default=60.0)

    def __init__(self, config: Config):
        require_workers(config.workers)
        if importlib.util.find_spec("ray") is None:
            raise UserError("engine=ray: the package ray is not installed; pip install 'rlexp[ray]'")
        address = config.address
        if address is not None and address != "auto" and not _is_address(address):
            raise UserError(f"engine.address: '{address}' is neither host:port of a node, nor auto")
        self.address = address
        self.workers = config.workers
        self.threads = config.threads
        self.gpus = config.gpus if config.gpus is not None else _default_gpus(config.device)
        self.patience = config.patience
        self.connected = False  # by this engine, and hence to be undone by it

    def prepare(self, folder: Path) -> None:
        """Connect, and let every node read what is written to `folder` here."""
        self._connect()
        try:
            if self._places() == 0:
                gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
                raise UserError(f"engine=ray: no node has {self.threads} cores{gpus} for a seed")
            self._probe(folder)
        except BaseException:
            self._disconnect()
            raise

    def run(self, next_job: NextJob, handle: Handle) -> None:
        self._connect()
        try:
            _Tasks(self._options(), handle).run(next_job, self._places)
        finally:
            self._disconnect()

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to Ray's makers
        os.environ.setdefault("RAY_worker_niceness", "0")  # of a local cluster: no less than other engines' processes
        import ray  # takes seconds

        if ray.is_initialized():
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        try:
            with _same_sigterm():
                if self.address is not None:
                    _require_answer(self.address, self.patience)
                    ray.init(address=self.address, **quiet)
                else:
                    places = self.workers or max(1, cores() // self.threads)
                    cpus = places * self.threads
                    ray.init("local", num_cpus=cpus, include_dashboard=False, object_store_memory=STORE, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(f"engine=ray: cannot connect to {self.address or 'Ray'} ({in_one_line(error)})") from None
        self.connected = True

    def _disconnect(self) -> None:
        """Leave the cluster, where it was entered here; a local one ends, with all that runs in it."""
        import ray

        if self.connected:
            ray.shutdown()
        self.connected = False

    def _places(self) -> int:
        """For how many jobs there is room, running ones included."""
        import ray

        if self.workers:
            return self.workers
        total = 0
        for node in ray.nodes():
            room = node["Resources"].get("CPU", 0) // self.threads if node["Alive"] else 0
            if self.gpus:
                room = min(room, node["Resources"].get("GPU", 0) // self.gpus)
            total += int(room)
        return total

    def _options(self) -> dict[str, Any]:
        """Of every task: what it needs of a node, and the environment variables of its process."""
        variables = {name: os.environ[name] for name in FORWARDED if name in os.environ}
        variables |= thread_variables(self.threads)
        variables["PYTHONPATH"] = os.pathsep.join(search_path())
        return {"num_cpus": self.threads, "num_gpus": self.gpus, "runtime_env": {"env_vars": variables}}

    def _probe(self, folder: Path) -> None:
        """Raise UserError where a node does not see `folder`, or cannot import this module."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
        token = uuid.uuid4().hex
        file = folder / f".probe-{token}"
        file.write_text(token)
        options = {**self._options(), "num_cpus": 0, "num_gpus": 0, "max_retries": 0}
        try:
            asked = []
            for node in nodes:
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                asked.append(ray.remote(_read).options(scheduling_strategy=there, **options).remote(str(file)))
            ray.wait(asked, num_returns=len(asked), timeout=self.patience)
            for node, answer in zip(nodes, asked, strict=True):
                _require_token(node["NodeManagerHostname"], answer, token, folder)
        finally:
            file.unlink(missing_ok=True)


@dataclass
class _Tasks:
    """Jobs under way. `options`: of every task; `handle`: given what they tell."""

    options: dict[str, Any]
    handle: Handle
    jobs: list[Any] = field(default_factory=list)  # all that were begun; a job's number is its place here
    busy: dict[Any, int] = field(default_factory=dict)  # Ray's reference of a task's result: the job's number

    def run(self, next_job: NextJob, places: Any) -> None:
        """As `Engine.run`; `places()` is how many jobs may be under way."""
        import ray

        self.mailbox = _actor_here(self.options["runtime_env"])
        self.task = ray.remote(max_retries=0, retry_exceptions=False, **self.options)(_work)
        try:
            while True:
                room = max(1, places())
                while len(self.busy) < room and (job := next_job()) is not None:
                    self._start(job)
                if not self.busy:
                    return
                done, _ = ray.wait(list(self.busy), timeout=ASK_EVERY)
                for number, message in ray.get(self.mailbox.take.remote()):
                    self.handle(self.jobs[number], message)
                for reference in done:
                    self._finish(reference)
        finally:
            self._stop()

    def _start(self, job: Any) -> None:
        again = -1 if isinstance(job, Resumable) else 0  # -1: as often as it takes
        number = len(self.jobs)
        self.jobs.append(job)
        reference = self.task.options(max_retries=again).remote(job, number, self.mailbox, os.getcwd())
        self.busy[reference] = number

    def _finish(self, reference: Any) -> None:
        """Handle the last messages of a job that has ended."""
        import ray

        job = self.jobs[self.busy.pop(reference)]
        try:
            last = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            last = [job.failed(error.cause)]
        except ray.exceptions.RayError as error:
            last = [job.failed(error)]
        for message in last:
            self.handle(job, message)

    def _stop(self) -> None:
        """End what is still under way, at once: files are whole at every moment."""
        import ray

        left = list(self.busy)
        for reference in left:
            ray.cancel(reference, force=True)
        if left:
            ray.wait(left, num_returns=len(left), timeout=SECONDS_TO_END)
        ray.kill(self.mailbox)


class Mailbox:
    """An actor that keeps what jobs tell until it is asked for, and counts their attempts."""

    def __init__(self) -> None:
        self.letters: list[tuple[int, Any]] = []
        self.attempts: dict[int, int] = {}
        self.deaths: dict[int, tuple[str, int]] = {}  # by job: what the last attempts began from, and how many died

    def begin(self, number: int, reached: str) -> tuple[int, int]:
        """A process begins with job `number` from `reached`. Returns which attempt at it this is, and how many died
        before that had begun from the same."""
        attempt = self.attempts.get(number, 0) + 1
        before, died = self.deaths.get(number, ("", -1))
        same = died + 1 if before == reached else 0
        self.attempts[number] = attempt
        self.deaths[number] = (reached, same)
        return attempt, same

    def put(self, number: int, attempt: int, told: list[Any]) -> None:
        """Keep what the `attempt` at job `number` tells, unless another has begun since."""
        if attempt == self.attempts[number]:
            self.letters += [(number, message) for message in told]

    def take(self) -> list[tuple[int, Any]]:
        """All (number, message) since the last call."""
        taken, self.letters = self.letters, []
        return taken


def _actor_here(runtime_env: dict[str, Any]) -> Any:
    """A Mailbox on this process's own node, which lives as long as this process."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here, runtime_env=runtime_env).remote()


def _work(job: Any, number: int, mailbox: Any, folder: str) -> list[Any]:
    """One attempt at a job, in a process of the cluster. Returns the messages that are not in the mailbox."""
    import ray

    os.chdir(folder)  # configs may name files relative to where the command was called
    begins = reached(job)
    attempt, died = ray.get(mailbox.begin.remote(number, begins))
    if died >= DEATHS:
        return [job.failed(GivenUp(f"its process died {died} times after {begins}: out of memory?"))]
    waiting: list[Any] = []
    sent = time.monotonic()
    letter = None
    for message in messages(job):
        waiting.append(message)
        if time.monotonic() - sent > SEND_EVERY:
            letter = mailbox.put.remote(number, attempt, waiting)
            waiting = []
            sent = time.monotonic()
    if letter is not None:
        ray.get(letter)  # letters arrive in order: all have
    return waiting


def _read(file: str) -> str:
    """What stands in `file`, as the node sees it that this runs on; "" where it does not."""
    try:
        return Path(file).read_text()
    except OSError:
        return ""


def _require_token(host: str, answer: Any, token: str, folder: Path) -> None:
    """Raise UserError where the node `host` has not answered, or with something else than `token`."""
    import ray

    try:
        found = ray.get(answer, timeout=0.1)
    except ray.exceptions.GetTimeoutError:
        raise UserError(f"engine=ray: node {host} does not answer; engine.patience=SECONDS waits longer") from None
    except ray.exceptions.RayTaskError as error:
        raise UserError(f"engine=ray: node {host}: {in_one_line(error.cause)}") from None
    except ray.exceptions.RayError as error:
        raise UserError(f"engine=ray: node {host}: {in_one_line(error)}") from None
    if found != token:
        raise UserError(f"engine=ray: node {host} does not see {folder}; runs= must be on a file system that all share")


def _require_answer(address: str, patience: float) -> None:
    """Raise UserError where nobody listens at host:port; Ray itself would end the process."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():  # auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=patience).close()
    except OSError as error:
        raise UserError(f"engine.address: nobody answers at {address} ({error.strerror or error})") from None


@contextmanager
def _same_sigterm() -> Iterator[None]:
    """Within, a handler of SIGTERM may be set; afterwards it is what it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _default_gpus(device: str) -> float:
    if device == "auto":
        import torch  # takes a second

        return float(torch.cuda.is_available())
    return float(device == "cuda")


def _is_address(value: Any) -> bool:
    host, _, port = str(value).rpartition(":")
    return bool(host) and "/" not in host and port.isdigit() and int(port) < 65_536
