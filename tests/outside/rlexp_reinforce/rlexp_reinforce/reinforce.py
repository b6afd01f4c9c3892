"""REINFORCE with a linear softmax policy: θ ← θ + lr Σ_t (G_t − mean G) ∇ log π(a_t | s_t)."""

from dataclasses import dataclass

import numpy as np
import torch

from rlexp.algos.base import Algorithm, Progress
from rlexp.policies.base import Policy
from rlexp.util.params import Params, param


class LinearPolicy(Policy):
    def __init__(self, weight_OA, explore=False):
        self.weight_OA, self.explore = weight_OA.clone(), explore
        self.rng = np.random.default_rng(0)

    def start(self, batch, rng):
        self.rng = rng

    def act(self, obs_BO):
        logits_BA = features(obs_BO) @ self.weight_OA.numpy()
        if self.explore:
            logits_BA = logits_BA + self.rng.gumbel(size=logits_BA.shape)
        return logits_BA.argmax(1)

    def spec(self):
        return {"explore": self.explore}

    def state_dict(self):
        return {"weight": self.weight_OA}

    @classmethod
    def from_spec(cls, spec, state):
        return cls(state["weight"], spec["explore"])


class Reinforce(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        lr: float = param("step size", gt=0)
        episodes: int = param("episodes of an iteration", ge=2)

    actions = frozenset({"discrete"})
    ignores = frozenset({"hidden", "activation", "orthogonal", "log_std", "residual", "bounded", "init"})
    state = ("weight_OA", "rng", "iteration")

    def __init__(self, config, task):
        self.config, self.task, self.rng, self.iteration = config, task, task.rng("explore"), 0
        self.weight_OA = torch.zeros(task.spec.obs_dim + 1, task.spec.n_actions, dtype=torch.float64)

    def step(self):
        envs = self.task.envs(self.config.episodes, self.iteration, autoreset=False)
        self.iteration += 1
        policy = self.policy(explore=True)
        policy.start(envs.n, self.rng)
        obs_BO, steps = envs.reset(), []
        total_E = np.zeros(envs.n)
        for active, action_N, step in envs.episodes(obs_BO, lambda obs_BO, active: policy.act(obs_BO)[active]):
            steps.append((active, obs_BO[active], action_N, step.reward))
            total_E[active] += step.reward
        envs.close()
        togo_E, gradient_OA = total_E.copy(), np.zeros(self.weight_OA.shape)
        for active, obs_NO, action_N, reward_N in steps:
            x_NO = features(obs_NO)
            logits_NA = x_NO @ self.weight_OA.numpy()
            prob_NA = np.exp(logits_NA - logits_NA.max(1, keepdims=True))
            prob_NA /= prob_NA.sum(1, keepdims=True)
            score_NA = np.eye(prob_NA.shape[1])[action_N] - prob_NA
            gradient_OA += x_NO.T @ (score_NA * (togo_E[active] - total_E.mean())[:, None])
            togo_E[active] -= reward_N
        self.weight_OA = self.weight_OA + self.config.lr / envs.n * torch.from_numpy(gradient_OA)
        count = sum(len(active) for active, *_ in steps)
        return Progress(count, 1, {"data/return_mean": float(total_E.mean())})

    def policy(self, *, explore=False):
        return LinearPolicy(self.weight_OA, explore)


def features(obs_BO):
    return np.concatenate([obs_BO, np.ones((len(obs_BO), 1))], 1).astype(np.float64)
