"""The contract between an algorithm and everything that trains, evaluates, saves and films it.

An algorithm is one class in one file of `rlexp/algos/`. It declares its hyperparameters (`Config`), the clock its
budget is counted in, and what it can act on; it does its work in `step()`, hands out policies, and names the
attributes that make up its state. It knows nothing of runs, logs, files or the command line.

Shapes, everywhere: B environments side by side, T steps, O observation dims, A action dims. Axes stand as suffixes
in that order: `obs_TBO`. An action array is (B,) int64 for discrete and (B, A) float32 for continuous actions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from rlexp.buffers.dataset import Dataset
from rlexp.envs.spec import EnvConfig, EnvSpec
from rlexp.envs.vector import VecEnv
from rlexp.nn.actors import PolicyConfig
from rlexp.policies.base import Policy
from rlexp.util import seeding
from rlexp.util.params import Params


@dataclass(frozen=True)
class Progress:
    """What one `Algorithm.step` did."""

    env_steps: int  # simulator transitions
    updates: int  # optimiser steps (CMA-ES: generations)
    metrics: Mapping[str, float]  # names begin with loss/ opt/ data/; a NaN or infinity stops the run
    stage: tuple[str, int, int] | None = None  # while the clock stands still: (what goes on, done, in all)


@dataclass(frozen=True)
class Task:
    """What an algorithm is given besides its own hyperparameters."""

    env: EnvConfig
    spec: EnvSpec
    policy: PolicyConfig
    seed: int
    device: str = "cpu"
    compile: bool = False
    data: Dataset | None = None  # where the algorithm needs data
    expert: Policy | None = None  # where it needs an expert, whose mean action is the label

    def envs(self, n: int, *index: int, autoreset: bool = True) -> VecEnv:
        """`n` new training environments, seeded from (seed, *index); for one episode each without
        `autoreset`."""
        seeds = seeding.env_seeds(seeding.stream(self.seed, "train_env", *index), n)
        return VecEnv(self.env, seeds, autoreset=autoreset)

    def generator(self, name: str) -> torch.Generator:
        """A torch generator on the CPU for stream `name`, one of `seeding.STREAMS`."""
        return seeding.torch_generator(seeding.stream(self.seed, name))

    def rng(self, name: str, *index: int) -> np.random.Generator:
        """A numpy generator for stream `name`."""
        return np.random.default_rng(seeding.stream(self.seed, name, *index))


class Algorithm(ABC):
    """One learning algorithm. Subclass it in `rlexp/algos/<name>.py` and write `conf/algo/<name>.yaml`.

    `state` names the attributes that make up the algorithm's state: anything with `state_dict`/`load_state_dict`,
    torch or numpy generators, tensors, arrays and plain data. Environments are not in it: they cannot be saved.
    Instead `restart` is called at each scheduled save, in a run that goes on and in one that resumes alike. An
    algorithm that keeps simulators running from one `step` to the next overrides it: PPO does, VPG need not.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        """Hyperparameters; each declared once, with `param`."""

    # "env_steps" or "updates": the x-axis and the unit of train.budget
    clock: ClassVar[str] = "env_steps"
    # kinds of action that it can choose
    actions: ClassVar[frozenset[str]] = frozenset({"discrete", "continuous"})
    # of "data", "expert": checked before anything starts
    needs: ClassVar[frozenset[str]] = frozenset()
    # options of policy.* without meaning for it: they keep mlp.yaml's
    ignores: ClassVar[frozenset[str]] = frozenset()
    # what train.device may be
    devices: ClassVar[frozenset[str]] = frozenset({"cpu"})
    # whether train.compile may be true: for batches of one size or two
    compiles: ClassVar[bool] = False
    # updates in which compiled code saves the time that compiling takes (benchmarks/break_even.py); None: never
    compiling_pays: ClassVar[int | None] = None
    # whether it steps many environments at once and goes on with them, which is what EnvPool is fast at
    pools: ClassVar[bool] = False
    state: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.clock not in ("env_steps", "updates") or not cls.needs <= {"data", "expert"}:
            raise TypeError(
                f"{cls.__name__}: clock is env_steps or updates; needs are of data and expert",
            )
        if not hasattr(cls, "state"):
            raise TypeError(f"{cls.__name__}: name the attributes to save in `state`")

    @abstractmethod
    def __init__(self, config: Any, task: Task) -> None: ...

    @classmethod
    def check(cls, config: Any, budget: int) -> None:
        """Raise `params.OutOfRange` for values that are each in range but do not go together."""

    @classmethod
    def updates_within(cls, config: Any, budget: int) -> float:
        """About how many optimiser steps a budget of `clock` is, for `train.compile=auto`."""
        return budget

    @classmethod
    def resolve(cls, options: dict[str, Any], device: str) -> dict[str, Any]:
        """The options with what depends on the machine decided, so that the stored config says what it was.

        device: train.device, cpu or cuda
        """
        return options

    def cautions(self) -> list[str]:
        """What it is likely to lose on this task or machine, though nothing is wrong: a warning each, said at first."""
        return []

    @abstractmethod
    def step(self) -> Progress:
        """One unit of work: a rollout and its updates, a generation, a round. A few seconds at most, so that progress
        is seen; and no less than some hundredths, for each is one row of metrics."""

    @abstractmethod
    def policy(self, *, explore: bool = False) -> Policy:
        """The current policy: its mean (most likely) action, or sampled actions with `explore`. A copy, frozen."""

    def state_metrics(self) -> Mapping[str, float]:
        """Metrics of the current state rather than of a step; logged with every step, and once before the first."""
        return {}

    def restart(self, step: int) -> None:
        """Cut open episodes as if by a time limit and begin new ones, seeded from (seed, `step`).

        Override it where a live simulator is part of the state; an algorithm whose every `step` begins its own
        episodes has nothing to do here.
        """

    def state_dict(self) -> dict[str, Any]:
        return {name: _get_state(getattr(self, name)) for name in self.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self.state:
            setattr(self, name, _set_state(getattr(self, name), state[name]))


def _get_state(part: Any) -> Any:
    if hasattr(part, "state_dict"):
        return part.state_dict()
    if isinstance(part, torch.Generator):
        return part.get_state()
    if isinstance(part, np.random.Generator):
        return part.bit_generator.state
    return part


def _set_state(part: Any, state: Any) -> Any:
    if hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
    elif isinstance(part, torch.Generator):
        part.set_state(state)
    elif isinstance(part, np.random.Generator):
        part.bit_generator.state = state
    elif isinstance(part, torch.Tensor):
        return state.to(part.device)
    else:
        return state
    return part
