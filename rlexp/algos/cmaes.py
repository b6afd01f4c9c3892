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
from rlexp.policies.start import is_foreign_policy
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
        self.env = env
        self.hidden = list(hidden)
        self.activation = activation
        self.explore = explore
        self.x_PN = torch.from_numpy(np.array(x_PN, np.float64)).to(device)
        self._activate = ACTIVATIONS[activation]()
        self._layers = self._unpacked()
        self.start(1, np.random.default_rng(0))

    def _unpacked(self) -> list[tuple[Tensor, Tensor]]:
        """Weights (P, in, out) and biases (P, 1, out) of each layer."""
        layers = []
        start = 0
        for n_in, n_out in pairwise(self.sizes(self.env, self.hidden)):
            middle = start + n_in * n_out
            end = middle + n_out
            w_POI = self.x_PN[:, start:middle].reshape(len(self.x_PN), n_out, n_in)
            b_PO = self.x_PN[:, middle:end]
            layers.append((w_POI.transpose(1, 2).contiguous(), b_PO.unsqueeze(1)))
            start = end
        return layers

    @property
    def samples(self) -> bool:
        return self.explore and self.env.kind == "discrete"

    @staticmethod
    def sizes(env: EnvSpec, hidden: Sequence[int]) -> list[int]:
        """Widths of all layers, input to output."""
        n_out = env.n_actions
        if env.kind == "discrete" and n_out == 2:
            n_out = 1
        return [env.obs_dim, *hidden, n_out]

    @staticmethod
    def n_parameters(env: EnvSpec, hidden: Sequence[int]) -> int:
        return sum((n_in + 1) * n_out for n_in, n_out in pairwise(CMAESPolicy.sizes(env, hidden)))

    def start(self, batch: int, rng: np.random.Generator) -> None:
        self.rng = rng

    @torch.no_grad()
    def act(self, obs_BO: np.ndarray) -> np.ndarray:
        b = len(obs_BO)
        p = len(self.x_PN)
        obs = torch.from_numpy(np.array(obs_BO, np.float64)).to(self.x_PN.device)
        out_PEA = self._outputs(obs.reshape(p, b // p, self.env.obs_dim)).cpu()
        if self.env.kind == "continuous":
            return self.env.executable(out_PEA.reshape(b, -1).float().numpy())
        logits_PEA = out_PEA.numpy()
        if logits_PEA.shape[-1] == 1:  # the softmax of (z, 0) is (sigmoid(z), 1 − sigmoid(z))
            logits_PEA = np.concatenate([logits_PEA, np.zeros_like(logits_PEA)], -1)
        if self.explore:  # Gumbel-max: an exact sample; the same noise for all candidates
            logits_PEA = logits_PEA + self.rng.gumbel(size=logits_PEA.shape[1:])
        return logits_PEA.argmax(-1).reshape(b)

    def _outputs(self, x_PEI: Tensor) -> Tensor:
        """Of the last layer, (P, E, A)."""
        for i, (w_PIO, b_P1O) in enumerate(self._layers):
            if i > 0:
                x_PEI = self._activate(x_PEI)
            x_PEI = torch.baddbmm(b_P1O, x_PEI, w_PIO)
        return x_PEI

    def spec(self) -> dict[str, Any]:
        env = {
            "obs_dim": self.env.obs_dim,
            "kind": self.env.kind,
            "n_actions": self.env.n_actions,
            **self.env.bounds,
        }
        return {
            "env": env,
            "hidden": self.hidden,
            "activation": self.activation,
            "explore": self.explore,
        }

    def state_dict(self) -> dict[str, Tensor]:
        return {"x": self.x_PN}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], state: Mapping[str, Tensor]) -> CMAESPolicy:
        stored = spec["env"]
        env = EnvSpec.with_bounds(
            stored["obs_dim"],
            stored["kind"],
            stored["n_actions"],
            stored,
        )
        return cls(
            state["x"].numpy(),
            env,
            spec["hidden"],
            spec["activation"],
            spec["explore"],
        )


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
        self.mean = mean
        self.kept = kept
        self.eps = eps
        self.deviations_KN = np.zeros((0, len(mean)))
        self.std = sigma

    def ask(self, n: int, rng: np.random.Generator) -> np.ndarray:
        spread_PN = rng.standard_normal((n, len(self.mean)))
        along_PK = rng.standard_normal((n, len(self.deviations_KN)))
        # covariance std² I + DᵀD
        return self.mean + self.std * spread_PN + along_PK @ self.deviations_KN

    def tell(self, x_PN: np.ndarray) -> None:
        elite_KN = x_PN[: self.kept]
        self.mean = elite_KN.mean(0)
        self.deviations_KN = (elite_KN - self.mean) / math.sqrt(self.kept - 1)
        self.std = math.sqrt(self.eps)

    def variances(self) -> np.ndarray:
        singular: np.ndarray = np.zeros(0)
        if len(self.deviations_KN):
            singular = np.linalg.svd(self.deviations_KN, compute_uv=False)
        missing = len(self.mean) - len(singular)
        return self.std**2 + np.pad(singular**2, (0, missing))


