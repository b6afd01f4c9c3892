"""A replay buffer: one float32 row per transition, so that a minibatch is one gather."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Replay:
    """A ring of `capacity` transitions (s, a, r, s', terminated), sampled uniformly with replacement.

    s' is what the action led to, before any reset. Its state holds the rows that are filled, and only those.
    """

    def __init__(self, capacity: int, obs_dim: int, n_actions: int):
        self.widths = [obs_dim, n_actions, 1, obs_dim, 1]
        self.rows = np.empty((capacity, sum(self.widths)), np.float32)  # the system gives memory as it is written
        self.size = 0
        self.place = 0

    def add(self, obs_BO: Any, action_BA: Any, reward_B: Any, next_obs_BO: Any, terminated_B: Any) -> None:
        """Take B ≤ capacity transitions in place of the oldest."""
        parts = obs_BO, action_BA, reward_B[:, None], next_obs_BO, terminated_B[:, None]
        place_B = (self.place + np.arange(len(reward_B))) % len(self.rows)
        self.rows[place_B] = np.concatenate(parts, 1)
        self.place = (self.place + len(reward_B)) % len(self.rows)
        self.size = min(self.size + len(reward_B), len(self.rows))

    def sample(self, n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """`n` transitions as tensors: obs, action, reward (n,), next_obs, terminated (n,)."""
        rows = torch.from_numpy(self.rows[rng.integers(self.size, size=n)])
        obs, action, reward, next_obs, terminated = rows.split(self.widths, 1)
        return {
            "obs": obs,
            "action": action,
            "reward": reward.squeeze(1),
            "next_obs": next_obs,
            "terminated": terminated.squeeze(1),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows[: self.size], "place": self.place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.size = len(state["rows"])
        self.place = int(state["place"])
        self.rows[: self.size] = state["rows"]
