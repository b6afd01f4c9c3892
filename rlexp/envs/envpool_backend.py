"""Environments simulated by EnvPool, in C++."""

import numpy as np

from rlexp.envs.backend import Backend, Step
from rlexp.envs.spec import EnvConfig
from rlexp.util.errors import UserError, did_you_mean, nearest


class EnvPoolBackend(Backend):
    """EnvPool resets on the next step; asking it to reset the ended environments at once makes that the same step."""

    def __init__(self, config: EnvConfig, seeds: list[int], autoreset: bool):
        import envpool  # an extra: imported only when asked for

        known = envpool.list_all_envs()
        if config.id not in known:
            hint = did_you_mean(nearest(config.id, known))
            raise UserError(f"env.backend=envpool: EnvPool has no '{config.id}'{hint}; use env.backend=gymnasium")
        self.limit = config.time_limit or 10**9
        # EnvPool calls a fall in the very step of its limit truncated. So it never comes to its own limit: we count.
        limit = {"max_episode_steps": self.limit + 1}
        settings = {**limit, **config.kwargs, "num_envs": len(seeds), "seed": list(seeds), "num_threads": 1}
        try:
            self.pool = envpool.make(config.id, env_type="gymnasium", **settings)
        except TypeError as error:
            raise UserError(f"env.backend=envpool: '{config.id}' takes other env.kwargs there ({error})") from None
        if len(self.pool.observation_space.shape) != 1:
            self.pool.close()
            raise UserError(f"env.backend=envpool: '{config.id}' has no flat observations; use env.backend=gymnasium")
        self.autoreset = autoreset
        self.n, self.length_B = len(seeds), np.zeros(len(seeds), np.int64)

    def reset(self) -> np.ndarray:
        return self.pool.reset()[0].astype(np.float32)

    def step(self, action: np.ndarray, ids: np.ndarray) -> Step:
        raw, reward, terminated, truncated, _ = self.pool.step(action, ids.astype(np.int32))
        self.length_B[ids] += 1
        truncated = ~terminated & (truncated | (self.length_B[ids] >= self.limit))
        obs = final_obs = raw.astype(np.float32)
        ended = np.flatnonzero(terminated | truncated)
        self.length_B[ids[ended]] = 0
        if self.autoreset and ended.size:
            obs = final_obs.copy()
            obs[ended] = self.pool.reset(ids[ended].astype(np.int32))[0]
        return Step(obs, reward.astype(np.float32), terminated, truncated, final_obs, [{}] * len(ids))

    def close(self) -> None:
        self.pool.close()
