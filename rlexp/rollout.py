"""Running policies: whole episodes for evaluation; fixed-length rollouts and whole trajectories for learning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rlexp import seeding
from rlexp.algo import Policy
from rlexp.envs import EnvConfig, EnvSpec, VecEnv
from rlexp.nets import Actor, Normaliser


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
        if (score := env.score(out["return_mean"])) is not None:
            out["score"] = score
        if any(e.success is not None for e in self.episodes):  # some environments say so only where they end
            out["success_rate"] = np.mean([e.success or 0.0 for e in self.episodes])
        return {name: float(value) for name, value in out.items()}


def evaluate(policy: Policy, env: EnvConfig, sequence: np.random.SeedSequence, episodes: int) -> Evaluation:
    """Run `episodes` fresh episodes side by side, each in a new environment; training is not touched."""
    env_sequence, policy_sequence = sequence.spawn(2)
    policy.start(episodes, np.random.default_rng(policy_sequence))
    return Evaluation(play(env, seeding.env_seeds(env_sequence, episodes), policy.act, policy.observe), policy.samples)


def play(
    env: EnvConfig,
    seeds: list[int],
    act: Callable[[np.ndarray], np.ndarray],
    observe: Callable[[np.ndarray], None],
) -> list[Episode]:
    """One whole episode in a new environment for each of B seeds; `act` and `observe` as in `VecEnv.episodes`."""
    envs = VecEnv(env, seeds, autoreset=False)
    actions: list[list[np.ndarray]] = [[] for _ in seeds]
    rewards: list[list[float]] = [[] for _ in seeds]
    success: list[float | None] = [None] * len(seeds)
    for active, action, reward_B, step in envs.episodes(envs.reset(), act, observe):
        for row, i in enumerate(active):
            actions[i].append(action[i])
            rewards[i].append(reward_B[i])
            if "is_success" in step.info[row]:
                success[i] = float(step.info[row]["is_success"])
    envs.close()
    return [
        Episode(s, np.array(a), np.array(r, np.float32), ok)
        for s, a, r, ok in zip(seeds, actions, rewards, success, strict=True)
    ]


@dataclass
class Rollout:
    """T steps of B environments, raw: observations unnormalised, actions unclipped, rewards as paid."""

    obs_TBO: np.ndarray
    action: np.ndarray  # (T, B) int64 or (T, B, A) float32, as sampled
    reward_TB: np.ndarray
    terminated_TB: np.ndarray
    truncated_TB: np.ndarray
    last_obs_BO: np.ndarray  # what follows the last step
    cut_obs_NO: np.ndarray  # final observations of the N truncated steps, in order of (t, b)
    returns: list[float] = field(default_factory=list)  # of the episodes that ended
    lengths: list[int] = field(default_factory=list)

    def next_values(self, value_TB: np.ndarray, value: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """V of the observation that each action led to, before any reset, given V of those it was taken in.

        Where a time limit ended the recording, not the task, what would have followed counts: the final observation's.
        """
        next_value_TB = np.concatenate([value_TB[1:], value(self.last_obs_BO)[None]])
        if len(self.cut_obs_NO):
            next_value_TB[self.truncated_TB] = value(self.cut_obs_NO)
        return next_value_TB


class Collector:
    """Keeps B environments running and collects fixed-length rollouts with sampled actions."""

    def __init__(self, envs: VecEnv, spec: EnvSpec):
        self.envs, self.spec = envs, spec
        self.obs_BO = envs.reset()
        self.total_B, self.length_B = np.zeros(envs.n), np.zeros(envs.n, np.int64)

    @torch.no_grad()
    def collect(
        self, actor: Actor, steps: int, generator: torch.Generator, normaliser: Normaliser | None = None
    ) -> Rollout:
        """`steps` steps in each environment. The simulator gets clipped actions; the rollout keeps them as sampled."""
        n, width = self.envs.n, self.obs_BO.shape[1]
        noise_TBA = actor.noise([steps, n], generator)
        obs_TBO = np.empty((steps, n, width), np.float32)
        reward_TB = np.empty((steps, n), np.float32)
        terminated_TB, truncated_TB = np.empty((steps, n), bool), np.empty((steps, n), bool)
        actions, cut, returns, lengths = [], [], [], []
        for t in range(steps):
            obs_TBO[t] = self.obs_BO
            x = normaliser(self.obs_BO) if normaliser else self.obs_BO
            action = actor.sample(torch.from_numpy(x), noise_TBA[t]).numpy()
            step = self.envs.step(self.spec.executable(action))
            actions.append(action)
            reward_TB[t], terminated_TB[t], truncated_TB[t] = step.reward, step.terminated, step.truncated
            self.obs_BO = step.obs
            self.total_B += step.reward
            self.length_B += 1
            ended = step.terminated | step.truncated
            if ended.any():
                cut.append(step.final_obs[step.truncated])
                returns += self.total_B[ended].tolist()
                lengths += self.length_B[ended].tolist()
                self.total_B[ended], self.length_B[ended] = 0, 0
        cut_obs_NO = np.concatenate(cut) if cut else np.empty((0, width), np.float32)
        return Rollout(
            obs_TBO,
            np.stack(actions),
            reward_TB,
            terminated_TB,
            truncated_TB,
            self.obs_BO,
            cut_obs_NO,
            returns,
            lengths,
        )


@dataclass(frozen=True)
class Trajectories:
    """E trajectories side by side, zero where one has ended; raw observations, actions as sampled, not as clipped."""

    obs_ETO: np.ndarray  # float32
    action: np.ndarray  # (E, T, A) float32, or (E, T) int64 where actions are discrete
    reward_ET: np.ndarray  # float32
    length_E: np.ndarray  # int64, from 1 to T
    logp_ET: np.ndarray | None = None  # float32, log-probability of each action under the policy that sampled it

    def __post_init__(self) -> None:
        shape = self.reward_ET.shape
        parts = [self.obs_ETO, self.action] + ([] if self.logp_ET is None else [self.logp_ET])
        if any(part.shape[:2] != shape for part in parts) or self.length_E.shape != shape[:1]:
            raise ValueError("observations, actions, rewards and lengths do not belong together")
        if shape[0] and not 1 <= self.length_E.min() <= self.length_E.max() <= shape[1]:
            raise ValueError(f"lengths must be from 1 to {shape[1]}")

    def __len__(self) -> int:
        return len(self.length_E)

    @property
    def valid_ET(self) -> np.ndarray:
        """True for steps that were taken."""
        return np.arange(self.reward_ET.shape[1]) < self.length_E[:, None]

    @property
    def last_ET(self) -> np.ndarray:
        """True for the last step of each."""
        return np.arange(self.reward_ET.shape[1]) == self.length_E[:, None] - 1

    @property
    def return_E(self) -> np.ndarray:
        """Undiscounted sum of each trajectory's rewards, float64."""
        return np.where(self.valid_ET, self.reward_ET, 0.0).sum(1, dtype=np.float64)

    def columns(self) -> dict[str, Any]:
        """The arrays by name: `Trajectories(**columns)` is the same again."""
        return dict(vars(self))

    def take(self, index: Any) -> "Trajectories":
        """The trajectories at these indices, in this order."""
        columns: dict[str, Any] = {n: None if x is None else x[index] for n, x in self.columns().items()}
        return Trajectories(**columns)

    @staticmethod
    def join(parts: Sequence["Trajectories"]) -> "Trajectories":
        """All trajectories of `parts`, one after another. Log-probabilities only where all have them."""
        longest = max(part.reward_ET.shape[1] for part in parts)
        columns: dict[str, Any] = {}
        for name in parts[0].columns():
            arrays = [part.columns()[name] for part in parts]
            whole = all(x is not None for x in arrays)
            columns[name] = np.concatenate([_padded(x, longest) for x in arrays]) if whole else None
        return Trajectories(**columns)