class Full(Search):
    """CMA-ES with evolution paths, step size, rank-one and rank-μ updates and negative weights.

    Default constants of the tutorial's table 1; c_μ is that of its first edition, of 2016. Step by step the package
    `cmaes`, whose h_σ counts generations one further than the tutorial does.
    """

    state = (
        "mean",
        "cov",
        "path_cov",
        "path_sigma",
        "sigma",
        "axes",
        "scales",
        "generation",
    )

    def __init__(self, mean: np.ndarray, sigma: float, population: int):
        n = len(mean)
        self.kept = population // 2  # μ
        self._weigh(n, population)
        self._set_rates(n)
        self.chi_n = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))  # E‖N(0, I)‖
        self.mean = mean  # m
        self.sigma = sigma  # σ
        self.cov = np.eye(n)  # C = B diag(scales²) Bᵀ
        self.axes = np.eye(n)  # B
        self.scales = np.ones(n)
        self.path_cov = np.zeros(n)  # p_c
        self.path_sigma = np.zeros(n)  # p_σ
        self.generation = 0

    def _weigh(self, n: int, population: int) -> None:
        """The weight w_i of each rank, and the learning rates of C that depend on them."""
        mu = self.kept
        w = math.log((population + 1) / 2) - np.log(np.arange(1, population + 1))  # (49)
        mu_eff = w[:mu].sum() ** 2 / (w[:mu] ** 2).sum()  # (8)
        mu_neg = w[mu:].sum() ** 2 / (w[mu:] ** 2).sum()
        c1 = 2 / ((n + 1.3) ** 2 + mu_eff)  # (57)
        c_mu = 2 * (mu_eff - 2 + 1 / mu_eff) / ((n + 2) ** 2 + mu_eff)  # (58)
        c_mu = min(1 - c1 - 1e-8, c_mu)
        negative = min(
            1 + c1 / c_mu,  # (50)
            1 + 2 * mu_neg / (mu_eff + 2),  # (51)
            (1 - c1 - c_mu) / (n * c_mu),  # (52)
        )
        positive_w = w / w[w > 0].sum()
        negative_w = w * negative / -w[w < 0].sum()
        self.w = np.where(w >= 0, positive_w, negative_w)  # (53)
        self.mu_eff = mu_eff
        self.c1 = c1
        self.c_mu = c_mu

    def _set_rates(self, n: int) -> None:
        """How fast paths and σ change."""
        mu_eff = self.mu_eff
        self.c_sigma = (mu_eff + 2) / (n + mu_eff + 5)  # (55)
        excess = max(0.0, math.sqrt((mu_eff - 1) / (n + 1)) - 1)
        self.d_sigma = 1 + 2 * excess + self.c_sigma  # (55)
        self.c_c = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)  # (56)

    def ask(self, n: int, rng: np.random.Generator) -> np.ndarray:
        z_PN = rng.standard_normal((n, len(self.mean)))  # (38)
        return self.mean + self.sigma * (z_PN * self.scales) @ self.axes.T  # (39, 40)

    def tell(self, x_PN: np.ndarray) -> None:
        mu = self.kept
        y_PN = (x_PN - self.mean) / self.sigma
        whitened_PN = y_PN @ (self.axes / self.scales) @ self.axes.T  # C^(−1/2) y
        step = self.w[:mu] @ y_PN[:mu]  # (41)
        self.mean = self.mean + self.sigma * step  # (42) with c_m = 1 (54)
        length = self._adapt_sigma(self.w[:mu] @ whitened_PN[:mu])
        self.generation += 1
        self._adapt_cov(y_PN, whitened_PN, step, self._heaviside(length))
        squared, self.axes = np.linalg.eigh(self.cov)
        self.scales = np.sqrt(np.where(squared < 0, 1e-8, squared))

    def _adapt_sigma(self, whitened_step: np.ndarray) -> float:
        """Move p_σ and σ; the length of p_σ."""
        c = self.c_sigma
        push = math.sqrt(c * (2 - c) * self.mu_eff) * whitened_step
        self.path_sigma = (1 - c) * self.path_sigma + push  # (43)
        length = float(np.linalg.norm(self.path_sigma))
        grows = length / self.chi_n - 1
        self.sigma = self.sigma * math.exp(c / self.d_sigma * grows)  # (44)
        return length

    def _heaviside(self, length: float) -> float:
        """h_σ: 0 where p_σ is long, so that σ is still far too small, and p_c stalls, lest C grow in
        its place; else 1."""
        n = len(self.mean)
        remembered = 1 - (1 - self.c_sigma) ** (2 * (self.generation + 1))
        expected = math.sqrt(remembered) * self.chi_n
        return float(length < (1.4 + 2 / (n + 1)) * expected)

    def _adapt_cov(
        self,
        y_PN: np.ndarray,
        whitened_PN: np.ndarray,
        step: np.ndarray,
        h: float,
    ) -> None:
        """Move p_c and C."""
        c = self.c_c
        push = h * math.sqrt(c * (2 - c) * self.mu_eff) * step
        self.path_cov = (1 - c) * self.path_cov + push  # (45)
        # Negative weights are divided by their samples' squared lengths, so that C stays positive
        # definite.
        squared_P = (whitened_PN**2).sum(1) + 1e-8
        w = np.where(self.w >= 0, self.w, self.w * len(self.mean) / squared_P)  # (46)
        rank_one = np.outer(self.path_cov, self.path_cov)
        rank_mu = (y_PN.T * w) @ y_PN
        decay = 1 + self.c1 * (1 - h) * c * (2 - c) - self.c1 - self.c_mu * self.w.sum()
        cov = decay * self.cov + self.c1 * rank_one + self.c_mu * rank_mu  # (47)
        self.cov = (cov + cov.T) / 2

    def variances(self) -> np.ndarray:
        return (self.sigma * self.scales) ** 2


