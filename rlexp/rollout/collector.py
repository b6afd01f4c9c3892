"""Running policies: whole episodes for evaluation; fixed-length rollouts and whole trajectories for learning."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from rlexp.buffers.trajectories import Trajectories
from rlexp.envs.spec import EnvSpec
from rlexp.envs.vector import VecEnv
from rlexp.nn.actors import Actor, Normaliser


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
        self.envs = envs
        self.spec = spec
        self.obs_BO = envs.reset()
        self.total_B = np.zeros(envs.n)
        self.length_B = np.zeros(envs.n, np.int64)

    @torch.no_grad()
    def collect(
        self, actor: Actor, steps: int, generator: torch.Generator, normaliser: Normaliser | None = None
    ) -> Rollout:
        """`steps` steps in each environment. The simulator gets clipped actions; the rollout keeps them as sampled."""
        n = self.envs.n
        width = self.obs_BO.shape[1]
        noise_TBA = actor.noise([steps, n], generator)
        obs_TBO = np.empty((steps, n, width), np.float32)
        reward_TB = np.empty((steps, n), np.float32)
        terminated_TB = np.empty((steps, n), bool)
        truncated_TB = np.empty((steps, n), bool)
        actions = []
        cut = [np.empty((0, width), np.float32)]
        returns = []
        lengths = []
        for t in range(steps):
            obs_TBO[t] = self.obs_BO
            x = normaliser(self.obs_BO) if normaliser else self.obs_BO
            action = actor.sample(torch.from_numpy(x), noise_TBA[t]).numpy()
            step = self.envs.step(self.spec.executable(action))
            actions.append(action)
            reward_TB[t] = step.reward
            terminated_TB[t] = step.terminated
            truncated_TB[t] = step.truncated
            self.obs_BO = step.obs
            self.total_B += step.reward
            self.length_B += 1
            ended = step.terminated | step.truncated
            if ended.any():
                cut.append(step.final_obs[step.truncated])
                returns += self.total_B[ended].tolist()
                lengths += self.length_B[ended].tolist()
                self.total_B[ended] = 0
                self.length_B[ended] = 0
        action_TB = np.stack(actions)
        for obs in (obs_TBO, self.obs_BO, *cut):
            self.envs.require_finite(obs, reward_TB, action_TB)
        return Rollout(
            obs_TBO,
            action_TB,
            reward_TB,
            terminated_TB,
            truncated_TB,
            self.obs_BO,
            np.concatenate(cut),
            returns,
            lengths,
        )


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
    chosen_T: list[np.ndarray] = []  # as sampled, before they are clipped

    def see(obs: np.ndarray) -> torch.Tensor:
        if normaliser is not None:
            obs = normaliser(obs)
        return torch.from_numpy(obs)

    def act(obs_BO: np.ndarray, active: np.ndarray) -> np.ndarray:
        x = see(obs_BO[active])
        if generator is None:
            action = actor.mode(x).numpy()
        else:
            action = actor.sample(x, actor.noise([len(x)], generator)).numpy()
        chosen_T.append(action)
        return spec.executable(action)

    obs_BO = envs.reset()
    env_T = []
    obs_T = []
    reward_T = []
    for active, _, step in envs.episodes(obs_BO, act):
        env_T.append(active)
        obs_T.append(obs_BO[active])
        reward_T.append(step.reward)
    obs_ETO = _side_by_side(envs.n, env_T, obs_T)
    action = _side_by_side(envs.n, env_T, chosen_T)
    reward_ET = _side_by_side(envs.n, env_T, reward_T)
    length_E = np.bincount(np.concatenate(env_T))
    logp_ET = actor.log_prob_entropy(see(obs_ETO), torch.from_numpy(action))[0].numpy()
    return Trajectories(obs_ETO, action, reward_ET, length_E, logp_ET)


def _side_by_side(n: int, env_T: list[np.ndarray], value_T: list[np.ndarray]) -> np.ndarray:
    """(n, T, …), zero where an episode has ended: row i of `value_T[t]` is of environment `env_T[t][i]`."""
    out = np.zeros((n, len(value_T), *value_T[0].shape[1:]), value_T[0].dtype)
    for t, env in enumerate(env_T):
        out[env, t] = value_T[t]
    return out


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
