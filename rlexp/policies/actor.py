"""The shared policy: an actor network with frozen observation statistics."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rlexp.envs.spec import EnvSpec
from rlexp.nn.actors import (
    Actor,
    DeterministicActor,
    Normaliser,
    make_actor,
)
from rlexp.policies.base import Policy


class ActorPolicy(Policy, kind="actor"):
    """An actor network with frozen observation statistics; acts by its mode, or samples with `explore`."""

    def __init__(self, actor: Actor, env: EnvSpec, normaliser: Normaliser | None = None, explore: bool = False):
        self.actor = copy.deepcopy(actor).cpu()
        self.env = env
        self.explore = explore
        self.normaliser = None
        if normaliser is not None:
            self.normaliser = Normaliser(len(normaliser.mean), normaliser.clip)
            self.normaliser.load_state_dict(normaliser.state_dict())
        self.generator = torch.Generator().manual_seed(0)

    @property
    def samples(self) -> bool:
        return self.explore and not isinstance(self.actor, DeterministicActor)

    def start(self, batch: int, rng: np.random.Generator) -> None:
        self.generator.manual_seed(int(rng.integers(2**62)))

    @torch.no_grad()
    def act(self, obs_BO: np.ndarray) -> np.ndarray:
        if obs_BO.ndim != 2:
            raise ValueError(f"observations are (B, O), not {obs_BO.shape}; of one environment, obs[None]")
        obs_BO = np.ascontiguousarray(obs_BO, np.float32)  # before it is normalised: as in training
        if self.normaliser is not None:
            obs_BO = self.normaliser(obs_BO)
        x = torch.from_numpy(obs_BO)
        if self.explore:
            action = self.actor.sample(x, self.actor.noise([len(x)], self.generator))
        else:
            action = self.actor.mode(x)
        return self.env.executable(action.numpy())

    def spec(self) -> dict[str, Any]:
        return {"actor": self.actor.spec, "explore": self.explore, **self.env.bounds}

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"actor": self.actor.state_dict()}
        if self.normaliser is not None:
            state["normaliser"] = self.normaliser.state_dict()
        return state

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], state: Mapping[str, Any]) -> "ActorPolicy":
        actor = make_actor(**spec["actor"])
        actor.load_state_dict(state["actor"])
        normaliser = None
        if "normaliser" in state:
            normaliser = Normaliser(len(state["normaliser"]["mean"]))
            normaliser.load_state_dict(state["normaliser"])
        env = EnvSpec.with_bounds(actor.spec["obs_dim"], actor.spec["kind"], actor.spec["n_actions"], spec)
        return cls(actor, env, normaliser, spec["explore"])
