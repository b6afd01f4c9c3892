"""Shards, the pieces of which data sets are made: one after another in this process, or in parallel ones.

A shard plays rounds of B whole episodes of one policy side by side, until it has 10 000 steps or all that its share
needs. All its chance comes from (seed of the data set, share, shard), and B does not depend on who plays it, so neither
do its episodes.
"""

import contextlib
import functools
import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import numpy as np

from rlexp.buffers.dataset import Dataset
from rlexp.datasets.recipes import Share
from rlexp.envs.spec import EnvConfig
from rlexp.envs.vector import VecEnv
from rlexp.policies.files import load_policy
from rlexp.util import seeding
from rlexp.util.errors import UserError
from rlexp.util.processes import spawn

STEPS = 10_000  # of a shard, at least; fewer where its share has fewer


@dataclass(frozen=True)
class Job:
    """A shard to be played."""

    env: EnvConfig
    share: Share
    key: tuple[int, int, int]  # seed of the data set, share, shard
    lanes: int
    steps: int  # to be reached, unless the share is full before


Next = Callable[[], Job | None]  # the shard to play next, if any is needed


def shard(job: Job) -> Dataset:
    """Play one shard. A round begins B new episodes for the policy; an environment that has ended waits in its next."""
    policy = _policy(job.share.path, job.share.path.stat().st_mtime_ns)
    policy.explore = job.share.sampled
    env_sequence, policy_sequence = seeding.stream(job.key[0], "data", *job.key[1:]).spawn(2)
    envs = VecEnv(job.env, seeding.env_seeds(env_sequence, job.lanes))
    rng = np.random.default_rng(policy_sequence)
    obs_BO, steps = envs.reset(), 0
    episodes: list[Dataset] = []
    while steps < job.steps and len(episodes) < (job.share.episodes or np.inf):
        episodes += _round(policy, envs, obs_BO, rng)
        steps = sum(len(episode) for episode in episodes)
    envs.close()
    return Dataset.concat("shard", episodes)


def _round(policy: Any, envs: VecEnv, obs_BO: np.ndarray, rng: np.random.Generator) -> list[Dataset]:
    """One episode of each environment; `obs_BO` becomes the first observations of the next."""
    policy.start(envs.n, rng)
    obs_T, action_T, reward_T = [], [], []
    length_B, terminated_B, final_obs_BO = np.zeros(envs.n, np.int64), np.zeros(envs.n, bool), np.empty_like(obs_BO)
    for active, action, reward_B, step in envs.episodes(obs_BO, policy.act, policy.observe):
        obs_T.append(obs_BO.copy())
        action_T.append(action)
        reward_T.append(reward_B)
        final_obs_BO[active], terminated_B[active] = step.final_obs, step.terminated
        length_B[active] += 1
    obs_TBO, action_TB, reward_TB = np.stack(obs_T), np.stack(action_T), np.stack(reward_T)
    return [
        Dataset(
            "",
            obs_TBO[:n, b],
            action_TB[:n, b],
            reward_TB[:n, b],
            *(x[b, None] for x in (length_B, terminated_B, final_obs_BO)),
        )
        for b, n in enumerate(length_B)
    ]


@functools.lru_cache(maxsize=2)
def _policy(path: Path, changed: int) -> Any:

    return load_policy(path).policy


def played(next_job: Next, processes: int) -> Iterator[tuple[Job, Dataset]]:
    """Shards with their data: the first from this process, so that small data sets need no others; then from spawned
    ones, unless one is enough. Whatever ends this generator ends them."""
    if job := next_job():
        yield job, _here(job)
    if processes == 1 or multiprocessing.current_process().daemon:  # a daemon may have no children
        while job := next_job():
            yield job, _here(job)
    elif job := next_job():
        yield from _elsewhere(job, next_job, processes)


def _here(job: Job) -> Dataset:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the workers: sums may depend on it
    try:
        return shard(job)
    finally:
        torch.set_num_threads(threads)


def _elsewhere(first: Job, next_job: Next, processes: int) -> Iterator[tuple[Job, Dataset]]:
    workers: dict[Connection, Any] = {}
    busy: dict[Connection, Job] = {}
    waiting: Job | None = first
    try:
        while True:
            while len(busy) < processes and (job := waiting or next_job()):
                waiting = None
                if not (idle := workers.keys() - busy.keys()):
                    process, new = spawn(_work)
                    workers[new], idle = process, {new}
                pipe = idle.pop()
                with contextlib.suppress(OSError):  # it died: said where its answer is missing
                    pipe.send(job)
                busy[pipe] = job
            if not busy:
                return
            for ready in wait(list(busy)):
                pipe = cast(Connection, ready)
                try:
                    result = pipe.recv()
                except (EOFError, OSError):
                    workers[pipe].join(1)
                    raise UserError(
                        f"a process that made data ended with code {workers[pipe].exitcode}, perhaps for want of "
                        "memory: fewer need less, rlexp data make NAME --processes 1"
                    ) from None
                if isinstance(result, BaseException):
                    raise result
                yield busy.pop(pipe), result
    finally:
        for process in workers.values():
            process.kill()  # they write no files
        for process in workers.values():
            process.join()


def _work(pipe: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    while True:
        try:
            pipe.send(shard(pipe.recv()))
        except (EOFError, BrokenPipeError):
            return
        except Exception as error:
            known = isinstance(error, UserError)
            pipe.send(error if known else RuntimeError(f"in a process that makes data:\n{traceback.format_exc()}"))
