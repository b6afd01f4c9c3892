"""Networks that act: an MLP with a categorical or a Gaussian head, and running normalisation of what goes in.

Shapes: N samples, O observation dims, A action dims or number of actions. Everything a loss needs from an actor is
`log_prob_entropy`; everything a rollout needs is `sample`, whose noise the caller draws.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlexp.envs import EnvSpec
from rlexp.params import Params, param

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU, "silu": nn.SiLU}


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(Params):
    """The policy network and where its weights come from."""

    hidden: list[int] = param("width of each hidden layer; [] is a linear policy", unit="units", ge=1)
    activation: str = param("non-linearity between layers", choices=tuple(ACTIVATIONS))
    orthogonal: bool = param("orthogonal initial weights (gain √2, last layer 0.01); false: PyTorch's default")
    log_std: float = param("initial log standard deviation of continuous actions")
    init: str | None = param("run folder or policy file whose weights to start from")


class MLP(nn.Sequential):
    """Layers one after another, without the hooks that calling a module looks for: half the cost of a small one."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self._modules.values():
            x = layer.forward(x)  # type: ignore[union-attr]
        return x


def mlp(sizes: Sequence[int], activation: str, *, orthogonal: bool = False, last_gain: float = 1.0) -> MLP:
    """Linear layers of `sizes` with `activation` between. Orthogonal: gain √2, `last_gain` at the end, zero bias."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        linear, last = nn.Linear(n_in, n_out), i == len(sizes) - 2
        if orthogonal:
            nn.init.orthogonal_(linear.weight, last_gain if last else math.sqrt(2))
            nn.init.zeros_(linear.bias)
        layers += [linear] if last else [linear, ACTIVATIONS[activation]()]
    return MLP(*layers)


class Actor(nn.Module, ABC):
    """A network and the distribution over actions that its output stands for."""

    def __init__(
        self,
        kind: str,
        obs_dim: int,
        n_actions: int,
        hidden: Sequence[int],
        activation: str,
        orthogonal: bool = False,
        log_std: float | None = None,
    ):
        super().__init__()
        self.spec: dict[str, Any] = {
            "kind": kind,
            "obs_dim": obs_dim,
            "n_actions": n_actions,
            "hidden": list(hidden),
            "activation": activation,
        }
        self.body = mlp([obs_dim, *hidden, n_actions], activation, orthogonal=orthogonal, last_gain=0.01)
        if log_std is not None:
            self.log_std = nn.Parameter(torch.full((n_actions,), float(log_std)))

    def forward(self, obs_NO: Tensor) -> Tensor:
        return self.body(obs_NO)

    @abstractmethod
    def noise(self, n: Sequence[int], generator: torch.Generator | None) -> Tensor:
        """Noise of shape (*n, A) from which `sample` makes actions."""

    @abstractmethod
    def sample(self, obs_NO: Tensor, noise_NA: Tensor) -> Tensor:
        """Actions drawn from the distributions, made from `noise_NA`."""

    @abstractmethod
    def mode(self, obs_NO: Tensor) -> Tensor:
        """The most likely actions."""

    @abstractmethod
    def log_prob_entropy(self, obs_NO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability (N,) of each action, summed over action dims, and entropy (N,) of each distribution."""


