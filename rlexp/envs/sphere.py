"""A function to maximise, dressed as an environment: no observation, one step, reward −‖action − optimum‖².

A linear policy on no observation is its bias alone, so the parameters that CMA-ES searches are the point itself.
"""

from typing import Any

import gymnasium as gym
import numpy as np


class Sphere(gym.Env):
    metadata = {"render_modes": []}

    def __init__(self, optimum: list[float], render_mode: str | None = None):
        self.optimum = np.asarray(optimum, np.float64)
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (0,), np.float32)
        self.action_space = gym.spaces.Box(-np.inf, np.inf, self.optimum.shape, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        return np.zeros(0, np.float32), {}

    def step(self, action: np.ndarray):
        gap = np.asarray(action, np.float64) - self.optimum
        return np.zeros(0, np.float32), -float(gap @ gap), True, False, {}
