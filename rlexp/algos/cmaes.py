"""Covariance matrix adaptation evolution strategy: search for policy weights by sampling them, no gradients.

Hansen 2023, "The CMA Evolution Strategy: A Tutorial" (arXiv:1604.00772); Hansen & Ostermeier 2001. Each generation
draws P parameter vectors from a Gaussian, plays every one on the same episodes, and moves the Gaussian to the best.

    variant elites, the course's:          x ~ N(m, C);   m ← mean of the best K,   C ← Cov(best K) + ε I
        Cov is about the elites' own new mean and divides by K − 1, like np.cov. No step size: ε alone keeps C from
        shrinking to nothing.
    variant full (numbers of the tutorial's equations at the lines below):   x ~ N(m, σ² C)
        m ← Σ_{i≤μ} w_i x_i                                the better, the more weight
        σ grows while steps of m point the same way, shrinks while they cancel (path p_σ, cumulative step-size)
        C ← decay · C + c_1 p_c p_cᵀ + c_μ Σ_i w_i y_i y_iᵀ     rank one and rank μ; the worse half has negative weights

Policies: a linear map or an MLP. Continuous actions are its output, clipped to the box. Two discrete actions are one
logit: P(action 0) = sigmoid(s·w + b), so CartPole's parameters are x = (w, b) ∈ R⁵ and action 0 is LEFT. More of them
are a softmax. Of an environment without observations the parameters are the action itself.

One generation is one set of episode seeds and one sequence of action noise, shared by all candidates: they differ by
their parameters alone. Equal returns keep the order in which they were sampled. What is reported, saved and evaluated
is the mean m on fresh episodes, never the luckiest candidate.

Metrics: opt/sigma is the root mean variance over all axes, opt/condition the largest variance over the smallest,
state/mean_i the mean itself where it has at most three numbers, data/return_elite the mean over the best K (or μ).

Shapes: P candidates, E episodes of each, n parameters, K elites; candidate p's episode e is environment p·E + e.
Units: parameters have none; float64 throughout. Clock: updates (generations).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlexp.algos.base import Algorithm, Progress, Task
from rlexp.envs.spec import EnvSpec
from rlexp.envs.vector import VecEnv
from rlexp.nn.actors import ACTIVATIONS
from rlexp.policies.base import Policy
from rlexp.policies.files import load_policy
from rlexp.rollout.evaluation import play_steps
from rlexp.util import seeding
from rlexp.util.errors import UserError, said_of
from rlexp.util.params import OutOfRange, Params, param

MAX_FULL = 2000  # parameters: decomposing a larger covariance takes longer than a few seconds


class CMAESPolicy(Policy, kind="cmaes"):
    """P policies of one shape at once. Acts by the most likely action, or with `explore` by a sampled one (discrete).

    `x_PN` holds each policy's n numbers, layer by layer: weights (out, in) row by row, then biases (out).
    """

    def __init__(
        self,
        x_PN: np.ndarray,
        env: EnvSpec,
        hidden: Sequence[int],
        activation: str,
        explore: bool = False,
        device: str = "cpu",
    ):
        self.env, self.hidden, self.activation, self.explore = env, list(hidden), activation, explore
        self.x_PN = torch.from_numpy(np.array(x_PN, np.float64)).to(device)
        self._activate = ACTIVATIONS[activation]()
        self._layers: list[tuple[Tensor, Tensor]] = []  # weights (P, in, out) and biases (P, 1, out)
        start = 0
        for n_in, n_out in pairwise(self.sizes(env, hidden)):
            w_PN, b_PN = self.x_PN[:, start : start + n_in * n_out], self.x_PN[:, start + n_in * n_out :][:, :n_out]
            self._layers.append((w_PN.reshape(len(w_PN), n_out, n_in).transpose(1, 2).contiguous(), b_PN.unsqueeze(1)))
            start += (n_in + 1) * n_out
        self.start(1, np.random.default_rng(0))

    @property
    def samples(self) -> bool:
        return self.explore and self.env.kind == "discrete"

    @staticmethod
    def sizes(env: EnvSpec, hidden: Sequence[int]) -> list[int]:
        """Widths of all layers, input to output."""
        binary = env.kind == "discrete" and env.n_actions == 2
        return [env.obs_dim, *hidden, 1 if binary else env.n_actions]

    @staticmethod
    def n_parameters(env: EnvSpec, hidden: Sequence[int]) -> int:
        return sum((n_in + 1) * n_out for n_in, n_out in pairwise(CMAESPolicy.sizes(env, hidden)))

    def start(self, batch: int, rng: np.random.Generator) -> None:
        self.rng = rng

    @torch.no_grad()
    def act(self, obs_BO: np.ndarray) -> np.ndarray:
        b, p = len(obs_BO), len(self.x_PN)
        obs_BO = np.array(obs_BO, np.float64)
        out_PEA = torch.from_numpy(obs_BO).to(self.x_PN.device).reshape(p, b // p, self.env.obs_dim)
        for i, (w_PIO, b_P1O) in enumerate(self._layers):
            out_PEA = torch.baddbmm(b_P1O, self._activate(out_PEA) if i else out_PEA, w_PIO)
        out_PEA = out_PEA.cpu()
        if self.env.kind == "continuous":
            return self.env.executable(out_PEA.reshape(b, -1).float().numpy())
        logits_PEA = out_PEA.numpy()
        if logits_PEA.shape[-1] == 1:  # the softmax of (z, 0) is (sigmoid(z), 1 − sigmoid(z))
            logits_PEA = np.concatenate([logits_PEA, np.zeros_like(logits_PEA)], -1)
        if self.explore:  # Gumbel-max: an exact sample; the same noise for all candidates
            logits_PEA = logits_PEA + self.rng.gumbel(size=logits_PEA.shape[1:])
        return logits_PEA.argmax(-1).reshape(b)

    def spec(self) -> dict[str, Any]:
        sizes = {"obs_dim": self.env.obs_dim, "kind": self.env.kind, "n_actions": self.env.n_actions}
        env = {**sizes, **self.env.bounds}
        return {"env": env, "hidden": self.hidden, "activation": self.activation, "explore": self.explore}

    def state_dict(self) -> dict[str, Tensor]:
        return {"x": self.x_PN}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> CMAESPolicy:
        stored = spec["env"]
        env = EnvSpec.with_bounds(stored["obs_dim"], stored["kind"], stored["n_actions"], stored)
        return cls(state["x"].numpy(), env, spec["hidden"], spec["activation"], spec["explore"])


class Search(ABC):
    """A Gaussian over R^n and how it moves. `tell` binds new arrays and writes into none: states share them."""

    state: ClassVar[tuple[str, ...]]
    mean: np.ndarray  # (n,)
    kept: int  # K or μ: how many of the best the new mean is made of

    @abstractmethod
    def ask(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """`n` samples (n, N)."""

    @abstractmethod
    def tell(self, x_PN: np.ndarray) -> None:
        """Move, given one generation's samples, best first."""

    @abstractmethod
    def variances(self) -> np.ndarray:
        """Eigenvalues (n,) of the Gaussian's covariance."""

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self.state:
            setattr(self, name, state[name])


