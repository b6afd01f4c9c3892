"""A corridor of which the right end pays 1: as a Gymnasium environment, and many of them as one array."""

import gymnasium as gym
import numpy as np

from rlexp.envs.backend import Backend, Step

LENGTH, LIMIT = 8, 20


class Corridor(gym.Env):
    observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(LENGTH // 2))
        return self._obs(), {}

    def step(self, action):
        self.place = max(0, self.place + (1 if action else -1))
        ended = self.place == LENGTH
        return self._obs(), 1.0 if ended else -0.05, ended, False, {"is_success": ended}

    def _obs(self):
        return np.array([self.place / LENGTH], np.float32)


class Corridors(Backend):
    """All corridors at once, none without the others."""

    partial = False

    def __init__(self, config, seeds, autoreset):
        self.rngs = [np.random.default_rng(seed) for seed in seeds]
        self.length_B = np.zeros(len(seeds), np.int64)

    def reset(self):
        self.place_B = np.array([self._start(i) for i in range(len(self.rngs))])
        return self._obs()

    def step(self, action, ids):
        self.place_B = np.maximum(0, self.place_B + np.where(action == 1, 1, -1))
        self.length_B += 1
        terminated_B = self.place_B == LENGTH
        truncated_B = ~terminated_B & (self.length_B >= LIMIT)
        final_obs_BO = self._obs()
        for i in np.flatnonzero(terminated_B | truncated_B):
            self.place_B[i] = self._start(i)
            self.length_B[i] = 0
        reward_B = np.where(terminated_B, 1.0, -0.05).astype(np.float32)
        return Step(self._obs(), reward_B, terminated_B, truncated_B, final_obs_BO, [{}] * len(ids))

    def close(self):
        pass

    def _start(self, i):
        return int(self.rngs[i].integers(LENGTH // 2))

    def _obs(self):
        return (self.place_B[:, None] / LENGTH).astype(np.float32)
