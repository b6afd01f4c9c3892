"""What simulates many environments at once: the contract of a backend, and what one step returns."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass
class Step:
    """What one step of the environments `ids` (n of them) returned."""

    obs: np.ndarray  # (n, O) float32, after autoreset
    reward: np.ndarray  # (n,) float32
    terminated: np.ndarray  # (n,) bool: the task ended
    truncated: np.ndarray  # (n,) bool: only the recording of it did
    final_obs: np.ndarray  # (n, O) float32, before autoreset
    info: list[dict[str, Any]]  # of each environment; empty where the backend has none


class Backend(Protocol):
    def reset(self) -> np.ndarray: ...
    def step(self, action: np.ndarray, ids: np.ndarray) -> Step: ...
    def close(self) -> None: ...
