"""Networks that act: an MLP with a categorical, Gaussian or deterministic head, and normalisation of what goes in.

Shapes: N samples, O observation dims, A action dims or number of actions. Everything a loss needs from an actor is
`log_prob_entropy` or `imitation_loss`; everything a rollout needs is `sample`, whose noise the caller draws.
"""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from rlexp.envs.spec import EnvSpec
from rlexp.util.errors import UserError
from rlexp.util.params import OutOfRange, Params, param

ACTIVATIONS = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(Params):
    """The policy network and where its weights come from."""

    hidden: list[int] = param(
        "width of each hidden layer; [] is a linear policy",
        unit="units",
        ge=1,
        le=100_000,
    )
    activation: str = param("non-linearity between layers", choices=tuple(ACTIVATIONS))
    orthogonal: bool = param(
        "orthogonal initial weights (gain √2, last layer 0.01); false: PyTorch's default",
    )
    log_std: float = param("initial log standard deviation of continuous actions", ge=-20, le=20)
    init: str | None = param("run folder or policy file whose weights to start from", file=True)
    # Not in configs and policy files from before them, which mean the same without.
    residual: bool = field(
        default=False, metadata=param("hidden layers add to their input, where widths agree").metadata
    )
    bounded: bool = field(
        default=False, metadata=param("tanh keeps continuous mean actions within the action space").metadata
    )
    prefix: str | None = param(
        "of the actor's tensors in another program's policy.init that holds several networks", default=None
    )
    vecnormalize: str | None = param(
        "pickle of Stable-Baselines3's VecNormalize that belongs to policy.init", default=None, file=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("prefix", "vecnormalize"):
            if getattr(self, key) is not None and self.init is None:
                raise OutOfRange(key, "is about the file policy.init, which names none")


class MLP(nn.Sequential):
    """Layers one after another, without the hooks that calling a module looks for: half the cost of a small one."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self._modules.values():
            x = layer.forward(x)  # type: ignore[union-attr]
        return x


class Residual(MLP):
    """x + f(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def mlp(
    sizes: Sequence[int],
    activation: str,
    *,
    orthogonal: bool = False,
    last_gain: float = 1.0,
    residual: bool = False,
) -> MLP:
    """Linear layers of `sizes` with `activation` between. Orthogonal: gain √2, `last_gain` at the end, zero bias.
    Residual: a hidden layer as wide as the one before it adds its output to its input."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(n_in, n_out)
        last = i == len(sizes) - 2
        if orthogonal:
            nn.init.orthogonal_(linear.weight, last_gain if last else math.sqrt(2))
            nn.init.zeros_(linear.bias)
        if last:
            layers.append(linear)
        elif residual and i > 0 and n_in == n_out:
            layers.append(Residual(linear, ACTIVATIONS[activation]()))
        else:
            layers += [linear, ACTIVATIONS[activation]()]
    return MLP(*layers)


@dataclass(frozen=True)
class Shape:
    """What an actor is built from besides its weights: plain data, as it stands in policy files."""

    kind: str  # "discrete" | "continuous"
    obs_dim: int
    n_actions: int
    hidden: list[int]
    activation: str
    residual: bool = False
    bounds: list[list[float]] | None = None  # (2, A): continuous actions stay between, by a tanh
    deterministic: bool = False  # continuous actions have no spread


Bound = TypeVar("Bound", Tensor, np.ndarray)


def middle_and_reach(low: Bound, high: Bound) -> tuple[Bound, Bound]:
    """The middle of a range, and how far its ends are from there: what becomes 0 and ±1."""
    return (high + low) / 2, (high - low) / 2


class Actor(nn.Module, ABC):
    """A network and the distribution over actions that its output stands for."""

    middle: Tensor | None  # of the bounds, (A,)
    reach: Tensor | None  # from there to either bound

    def __init__(self, shape: Shape, orthogonal: bool = False):
        super().__init__()
        self.spec: dict[str, Any] = asdict(shape)
        self.body = mlp(
            [shape.obs_dim, *shape.hidden, shape.n_actions],
            shape.activation,
            orthogonal=orthogonal,
            last_gain=0.01,
            residual=shape.residual,
        )
        middle_A = reach_A = None
        if shape.bounds:
            middle_A, reach_A = middle_and_reach(*torch.tensor(shape.bounds))
        self.register_buffer("middle", middle_A, persistent=False)
        self.register_buffer("reach", reach_A, persistent=False)

    def forward(self, obs_NO: Tensor) -> Tensor:
        out_NA = self.body(obs_NO)
        if self.middle is None or self.reach is None:
            return out_NA
        return self.middle + self.reach * out_NA.tanh()

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

    def imitation_loss(self, obs_NO: Tensor, action: Tensor) -> Tensor:
        """What learning to act like a demonstrator minimises, (N,): −log π(a|s)."""
        return -self.log_prob_entropy(obs_NO, action)[0]


class CategoricalActor(Actor):
    """One of A actions; the network's output are logits."""

    def noise(self, n: Sequence[int], generator: torch.Generator | None) -> Tensor:
        exponential = torch.empty(*n, self.spec["n_actions"]).exponential_(generator=generator)
        return -exponential.log_()  # Gumbel

    def sample(self, obs_NO: Tensor, noise_NA: Tensor) -> Tensor:
        return (self(obs_NO) + noise_NA).argmax(-1)  # Gumbel-max: an exact sample of softmax(logits)

    def mode(self, obs_NO: Tensor) -> Tensor:
        return self(obs_NO).argmax(-1)

    def log_prob_entropy(self, obs_NO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        logp_NA = self(obs_NO).log_softmax(-1)
        logp_N = logp_NA.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        entropy_N = -(logp_NA.exp() * logp_NA).sum(-1)
        return logp_N, entropy_N


class GaussianActor(Actor):
    """Independent Gaussians; the network's output are means, the log standard deviations do not depend on the state."""

    def __init__(self, shape: Shape, orthogonal: bool = False, log_std: float = 0.0):
        super().__init__(shape, orthogonal)
        self.log_std = nn.Parameter(torch.full((shape.n_actions,), float(log_std)))

    def noise(self, n: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return torch.randn(*n, self.spec["n_actions"], generator=generator)

    def sample(self, obs_NO: Tensor, noise_NA: Tensor) -> Tensor:
        return self(obs_NO) + self.log_std.exp() * noise_NA

    def mode(self, obs_NO: Tensor) -> Tensor:
        return self(obs_NO)

    def log_prob_entropy(self, obs_NO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        z_NA = (action - self(obs_NO)) * torch.exp(-self.log_std)
        square_N = (z_NA * z_NA).sum(-1)
        logp_N = -0.5 * square_N - (self.log_std + 0.5 * math.log(2 * math.pi)).sum()
        entropy = (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
        return logp_N, entropy.expand_as(logp_N)


_NO_PROBABILITIES = "is deterministic and has no probabilities; train one with algo.head=gaussian"


class DeterministicActor(Actor):
    """One action per state and no spread: what it samples is that action too."""

    def noise(self, n: Sequence[int], generator: torch.Generator | None) -> Tensor:
        return torch.zeros(*n, self.spec["n_actions"])

    def sample(self, obs_NO: Tensor, noise_NA: Tensor) -> Tensor:
        return self(obs_NO)

    def mode(self, obs_NO: Tensor) -> Tensor:
        return self(obs_NO)

    def log_prob_entropy(self, obs_NO: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        raise UserError(_NO_PROBABILITIES)

    def imitation_loss(self, obs_NO: Tensor, action: Tensor) -> Tensor:
        """Squared error, the mean over action dims."""
        return (self(obs_NO) - action).square().mean(-1)


def require_probabilities(actor: Actor) -> None:
    """Raises UserError if the actor's actions have none."""
    if isinstance(actor, DeterministicActor):
        raise UserError(_NO_PROBABILITIES)


def make_actor(
    kind: str,
    obs_dim: int,
    n_actions: int,
    *,
    hidden: Sequence[int],
    orthogonal: bool = False,
    log_std: float = 0.0,
    **shape: Any,
) -> Actor:
    """An actor of this `Shape`. `log_std` is the initial one, of continuous actions."""
    described = Shape(kind, obs_dim, n_actions, list(hidden), **shape)
    if kind == "discrete":
        return CategoricalActor(described, orthogonal)
    if described.deterministic:
        return DeterministicActor(described, orthogonal)
    return GaussianActor(described, orthogonal, log_std)


def actor_for(env: EnvSpec, policy: PolicyConfig, *, deterministic: bool = False) -> Actor:
    """The actor that `policy` describes. Raises UserError for bounds where the environment has none."""
    bounds = None
    if policy.bounded and env.kind == "continuous":
        box_2A = np.array([env.low_A, env.high_A], np.float32)
        if not np.isfinite(box_2A).all():
            raise UserError("policy.bounded=true: the environment's actions have no bounds; use policy.bounded=false")
        bounds = box_2A.tolist()
    return make_actor(
        env.kind,
        env.obs_dim,
        env.n_actions,
        hidden=policy.hidden,
        activation=policy.activation,
        orthogonal=policy.orthogonal,
        log_std=policy.log_std,
        residual=policy.residual,
        bounds=bounds,
        deterministic=deterministic and env.kind == "continuous",
    )


def on_cpu(net: Any) -> Any:
    """`net`; a copy where it is on a GPU. A simulator asks for few actions at a time: sending them takes longer than
    computing them."""
    return net if next(net.parameters()).device.type == "cpu" else copy.deepcopy(net).cpu()


class ActorCritic(nn.Module):
    """A policy and a value function, two networks of the same shape."""

    def __init__(self, env: EnvSpec, policy: PolicyConfig):
        super().__init__()
        self.actor = actor_for(env, policy)
        self.critic = mlp(
            [env.obs_dim, *policy.hidden, 1],
            policy.activation,
            orthogonal=policy.orthogonal,
            residual=policy.residual,
        )

    @torch.no_grad()
    def value(self, obs: np.ndarray) -> np.ndarray:
        """V of observations (…, O), as (…)."""
        return self.critic(torch.from_numpy(obs)).squeeze(-1).numpy()


class Normaliser:
    """Running mean and variance over the first axis (Chan et al. 1979), in float64."""

    def __init__(self, width: int, clip: float = 10.0):
        self.mean = np.zeros(width)
        self.var = np.ones(width)
        self.count = 0.0
        self.clip = clip
        self._cache()

    def _cache(self) -> None:
        self._mean = self.mean.astype(np.float32)
        self._scale = (1 / np.sqrt(self.var + 1e-8)).astype(np.float32)

    def update(self, x_NO: np.ndarray) -> None:
        """Take N more samples into the statistics."""
        n = len(x_NO)
        mean = x_NO.mean(0, dtype=np.float64)
        var = x_NO.var(0, dtype=np.float64)
        total = self.count + n
        gap = mean - self.mean
        between = gap**2 * self.count * n / total
        self.var = (self.var * self.count + var * n + between) / total
        self.mean = self.mean + gap * n / total
        self.count = total
        self._cache()

    def __call__(self, x_NO: np.ndarray) -> np.ndarray:
        """(x − mean) / std, clipped, float32."""
        z_NO = (x_NO - self._mean) * self._scale
        return np.clip(z_NO, -self.clip, self.clip).astype(np.float32, copy=False)

    def scale(self, x_N: np.ndarray) -> np.ndarray:
        """x / std, clipped: for rewards, whose mean must stay."""
        return np.clip(x_N * self._scale, -self.clip, self.clip)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "var": self.var, "count": self.count, "clip": self.clip}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.mean = np.asarray(state["mean"])
        self.var = np.asarray(state["var"])
        self.count = float(state["count"])
        self.clip = float(state["clip"])
        self._cache()
