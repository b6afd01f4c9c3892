"""What is configured of an environment (`EnvConfig`), and what algorithms may know of it (`EnvSpec`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import find_highest_version, get_env_id, parse_env_id

from rlexp.util import plugins
from rlexp.util.errors import UserError, said_of
from rlexp.util.files import in_one_line
from rlexp.util.params import OutOfRange, Params, param


def task_of(env_id: str) -> str:
    """A Gymnasium id without its version, and without the module that registers it."""
    return re.sub(r"-v\d+$", "", env_id.rpartition(":")[2])


def register(env_id: str) -> None:
    """Import what registers an environment that Gymnasium does not know yet: the module before its colon, otherwise
    all plugins. Raises UserError where that fails."""
    module, colon, _ = env_id.partition(":")
    if colon:
        with said_of(f"env.id: cannot make '{env_id}'"):
            plugins.find_here()
            plugins.import_module(module)
    elif env_id not in gym.registry:
        plugins.load_all()


def _versioned(env_id: str) -> str:
    """A registered id without its module; with its newest version, which `gym.make` takes, where it has none."""
    name = env_id.rpartition(":")[2]
    if name in gym.registry:
        return name
    namespace, base, version = parse_env_id(name)
    newest = find_highest_version(namespace, base) if version is None else None
    return name if newest is None else get_env_id(namespace, base, newest)


@dataclass(frozen=True, kw_only=True)
class EnvConfig(Params):
    """An environment, and where its numbers come from."""

    id: str = param("Gymnasium id; 'module:Name-v0' imports `module` first")
    name: str = param("short name, used for folders and gallery entries")
    kwargs: dict[str, Any] = field(default_factory=dict)  # passed to the environment's constructor
    max_episode_steps: int | None = param("time limit; null keeps the environment's own", unit="steps", ge=1)
    backend: str = param("what simulates training environments", default="gymnasium")
    random_return: float | None = param("mean return of random actions, normalised score 0")
    expert_return: float | None = param("mean return of an expert, normalised score 100")
    # Not in configs and policy files from before it, which mean the same without.
    clip_actions: bool = param(
        "continuous actions are clipped to the action space before they are executed; false: executed as drawn",
        default=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("id", "name"):
            if not getattr(self, key):
                raise OutOfRange(key, "is empty")
        if self.random_return is not None and self.random_return == self.expert_return:
            raise OutOfRange("expert_return", f"is random_return too, {self.expert_return}: no score is between them")

    @property
    def task(self) -> str:
        """Gymnasium's id without its version: Hopper, of Hopper-v5."""
        return task_of(self.id)

    @property
    def time_limit(self) -> int | None:
        """Steps after which an episode is cut; None where the environment knows no limit. Raises UserError where it is
        not installed."""
        if self.max_episode_steps is not None:
            return self.max_episode_steps
        register(self.id)
        try:
            return gym.spec(_versioned(self.id)).max_episode_steps
        except (gym.error.Error, ImportError) as error:
            raise UserError(f"env.id: {in_one_line(error, 500)}") from None

    def on_gymnasium(self) -> "EnvConfig":
        """The same, simulated by Gymnasium: scores and films come from there whatever trains. One name, one meaning."""
        return replace(self, backend="gymnasium")

    def score(self, mean_return: float) -> float | None:
        """Normalised score: 0 is random, 100 is expert; None where the environment has no reference returns."""
        if self.random_return is None or self.expert_return is None:
            return None
        return 100 * (mean_return - self.random_return) / (self.expert_return - self.random_return)


@dataclass(frozen=True)
class EnvSpec:
    """What algorithms may know of an environment: sizes and bounds, not the simulator."""

    obs_dim: int
    kind: str  # "discrete" | "continuous"
    n_actions: int  # discrete: number of actions; continuous: number of dimensions
    low_A: np.ndarray | None = None  # continuous: bounds, may be infinite
    high_A: np.ndarray | None = None
    clip_actions: bool = True  # continuous: whether what is outside of the bounds is clipped before it is executed

    @classmethod
    def with_bounds(cls, obs_dim: int, kind: str, n_actions: int, bounds: Mapping[str, Any]) -> "EnvSpec":
        """With the `low` and `high` of `bounds`, as the property of that name gives them; there may be none."""
        if not bounds.get("low"):
            return cls(obs_dim, kind, n_actions)
        low_A = np.asarray(bounds["low"], np.float32)
        high_A = np.asarray(bounds["high"], np.float32)
        return cls(obs_dim, kind, n_actions, low_A, high_A, bounds.get("clip_actions", True))

    @property
    def bounds(self) -> dict[str, Any]:
        """Bounds of continuous actions as plain data, for policy files: `low`, `high`, and `clip_actions` where it is
        false; empty for discrete ones."""
        if self.low_A is None or self.high_A is None:
            return {}
        found: dict[str, Any] = {"low": self.low_A.tolist(), "high": self.high_A.tolist()}
        if not self.clip_actions:
            found["clip_actions"] = False
        return found

    def executable(self, action: np.ndarray) -> np.ndarray:
        """`action` as the simulator is given it: continuous ones clipped to the box, unless they stay as drawn."""
        if self.kind == "discrete" or not self.clip_actions:
            return action
        return np.clip(action, self.low_A, self.high_A)

    @property
    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper bounds (A,) of continuous actions."""
        if self.low_A is None or self.high_A is None:
            raise TypeError("discrete actions have no bounds")
        return self.low_A, self.high_A

    def from_unit(self, unit_BA: np.ndarray) -> np.ndarray:
        """Continuous actions in [−1, 1] scaled to the box, which must be finite."""
        low_A, high_A = self.box
        return np.clip(low_A + 0.5 * (unit_BA + 1) * (high_A - low_A), low_A, high_A)
