"""What readers of other programs' policy files are told, and what they return."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from rlexp.envs.named import environment
from rlexp.envs.spec import EnvConfig, EnvSpec
from rlexp.nn.actors import ACTIVATIONS, Shape
from rlexp.util.errors import UserError, among, did_you_mean, nearest

ACTIVATION_CHOICES = ", ".join(ACTIVATIONS)


@dataclass(frozen=True, kw_only=True)
class Unsaid:
    """What a file of another program does not say of itself."""

    env: EnvConfig | None = None  # that the policy acts in
    activation: str | None = None  # between its layers; None where nobody has said it
    usual: str = "tanh"  # the activation that is assumed then
    prefix: str | None = None  # of the names of the actor's tensors; several in the network's order, commas between
    bounded: bool = False  # a last tanh scales its actions to the action space
    vecnormalize: str | None = None  # pickle of Stable-Baselines3's VecNormalize; None: one that lies beside the zip

    def __post_init__(self) -> None:
        if self.activation is not None and self.activation not in ACTIVATIONS:
            hint = did_you_mean(nearest(self.activation, ACTIVATIONS))
            raise UserError(f"activation={self.activation}: there are {ACTIVATION_CHOICES}{hint}")

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> "Unsaid":
        """From keyword arguments; the environment may be given by its name. Raises UserError."""
        known = [f.name for f in fields(cls)]
        for key in said:
            if key not in known:
                raise UserError(f"{key}: load_policy has no such argument{did_you_mean(nearest(key, known))}")
        env = said.get("env")
        if isinstance(env, str):
            return cls(**{**said, "env": environment(env)})
        return cls(**said)

    @property
    def given(self) -> list[str]:
        """Names of what was given, in order."""
        return [f.name for f in fields(self) if f.name != "usual" and getattr(self, f.name) != f.default]


@dataclass(frozen=True)
class Reading:
    """A policy as a policy file of rlexp has it (`kind`, `spec`, `state`), and what is to be said of it."""

    kind: str
    spec: dict[str, Any]
    state: dict[str, Any]
    notes: list[str]  # what was left out, a line each
    assumed: str | None  # the activation, where nobody has said it


@dataclass
class Parts:
    """The tensors of an actor network, layer by layer, and how they go together."""

    weights: list[torch.Tensor]  # (out, in) each
    biases: list[torch.Tensor]
    log_std_A: torch.Tensor | None  # of continuous actions; None: they have no spread that is the same in all states
    bounds: list[list[float]] | None  # (2, A), where a last tanh scales actions to them
    normaliser: dict[str, Any] | None = None  # observation statistics, the state of a `Normaliser`
    notes: list[str] = field(default_factory=list)

    def as_actor(self, env: EnvSpec, activation: str | None, usual: str) -> Reading:
        """The policy file of an actor network with these tensors."""
        hidden = [len(weight) for weight in self.weights[:-1]]
        deterministic = env.kind == "continuous" and self.log_std_A is None
        used = activation or usual
        shape = Shape(env.kind, env.obs_dim, env.n_actions, hidden, used, False, self.bounds, deterministic)
        state = {}
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            state[f"body.{2 * i}.weight"] = weight.float()  # an activation follows each
            state[f"body.{2 * i}.bias"] = bias.float()
        if self.log_std_A is not None:
            state["log_std"] = self.log_std_A.float().reshape(-1)
        tree: dict[str, Any] = {"actor": state}
        if self.normaliser is not None:
            tree["normaliser"] = self.normaliser
        assumed = usual if hidden and activation is None else None
        spec = {"actor": vars(shape), "explore": False, **env.bounds}
        return Reading("actor", spec, tree, self.notes, assumed)


def listed(tensors: Mapping[str, torch.Tensor], most: int = 12) -> str:
    """Names and shapes, for a message."""
    return among((f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items()), most) or "no tensors"