class CategoricalActor(Actor):
    """One of A actions; the network's output are logits."""

    def noise(self, n: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return -torch.empty(*n, self.spec["n_actions"]).exponential_(generator=generator).log_()  # Gumbel

    def sample(self, obs_NO: Tensor, noise_NA: Tensor) -> Tensor:
        return (self(obs_NO) + noise_NA).argmax(-1)  # Gumbel-max: an exact sample of softmax(logits)

    def mode(self, obs_NO: Tensor) -> Tensor:
        return self(obs_NO).argmax(-1)

    def log_prob_entropy(self, obs_NO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        logp_NA = self(obs_NO).log_softmax(-1)
        return logp_NA.gather(-1, action.unsqueeze(-1)).squeeze(-1), -(logp_NA.exp() * logp_NA).sum(-1)


class GaussianActor(Actor):
    """Independent Gaussians; the network's output are means, the log standard deviations do not depend on the state."""

    log_std: nn.Parameter

    def noise(self, n: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return torch.randn(*n, self.spec["n_actions"], generator=generator)

    def sample(self, obs_NO: Tensor, noise_NA: Tensor) -> Tensor:
        return self(obs_NO) + self.log_std.exp() * noise_NA

    def mode(self, obs_NO: Tensor) -> Tensor:
        return self(obs_NO)

    def log_prob_entropy(self, obs_NO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        z_NA = (action - self(obs_NO)) * torch.exp(-self.log_std)
        logp = -0.5 * (z_NA * z_NA).sum(-1) - (self.log_std + 0.5 * math.log(2 * math.pi)).sum()
        entropy = (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
        return logp, entropy.expand_as(logp)


def make_actor(
    kind: str,
    obs_dim: int,
    n_actions: int,
    *,
    hidden: Sequence[int],
    activation: str,
    orthogonal: bool = False,
    log_std: float = 0.0,
) -> Actor:
    """An actor for "discrete" or "continuous" actions. `log_std` is the initial one, of continuous actions."""
    if kind == "discrete":
        return CategoricalActor(kind, obs_dim, n_actions, hidden, activation, orthogonal)
    return GaussianActor(kind, obs_dim, n_actions, hidden, activation, orthogonal, log_std)


class ActorCritic(nn.Module):
    """A policy and a value function, two networks of the same shape."""

    def __init__(self, env: EnvSpec, policy: PolicyConfig):
        super().__init__()
        self.actor = make_actor(
            env.kind,
            env.obs_dim,
            env.n_actions,
            hidden=policy.hidden,
            activation=policy.activation,
            orthogonal=policy.orthogonal,
            log_std=policy.log_std,
        )
        self.critic = mlp([env.obs_dim, *policy.hidden, 1], policy.activation, orthogonal=policy.orthogonal)

    @torch.no_grad()
    def value(self, obs: np.ndarray) -> np.ndarray:
        """V of observations (…, O), as (…)."""
        return self.critic(torch.from_numpy(obs)).squeeze(-1).numpy()


class Normaliser:
    """Running mean and variance over the first axis (Chan et al. 1979), in float64."""

    def __init__(self, width: int, clip: float = 10.0):
        self.mean, self.var, self.count, self.clip = np.zeros(width), np.ones(width), 0.0, clip
        self._cache()

    def _cache(self) -> None:
        self._mean = self.mean.astype(np.float32)
        self._scale = (1 / np.sqrt(self.var + 1e-8)).astype(np.float32)

    def update(self, x_NO: np.ndarray) -> None:
        """Take N more samples into the statistics."""
        n, mean, var = len(x_NO), x_NO.mean(0, dtype=np.float64), x_NO.var(0, dtype=np.float64)
        total = self.count + n
        gap = mean - self.mean
        self.var = (self.var * self.count + var * n + gap**2 * self.count * n / total) / total
        self.mean = self.mean + gap * n / total
        self.count = total
        self._cache()

    def __call__(self, x_NO: np.ndarray) -> np.ndarray:
        """(x − mean) / std, clipped, float32."""
        return np.clip((x_NO - self._mean) * self._scale, -self.clip, self.clip)

    def scale(self, x_N: np.ndarray) -> np.ndarray:
        """x / std, clipped: for rewards, whose mean must stay."""
        return np.clip(x_N * self._scale, -self.clip, self.clip)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "var": self.var, "count": self.count, "clip": self.clip}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mean, self.var = np.asarray(state["mean"]), np.asarray(state["var"])
        self.count, self.clip = float(state["count"]), float(state["clip"])
        self._cache()