class Elites(Search):
    """The course's variant. C = DᵀD + std² I is kept as its factors, so that no n × n matrix is ever made."""

    state = ("mean", "deviations_KN", "std")

    def __init__(self, mean: np.ndarray, sigma: float, kept: int, eps: float):
        self.mean, self.kept, self.eps = mean, kept, eps
        self.deviations_KN, self.std = np.zeros((0, len(mean))), sigma

    def ask(self, n: int, rng: np.random.Generator) -> np.ndarray:
        spread, along = rng.standard_normal((n, len(self.mean))), rng.standard_normal((n, len(self.deviations_KN)))
        return self.mean + self.std * spread + along @ self.deviations_KN  # covariance std² I + DᵀD

    def tell(self, x_PN: np.ndarray) -> None:
        elite_KN = x_PN[: self.kept]
        self.mean = elite_KN.mean(0)
        self.deviations_KN = (elite_KN - self.mean) / math.sqrt(self.kept - 1)
        self.std = math.sqrt(self.eps)

    def variances(self) -> np.ndarray:
        singular = np.linalg.svd(self.deviations_KN, compute_uv=False) if len(self.deviations_KN) else np.zeros(0)
        return self.std**2 + np.pad(singular**2, (0, len(self.mean) - len(singular)))


class Full(Search):
    """CMA-ES with evolution paths, step size, rank-one and rank-μ updates and negative weights.

    Default constants of the tutorial's table 1; c_μ is that of its first edition, of 2016. Step by step the package
    `cmaes`, whose h_σ counts generations one further than the tutorial does.
    """

    state = ("mean", "cov", "path_cov", "path_sigma", "sigma", "axes", "scales", "generation")

    def __init__(self, mean: np.ndarray, sigma: float, population: int):
        n, lam, mu = len(mean), population, population // 2
        w = math.log((lam + 1) / 2) - np.log(np.arange(1, lam + 1))  # (49)
        self.mu_eff = mu_eff = w[:mu].sum() ** 2 / (w[:mu] ** 2).sum()  # (8)
        mu_neg = w[mu:].sum() ** 2 / (w[mu:] ** 2).sum()
        self.c1 = c1 = 2 / ((n + 1.3) ** 2 + mu_eff)  # (57)
        self.c_mu = c_mu = min(1 - c1 - 1e-8, 2 * (mu_eff - 2 + 1 / mu_eff) / ((n + 2) ** 2 + mu_eff))  # (58)
        negative = min(1 + c1 / c_mu, 1 + 2 * mu_neg / (mu_eff + 2), (1 - c1 - c_mu) / (n * c_mu))  # (50–52)
        self.w = np.where(w >= 0, w / w[w > 0].sum(), w * negative / -w[w < 0].sum())  # (53)
        self.c_sigma = (mu_eff + 2) / (n + mu_eff + 5)  # (55)
        self.d_sigma = 1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (n + 1)) - 1) + self.c_sigma  # (55)
        self.c_c = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)  # (56)
        self.chi_n = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))  # E‖N(0, I)‖
        self.mean, self.kept, self.sigma, self.generation = mean, mu, sigma, 0
        self.cov, self.axes, self.scales = np.eye(n), np.eye(n), np.ones(n)  # C = B diag(scales²) Bᵀ, B = axes
        self.path_cov, self.path_sigma = np.zeros(n), np.zeros(n)  # p_c and p_σ

    def ask(self, n: int, rng: np.random.Generator) -> np.ndarray:
        z_PN = rng.standard_normal((n, len(self.mean)))  # (38)
        return self.mean + self.sigma * (z_PN * self.scales) @ self.axes.T  # (39, 40)

    def tell(self, x_PN: np.ndarray) -> None:
        n, mu = len(self.mean), self.kept
        y_PN = (x_PN - self.mean) / self.sigma
        whitened_PN = y_PN @ (self.axes / self.scales) @ self.axes.T  # C^(−1/2) y
        step = self.w[:mu] @ y_PN[:mu]  # (41)
        self.mean = self.mean + self.sigma * step  # (42) with c_m = 1 (54)
        push = math.sqrt(self.c_sigma * (2 - self.c_sigma) * self.mu_eff) * (self.w[:mu] @ whitened_PN[:mu])
        self.path_sigma = (1 - self.c_sigma) * self.path_sigma + push  # (43)
        length = float(np.linalg.norm(self.path_sigma))
        self.sigma = self.sigma * math.exp(self.c_sigma / self.d_sigma * (length / self.chi_n - 1))  # (44)
        self.generation += 1
        # A long p_σ means that σ is still far too small: p_c stalls (h = 0), lest C grow in its place.
        expected = math.sqrt(1 - (1 - self.c_sigma) ** (2 * (self.generation + 1))) * self.chi_n
        h = float(length < (1.4 + 2 / (n + 1)) * expected)
        push = h * math.sqrt(self.c_c * (2 - self.c_c) * self.mu_eff) * step
        self.path_cov = (1 - self.c_c) * self.path_cov + push  # (45)
        # Negative weights are divided by their samples' squared lengths, so that C stays positive definite: (46)
        w = np.where(self.w >= 0, self.w, self.w * n / ((whitened_PN**2).sum(1) + 1e-8))
        rank_one, rank_mu = np.outer(self.path_cov, self.path_cov), (y_PN.T * w) @ y_PN
        decay = 1 + self.c1 * (1 - h) * self.c_c * (2 - self.c_c) - self.c1 - self.c_mu * self.w.sum()
        cov = decay * self.cov + self.c1 * rank_one + self.c_mu * rank_mu  # (47)
        self.cov = (cov + cov.T) / 2
        squared, self.axes = np.linalg.eigh(self.cov)
        self.scales = np.sqrt(np.where(squared < 0, 1e-8, squared))

    def variances(self) -> np.ndarray:
        return (self.sigma * self.scales) ** 2


