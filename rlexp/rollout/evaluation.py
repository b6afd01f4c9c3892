"""Whole episodes of a policy, for evaluation and films."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlexp.envs.backend import Step
from rlexp.envs.spec import EnvConfig
from rlexp.envs.vector import VecEnv
from rlexp.policies.base import Policy
from rlexp.util import seeding


@dataclass
class Episode:
    """One finished episode, T steps long."""

    seed: int  # of its environment: replaying `action` from it gives the same episode
    action: np.ndarray  # (T, …) as executed
    reward_T: np.ndarray
    success: float | None  # the environment's own `is_success`, where it has one

    @property
    def total(self) -> float:
        return float(self.reward_T.sum(dtype=np.float64))


@dataclass
class Evaluation:
    """Episodes of one policy; n of them, sampled or mean actions."""

    episodes: list[Episode]
    sampled: bool

    def summary(self, env: EnvConfig) -> dict[str, float]:
        """Return statistics (sample std, ddof 1), mean length, normalised score and success rate where defined."""
        total = np.array([e.total for e in self.episodes])
        out = {
            "return_mean": total.mean(),
            "return_std": total.std(ddof=1) if len(total) > 1 else 0.0,
            "return_min": total.min(),
            "return_median": np.median(total),
            "return_max": total.max(),
            "length_mean": np.mean([len(e.reward_T) for e in self.episodes]),
            "last_reward_mean": np.mean([e.reward_T[-1] for e in self.episodes]),
        }
        score = env.score(out["return_mean"])
        if score is not None:
            out["score"] = score
        if any(e.success is not None for e in self.episodes):  # some environments say so only where they end
            out["success_rate"] = np.mean([e.success or 0.0 for e in self.episodes])
        return {name: float(value) for name, value in out.items()}


def evaluate(
    policy: Policy,
    env: EnvConfig,
    sequence: np.random.SeedSequence,
    episodes: int,
) -> Evaluation:
    """Run `episodes` fresh episodes side by side, each in a new environment; training is not touched."""
    env_sequence, policy_sequence = sequence.spawn(2)
    policy.start(episodes, np.random.default_rng(policy_sequence))
    seeds = seeding.env_seeds(env_sequence, episodes)
    return Evaluation(play(env, seeds, policy.act, policy.observe), policy.samples)


def play(
    env: EnvConfig,
    seeds: list[int],
    act: Callable[[np.ndarray], np.ndarray],
    observe: Callable[[np.ndarray], None],
) -> list[Episode]:
    """One whole episode in a new environment for each of B seeds; `act` and `observe` as in `play_steps`."""
    envs = VecEnv(env, seeds, autoreset=False)
    actions: list[list[np.ndarray]] = [[] for _ in seeds]
    rewards: list[list[float]] = [[] for _ in seeds]
    success: list[float | None] = [None] * len(seeds)
    for active, action, step in play_steps(envs, envs.reset(), act, observe):
        for row, i in enumerate(active):
            actions[i].append(action[row])
            rewards[i].append(step.reward[row])
            success[i] = _success(step.info[row], success[i])
    envs.close()
    return [
        Episode(seed, np.array(actions[i]), np.array(rewards[i], np.float32), success[i])
        for i, seed in enumerate(seeds)
    ]


def _success(info: dict[str, Any], before: float | None) -> float | None:
    """What `info` says of success; `before`, what was known, where it says nothing or nothing yet."""
    told = info.get("is_success")
    if told is None:
        return before
    try:
        return float(told)
    except (TypeError, ValueError):
        return before


def play_steps(
    envs: VecEnv,
    obs_BO: np.ndarray,
    act: Callable[[np.ndarray], np.ndarray],
    observe: Callable[[np.ndarray], None],
) -> Iterator[tuple[np.ndarray, np.ndarray, Step]]:
    """The steps of one whole episode in each of B environments, as `VecEnv.episodes` yields them, for a policy that may
    remember: `act` returns actions for all B observations, and `observe` is given all rewards (B,), zero where an
    episode has ended, so that each row keeps its place."""

    def act_active(obs_BO: np.ndarray, active: np.ndarray) -> np.ndarray:
        return act(obs_BO)[active]

    for active, action, step in envs.episodes(obs_BO, act_active):
        reward_B = np.zeros(envs.n, np.float32)
        reward_B[active] = step.reward
        observe(reward_B)
        yield active, action, step
