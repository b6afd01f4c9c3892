"""Shards, the pieces of which data sets are made: one after another in this process, or in parallel ones.

A shard plays rounds of B whole episodes of one policy side by side, until it has 10 000 steps or all that its share
needs. All its chance comes from (seed of the data set, share, shard), and B does not depend on who plays it, so neither
do its episodes.
"""

import contextlib
import functools
import itertools
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlexp.buffers.dataset import Dataset
from rlexp.datasets.recipes import Share
from rlexp.envs.spec import EnvConfig
from rlexp.envs.vector import VecEnv
from rlexp.policies.base import Policy
from rlexp.policies.files import Saved, load_policy
from rlexp.rollout.evaluation import play_steps
from rlexp.util import seeding
from rlexp.util.errors import UserError
from rlexp.util.processes import WorkerDied

TRIED = 60  # rounds of steps that tell how fast a share is played
STEPS = 10_000  # of a shard, at least; fewer where its share has fewer


@dataclass(frozen=True)
class ShardJob:
    """A shard to be played: plain data, so that any process can."""

    env: EnvConfig
    share: Share
    key: tuple[int, int, int]  # seed of the data set, share, shard
    lanes: int  # B, episodes side by side
    steps: int  # to be reached, unless the share is full before

    def run(self) -> Iterator[Dataset]:
        """For an engine: the shard is its one message."""
        yield play_shard(self)

    def failed(self, error: BaseException) -> BaseException:
        """What to raise in the process that wants the data: ours as it is, others with their traceback."""
        if isinstance(error, UserError | WorkerDied):
            return error
        return RuntimeError("".join(traceback.format_exception(error)))


def play_shard(job: ShardJob) -> Dataset:
    """Play one shard, on one thread: sums may depend on their number. A round begins B new episodes for the policy; an
    environment that has ended waits in its next."""
    env_sequence, policy_sequence = seeding.stream(job.key[0], "data", *job.key[1:]).spawn(2)
    rng = np.random.default_rng(policy_sequence)
    policy = loaded(job.share).policy
    policy.explore = job.share.sampled
    most = job.share.episodes or np.inf
    rounds: list[Dataset] = []
    episodes = 0
    steps = 0
    with _one_thread():
        envs = VecEnv(job.env, seeding.env_seeds(env_sequence, job.lanes))
        obs_BO = envs.reset()
        while steps < job.steps and episodes < most:
            rounds.append(_play_round(policy, envs, obs_BO, rng))
            episodes += job.lanes
            steps += len(rounds[-1])
        envs.close()
    return Dataset.concat("shard", rounds)


def speed(env: EnvConfig, share: Share, lanes: int) -> float:
    """Steps a second that this process plays of a share, about: from a try whose episodes are nobody's."""
    policy = loaded(share).policy
    policy.explore = share.sampled
    with _one_thread():
        envs = VecEnv(env, list(range(lanes)))
        obs_BO = envs.reset()
        policy.start(lanes, np.random.default_rng(0))
        steps = 0
        began = time.perf_counter()
        for active, _, _ in itertools.islice(play_steps(envs, obs_BO, policy.act, policy.observe), TRIED):
            steps += len(active)
        spent = time.perf_counter() - began
        envs.close()
    return steps / spent


def _play_round(policy: Policy, envs: VecEnv, obs_BO: np.ndarray, rng: np.random.Generator) -> Dataset:
    """One episode of each environment; `obs_BO` becomes the first observations of the next."""
    policy.start(envs.n, rng)
    env_T = []
    obs_T = []
    action_T = []
    reward_T = []
    length_B = np.zeros(envs.n, np.int64)
    terminated_B = np.zeros(envs.n, bool)
    final_obs_BO = np.empty_like(obs_BO)
    for active, action, step in play_steps(envs, obs_BO, policy.act, policy.observe):
        env_T.append(active)
        obs_T.append(obs_BO[active])
        action_T.append(action)
        reward_T.append(step.reward)
        final_obs_BO[active] = step.final_obs
        terminated_B[active] = step.terminated
        length_B[active] += 1
    order_N = np.argsort(np.concatenate(env_T), kind="stable")  # by environment, in each by time
    return Dataset(
        "",
        np.concatenate(obs_T)[order_N],
        np.concatenate(action_T)[order_N],
        np.concatenate(reward_T)[order_N],
        length_B,
        terminated_B,
        final_obs_BO,
    )


def loaded(share: Share) -> Saved:
    """The policy of a share. Raises UserError."""
    return _loaded(share.path, share.path.stat().st_mtime_ns, share.unsaid)


@functools.lru_cache(maxsize=2)
def _loaded(path: Path, changed: int, unsaid: tuple[tuple[str, Any], ...]) -> Saved:
    return load_policy(path, **dict(unsaid))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