class CMAES(Algorithm):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        variant: str = param(
            "elites: mean and covariance of the best; full: CMA-ES",
            choices=("elites", "full"),
        )
        population_size: int | None = param(
            "candidates per generation; null: 4 + ⌊3 ln n⌋, full only",
            ge=4,
            source="(48)",
        )
        elite_fraction: float = param("share of the population that is kept (elites)", gt=0, le=1)
        eps: float = param("variance added along every axis (elites)", ge=0)
        sigma0: float = param("initial standard deviation of every parameter", gt=0)
        num_episodes: int = param(
            "episodes of each candidate, the same ones for all",
            unit="episodes",
            ge=1,
        )
        sample: bool = param(
            "candidates sample discrete actions, instead of taking the most likely one",
        )

    clock = "updates"
    devices = frozenset({"cpu", "cuda"})
    ignores = frozenset({"residual", "bounded", "log_std"})
    state = ("search", "generation")

    def __init__(self, config: Config, task: Task):
        self.config = config
        self.task = task
        self.generation = 0
        n = CMAESPolicy.n_parameters(task.spec, task.policy.hidden)
        self.population = config.population_size or 4 + math.floor(3 * math.log(n))  # (48)
        mean = start_parameters(task) if task.policy.init else np.zeros(n)
        if config.variant == "elites":
            kept = round(self.population * config.elite_fraction)
            self.search: Search = Elites(mean, config.sigma0, kept, config.eps)
        elif n > MAX_FULL:
            raise UserError(
                "algo.variant=full: decomposes an n × n covariance every generation, and this "
                f"policy has n = {n:,} parameters (at most {MAX_FULL:,}); use policy=linear or "
                "algo.variant=elites"
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
                "elite_fraction",
                f"keeps fewer than 2 of {config.population_size}: they have no covariance",
            )

    def step(self) -> Progress:
        x_PN = self.search.ask(self.population, self.task.rng("batch", self.generation))
        return_P, steps = self._play(x_PN)
        # best first; a NaN comes last, and the run stops at data/return_mean
        order_P = np.argsort(-return_P, kind="stable")
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
        if len(mean) > 3:
            return {}
        return {f"state/mean_{i}": float(m) for i, m in enumerate(mean)}

    def _play(self, x_PN: np.ndarray) -> tuple[np.ndarray, int]:
        """Mean return (P,) of each candidate, and env steps played. New simulators: some remember
        past episodes."""
        episodes = self.config.num_episodes
        stream = seeding.stream(self.task.seed, "train_env", self.generation)
        seeds = seeding.env_seeds(stream, episodes) * len(x_PN)
        envs = VecEnv(self.task.env, seeds, autoreset=False)
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
        net = self.task.policy
        return CMAESPolicy(x_PN, self.task.spec, net.hidden, net.activation, explore, device)

    def policy(self, *, explore: bool = False) -> CMAESPolicy:
        return self._policy(self.search.mean[None], explore)


def start_parameters(task: Task) -> np.ndarray:
    """Parameters (n,) of the policy that `policy.init` names. Raises UserError if it is not this
    run's kind."""
    with said_of(f"policy.init={task.policy.init}"):
        if is_foreign_policy(task.policy):
            raise UserError("is a file of another program; CMA-ES goes on from a policy of its own")
        policy = load_policy(str(task.policy.init)).policy
        if not isinstance(policy, CMAESPolicy):
            raise UserError(f"holds a {policy.kind} policy, not one of CMA-ES")
        theirs = _described(policy.env, policy.hidden, policy.activation)
        ours = _described(task.spec, task.policy.hidden, task.policy.activation)
        if theirs != ours:
            raise UserError(f"has {theirs}; this run's policy has {ours}")
    return policy.x_PN[0].numpy()


def _described(env: EnvSpec, hidden: Sequence[int], activation: str) -> str:
    text = f"{env.kind} actions and layers of {CMAESPolicy.sizes(env, hidden)}"
    return f"{text}, {activation}" if hidden else text