class CMAES(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        variant: str = param("elites: mean and covariance of the best; full: CMA-ES", choices=("elites", "full"))
        population_size: int | None = param(
            "candidates per generation; null: 4 + ⌊3 ln n⌋, full only", ge=4, source="(48)"
        )
        elite_fraction: float = param("share of the population that is kept (elites)", gt=0, le=1)
        eps: float = param("variance added along every axis (elites)", ge=0)
        sigma0: float = param("initial standard deviation of every parameter", gt=0)
        num_episodes: int = param("episodes of each candidate, the same ones for all", unit="episodes", ge=1)
        sample: bool = param("candidates sample discrete actions, instead of taking the most likely one")

    clock = "updates"
    devices = frozenset({"cpu", "cuda"})
    ignores = frozenset({"residual", "bounded", "log_std"})
    state = ("search", "generation")

    def __init__(self, config: Config, task: Task):
        self.config, self.task, self.generation = config, task, 0
        n = CMAESPolicy.n_parameters(task.spec, task.policy.hidden)
        self.population = config.population_size or 4 + math.floor(3 * math.log(n))  # (48)
        mean = start_parameters(task) if task.policy.init else np.zeros(n)
        if config.variant == "elites":
            kept = round(self.population * config.elite_fraction)
            self.search: Search = Elites(mean, config.sigma0, kept, config.eps)
        elif n > MAX_FULL:
            raise UserError(
                "algo.variant=full: decomposes an n × n covariance every generation, and this policy has "
                f"n = {n:,} parameters (at most {MAX_FULL:,}); use policy=linear or algo.variant=elites"
            )
        else:
            self.search = Full(mean, config.sigma0, self.population)

    @classmethod
    def check(cls, config: Config, budget: int) -> None:
        if config.variant == "full":
            return
        if config.population_size is None:
            raise OutOfRange("population_size", "null is for variant full only; give a number")
        if round(config.population_size * config.elite_fraction) < 2:
            raise OutOfRange(
                "elite_fraction", f"keeps fewer than 2 of {config.population_size}: they have no covariance"
            )

    def step(self) -> Progress:
        x_PN = self.search.ask(self.population, self.task.rng("batch", self.generation))
        return_P, steps = self._play(x_PN)
        order_P = np.argsort(-return_P, kind="stable")  # a NaN comes last; the run stops at data/return_mean
        self.search.tell(x_PN[order_P])
        self.generation += 1
        variance_N = self.search.variances()
        metrics = {
            "data/return_mean": return_P.mean(),
            "data/return_elite": return_P[order_P[: self.search.kept]].mean(),
            "data/return_best": return_P[order_P[0]],
            "opt/sigma": np.sqrt(variance_N.mean()),
            "opt/condition": variance_N.max() / max(variance_N.min(), 1e-300),
        }
        return Progress(steps, 1, {name: float(value) for name, value in metrics.items()})

    def state_metrics(self) -> dict[str, float]:
        mean = self.search.mean
        return {f"state/mean_{i}": float(m) for i, m in enumerate(mean)} if len(mean) <= 3 else {}

    def _play(self, x_PN: np.ndarray) -> tuple[np.ndarray, int]:
        """Mean return (P,) of each candidate, and env steps played. New simulators: some remember past episodes."""
        episodes, sequence = self.config.num_episodes, seeding.stream(self.task.seed, "train_env", self.generation)
        envs = VecEnv(self.task.env, seeding.env_seeds(sequence, episodes) * len(x_PN), autoreset=False)
        policy = self._policy(x_PN, self.config.sample, self.task.device)
        policy.start(envs.n, self.task.rng("explore", self.generation))
        total_B = np.zeros(envs.n)
        steps = 0
        for active, _, step in play_steps(envs, envs.reset(), policy.act, policy.observe):
            total_B[active] += step.reward
            steps += len(active)
        envs.close()
        return total_B.reshape(-1, episodes).mean(1), steps

    def _policy(self, x_PN: np.ndarray, explore: bool, device: str = "cpu") -> CMAESPolicy:
        return CMAESPolicy(x_PN, self.task.spec, self.task.policy.hidden, self.task.policy.activation, explore, device)

    def policy(self, *, explore: bool = False) -> CMAESPolicy:
        return self._policy(self.search.mean[None], explore)


def start_parameters(task: Task) -> np.ndarray:
    """Parameters (n,) of the policy that `policy.init` names. Raises UserError if it is not this run's kind."""
    with said_of(f"policy.init={task.policy.init}"):
        policy, net = load_policy(str(task.policy.init)).policy, task.policy
        if not isinstance(policy, CMAESPolicy):
            raise UserError(f"holds a {policy.kind} policy, not one of CMA-ES")
        theirs, ours = (
            f"{env.kind} actions and layers of {CMAESPolicy.sizes(env, hidden)}{f', {activation}' if hidden else ''}"
            for env, hidden, activation in (
                (policy.env, policy.hidden, policy.activation),
                (task.spec, net.hidden, net.activation),
            )
        )
        if theirs != ours:
            raise UserError(f"has {theirs}; this run's policy has {ours}")
    return policy.x_PN[0].numpy()
