"""Whole trajectories side by side, padded with zeros."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Trajectories:
    """E trajectories side by side, zero where one has ended; raw observations, actions as sampled, not as clipped."""

    obs_ETO: np.ndarray  # float32
    action: np.ndarray  # (E, T, A) float32, or (E, T) int64 where actions are discrete
    reward_ET: np.ndarray  # float32
    length_E: np.ndarray  # int64, from 1 to T
    logp_ET: np.ndarray | None = None  # float32, log-probability of each action under the policy that sampled it

    def __post_init__(self) -> None:
        shape = self.reward_ET.shape
        parts = [self.obs_ETO, self.action]
        if self.logp_ET is not None:
            parts.append(self.logp_ET)
        if any(part.shape[:2] != shape for part in parts) or self.length_E.shape != shape[:1]:
            raise ValueError("observations, actions, rewards and lengths do not belong together")
        if shape[0] and not 1 <= self.length_E.min() <= self.length_E.max() <= shape[1]:
            raise ValueError(f"lengths must be from 1 to {shape[1]}")

    def __len__(self) -> int:
        return len(self.length_E)

    @property
    def valid_ET(self) -> np.ndarray:
        """True for steps that were taken."""
        return np.arange(self.reward_ET.shape[1]) < self.length_E[:, None]

    @property
    def last_ET(self) -> np.ndarray:
        """True for the last step of each."""
        return np.arange(self.reward_ET.shape[1]) == self.length_E[:, None] - 1

    @property
    def return_E(self) -> np.ndarray:
        """Undiscounted sum of each trajectory's rewards, float64."""
        return np.where(self.valid_ET, self.reward_ET, 0.0).sum(1, dtype=np.float64)

    def columns(self) -> dict[str, Any]:
        """The arrays by name: `Trajectories(**columns)` is the same again."""
        return dict(vars(self))

    def take(self, index: Any) -> "Trajectories":
        """The trajectories at these indices, in this order."""
        columns = self.columns()
        for name, x in columns.items():
            if x is not None:
                columns[name] = x[index]
        return Trajectories(**columns)

    @staticmethod
    def join(parts: Sequence["Trajectories"]) -> "Trajectories":
        """All trajectories of `parts`, one after another. Log-probabilities only where all have them."""
        longest = max(part.reward_ET.shape[1] for part in parts)
        columns: dict[str, Any] = {}
        for name in parts[0].columns():
            arrays = [part.columns()[name] for part in parts]
            if all(x is not None for x in arrays):
                columns[name] = np.concatenate([_padded(x, longest) for x in arrays])
        return Trajectories(**columns)


def _padded(x: np.ndarray, steps: int) -> np.ndarray:
    """`x` with zeros after its last step, up to `steps` of them; a column without steps as it is."""
    if x.ndim == 1:
        return x
    widths = [(0, 0)] * x.ndim
    widths[1] = (0, steps - x.shape[1])
    return np.pad(x, widths)
