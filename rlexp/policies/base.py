"""The contract of a policy: acts in many environments at once, and is a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch


class Policy(ABC):
    """Acts in B environments at once. May remember (a history, an action chunk); `start` begins new episodes.

    A policy is also a file: `spec()` is plain data from which `from_spec` rebuilds it, `state_dict()` its tensors
    (weights and normaliser statistics). `kind` finds the class again. In rlexp it is a short name, that of the
    algorithm's file where the policy belongs to one algorithm; elsewhere it is always "package.module:Class".
    """

    kinds: ClassVar[dict[str, type[Policy]]] = {}
    kind: ClassVar[str]
    remembers: ClassVar[bool] = False  # its action depends on more than the present observation
    standardises: ClassVar[bool] = False  # observations, by what is known of the data
    explore: bool = False  # act by sampling instead of by the mean (most likely) action, if it can

    @property
    def samples(self) -> bool:
        """Whether its actions are random now. Some policies have no spread to sample from; some always sample."""
        return self.explore

    def __init_subclass__(cls, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind is not None and cls.__module__.split(".")[0] != "rlexp":
            raise TypeError(f"{cls.__name__}: only rlexp's own policies have a short kind; leave out kind={kind!r}")
        cls.kind = kind or f"{cls.__module__}:{cls.__qualname__}"
        Policy.kinds[cls.kind] = cls

    def start(self, batch: int, rng: np.random.Generator) -> None:
        """Begin `batch` episodes; whatever the policy samples is drawn from `rng`."""

    @abstractmethod
    def act(self, obs_BO: np.ndarray) -> np.ndarray:
        """Actions for raw observations, ready to execute (inside the action space)."""

    def observe(self, reward_B: np.ndarray) -> None:
        """The reward that followed the last action, for policies that condition on returns."""

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Plain data that `from_spec` needs besides the tensors."""

    @abstractmethod
    def state_dict(self) -> dict[str, torch.Tensor]: ...

    @classmethod
    @abstractmethod
    def from_spec(cls, spec: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> Policy:
        """May draw from torch's global generator, as new networks do: whoever loads a file puts it back."""
