"""An n-dimensional grid: walk to the target and stay there. One dimension is the line world.

Start and target are drawn uniformly from {0, …, size−1}^n. Actions: 0 stays, 2k+1 and 2k+2 move +1 and −1 along axis
k, clipped to [0, size]. The reward of each step is −‖position − target‖ / size. An episode always lasts `length`
steps: the length belongs to the task, so its end is a termination, not a truncation. Observation: (target, position)
scaled to [−1, 1]. The info of the last step has `is_success`: whether the walker stands on its target.
"""

from typing import Any

import gymnasium as gym
import numpy as np


class GridWorld(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, dims: int = 1, size: int = 10, length: int = 20, render_mode: str | None = None):
        if dims < 1 or size < 2 or length < 1:
            raise ValueError(f"dims ≥ 1, size ≥ 2 and length ≥ 1 are needed, not {dims}, {size} and {length}")
        self.dims = dims
        self.size = size
        self.length = length
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (2 * dims,), np.float32)
        self.action_space = gym.spaces.Discrete(2 * dims + 1)
        self.moves = np.zeros((2 * dims + 1, dims), np.int64)
        for axis in range(dims):
            self.moves[2 * axis + 1, axis] = 1
            self.moves[2 * axis + 2, axis] = -1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.position, self.target = self.np_random.integers(self.size, size=(2, self.dims))
        self.t = 0
        return self._obs(), {}

    def step(self, action: int):
        self.position = np.clip(self.position + self.moves[action], 0, self.size)
        self.t += 1
        gap = self.position - self.target
        ended = self.t >= self.length
        info = {}
        if ended:
            info["is_success"] = not gap.any()
        return self._obs(), -float(np.sqrt(gap @ gap)) / self.size, ended, False, info

    def _obs(self) -> np.ndarray:
        return (np.concatenate([self.target, self.position]) * (2 / self.size) - 1).astype(np.float32)

    def render(self, cell: int = 32) -> np.ndarray:
        """The first two axes from above, as an image (H, W, 3) uint8: target green, walker blue."""
        rows = self.size + 1 if self.dims > 1 else 1
        image = np.full((rows * cell, (self.size + 1) * cell, 3), 245, np.uint8)
        image[::cell] = 215
        image[:, ::cell] = 215
        for point, colour, inset in ((self.target, (76, 175, 80), 2), (self.position, (33, 102, 172), 8)):
            x, y = int(point[0]) * cell, (int(point[1]) if self.dims > 1 else 0) * cell
            image[y + inset : y + cell - inset + 1, x + inset : x + cell - inset + 1] = colour
        return image