def _padded(x: np.ndarray, steps: int) -> np.ndarray:
    """`x` with zeros after its last step, up to `steps` of them; a column without steps as it is."""
    return x if x.ndim == 1 else np.pad(x, [(0, 0), (0, steps - x.shape[1])] + [(0, 0)] * (x.ndim - 2))


@torch.no_grad()
def collect(
    envs: VecEnv,
    spec: EnvSpec,
    actor: Actor,
    generator: torch.Generator | None,
    normaliser: Normaliser | None = None,
) -> Trajectories:
    """One whole episode in each of the fresh environments, all stepped together: sampled actions, or mean (most
    likely) ones where `generator` is None. The simulator gets clipped actions; the trajectories keep them unclipped."""
    see = normaliser if normaliser is not None else (lambda obs: obs)
    obs_BO, active = envs.reset(), np.arange(envs.n)
    steps: list[tuple[np.ndarray, ...]] = []
    while active.size:
        x = torch.from_numpy(see(obs_BO))
        action = (
            actor.mode(x) if generator is None else actor.sample(x, actor.noise([len(x)], generator))
        ).numpy()  # fmt: skip
        step = envs.step(spec.executable(action), active)
        steps.append((active, obs_BO, action, step.reward))
        going = ~(step.terminated | step.truncated)
        obs_BO, active = step.obs[going], active[going]
    columns = [np.zeros((envs.n, len(steps), *x.shape[1:]), x.dtype) for x in steps[0][1:]]
    length_E = np.zeros(envs.n, np.int64)
    for t, (rows, *values) in enumerate(steps):
        length_E[rows] = t + 1
        for column, value in zip(columns, values, strict=True):
            column[rows, t] = value
    obs_ETO, action, reward_ET = columns
    logp_ET = actor.log_prob_entropy(torch.from_numpy(see(obs_ETO)), torch.from_numpy(action))[0].numpy()
    return Trajectories(obs_ETO, action, reward_ET, length_E, logp_ET)


def collect_steps(
    steps: int, new_envs: Callable[[], VecEnv], spec: EnvSpec, actor: Actor, generator: torch.Generator
) -> Trajectories:
    """Rounds of whole episodes, each in `new_envs()`, until there are `steps` steps: none is cut, so short ones are not
    favoured."""
    parts: list[Trajectories] = []
    while sum(part.length_E.sum() for part in parts) < steps:
        envs = new_envs()
        parts.append(collect(envs, spec, actor, generator))
        envs.close()
    return Trajectories.join(parts)
