"""Environments simulated by Gymnasium, one Python object each."""

import numpy as np

from rlexp.envs import faults
from rlexp.envs.backend import Backend, Step
from rlexp.envs.make import close, make
from rlexp.envs.spec import EnvConfig


class GymnasiumBackend(Backend):
    def __init__(self, config: EnvConfig, seeds: list[int], autoreset: bool):
        self.envs = [make(config) for _ in seeds]
        self.id = config.id
        self.seeds = seeds
        self.autoreset = autoreset
        self.width = int(np.prod(self.envs[0].observation_space.shape or (1,)))

    def reset(self) -> np.ndarray:
        obs = np.empty((len(self.envs), self.width), np.float32)
        try:
            for i, (env, seed) in enumerate(zip(self.envs, self.seeds, strict=True)):
                obs[i] = env.reset(seed=seed)[0]
        except BaseException as error:
            if not faults.is_theirs(error):
                raise
            raise faults.raised(self.id, "reset()", error) from error
        return obs

    def step(self, action: np.ndarray, ids: np.ndarray) -> Step:
        try:
            return self._step(action, ids)
        except BaseException as error:
            if not faults.is_theirs(error):
                raise
            faults.require_finite_action(action)
            raise faults.raised(self.id, "step()", error) from error

    def _step(self, action: np.ndarray, ids: np.ndarray) -> Step:
        n = len(ids)
        obs = np.empty((n, self.width), np.float32)
        reward = np.empty(n, np.float32)
        terminated = np.empty(n, bool)
        truncated = np.empty(n, bool)
        infos = []
        for row, i in enumerate(ids):
            env = self.envs[i]
            obs[row], reward[row], terminated[row], truncated[row], info = env.step(action[row])
            infos.append(info)
        truncated &= ~terminated  # what ended by itself was not cut
        final_obs = obs
        ended = terminated | truncated
        if self.autoreset and ended.any():
            final_obs = obs.copy()
            for place in np.flatnonzero(ended):
                obs[place] = self.envs[ids[place]].reset()[0]
        return Step(obs, reward, terminated, truncated, final_obs, infos)

    def close(self) -> None:
        for env in self.envs:
            close(env)
