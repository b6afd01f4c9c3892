"""What simulates many environments at once: the contract of a backend, and how one is found by its name."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from rlexp.envs.spec import EnvConfig
from rlexp.util import plugins
from rlexp.util.errors import UserError, did_you_mean, nearest, said_of

SHIPPED = {
    "auto": "rlexp.envs.gymnasium_backend:GymnasiumBackend",  # outside a run, whose config says what it is there
    "gymnasium": "rlexp.envs.gymnasium_backend:GymnasiumBackend",
    "envpool": "rlexp.envs.envpool_backend:EnvPoolBackend",
}


@dataclass
class Step:
    """What one step of the environments `ids` (n of them) returned."""

    obs: np.ndarray  # (n, O) float32, after autoreset
    reward: np.ndarray  # (n,) float32
    terminated: np.ndarray  # (n,) bool: the task ended
    truncated: np.ndarray  # (n,) bool: only the recording of it did
    final_obs: np.ndarray  # (n, O) float32, before autoreset
    info: Sequence[dict[str, Any]]  # of each environment; empty where the backend has none


class Backend(ABC):
    """B environments of one kind, simulated side by side. `env.backend=package.module:Class` uses a foreign one.

    A backend trains; evaluation and films always run on Gymnasium, so `config.id` must exist there too. What comes out
    may depend on nothing but `config`, the seeds and the actions.
    """

    partial: ClassVar[bool] = True  # can step some environments only; otherwise `ids` are always all of them

    @abstractmethod
    def __init__(self, config: EnvConfig, seeds: list[int], autoreset: bool):
        """One environment for each seed. With `autoreset` an ended one begins anew in the same step; without, it is
        not stepped again. A backend that is not `partial` is always asked for autoreset."""

    @abstractmethod
    def reset(self) -> np.ndarray:
        """First observations (B, O) float32. Called once."""

    @abstractmethod
    def step(self, action: np.ndarray, ids: np.ndarray) -> Step:
        """Execute `action[i]`, inside the action space, in environment `ids[i]`."""

    @abstractmethod
    def close(self) -> None:
        """Free what the simulator holds."""


def find_backend(name: str) -> type[Backend]:
    """The class that `env.backend=name` means: a shipped name, 'module:Class' or 'module.Class'. Raises UserError."""
    path = SHIPPED.get(name, name)
    module, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    if not module or not attribute:
        hint = did_you_mean(nearest(name, SHIPPED))
        known = ", ".join(SHIPPED)
        raise UserError(f"env.backend={name}: no such simulator{hint} (there are {known}, and package.module:Class)")
    with said_of(f"env.backend={name}"):
        found = getattr(plugins.import_module(module), attribute, None)
        if not (isinstance(found, type) and issubclass(found, Backend)):
            raise UserError(f"'{module}' has no Backend called '{attribute}'")
    return found
