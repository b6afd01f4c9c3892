"""Many environments stepped together, with one meaning whichever simulator runs them.

- `terminated` and `truncated` stay apart, and `final_obs` is the observation the last action led to.
- Autoreset happens in the *same* step: where an episode ended, `obs` is already the first observation of the next one.
  There is no transition between episodes that somebody would have to mask out. (Gymnasium's own vector environments
  and EnvPool reset on the *next* step; see correctness tests.)
- Environment i is seeded once with its own seed. Observations are float32; `ids` steps only some environments.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rlexp.envs.make import EnvConfig, make
from rlexp.errors import UserError, nearest


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


ENDLESS = 50_000  # steps after which somebody who waits for the end of an episode is told that there is none


class VecEnv:
    """`len(seeds)` environments of one kind. `autoreset=False` leaves an ended one alone: do not step it again. Then
    an episode that does not end raises UserError."""

    def __init__(self, config: EnvConfig, seeds: list[int], *, autoreset: bool = True):
        self.n, self.id = len(seeds), config.id
        self._left = math.inf if autoreset or config.max_episode_steps else ENDLESS
        self._all = np.arange(self.n, dtype=np.int32)
        backend = EnvPoolBackend if config.backend == "envpool" else GymnasiumBackend
        self._backend: Backend = backend(config, seeds, autoreset)

    def reset(self) -> np.ndarray:
        """First observations (n, O) of all environments. Call it once."""
        return self._backend.reset()

    def step(self, action: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """Execute `action[i]` in environment `ids[i]` (default: all). Actions must lie in the action space."""
        self._left -= 1
        if self._left < 0:
            raise UserError(
                f"env.id: an episode of '{self.id}' goes on after {ENDLESS:,} steps; give it an end with "
                "env.max_episode_steps=..."
            )
        return self._backend.step(action, self._all if ids is None else ids)

    def episodes(
        self, obs_BO: np.ndarray, act: Callable[[np.ndarray], np.ndarray], observe: Callable[[np.ndarray], None]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, Step]]:
        """One whole episode of each of the B environments, side by side, from their first observations `obs_BO`.

        At each step `act` is given the observations (B, O) and returns actions for all, `observe` the rewards (B,): the
        rows of ended episodes stay, without reward, so that whoever remembers keeps its place. Yields (environments
        that took the step (n,), actions (B, …), rewards (B,), what the step returned (n,)); only then writes the next
        observations into `obs_BO`.
        """
        active = np.arange(self.n)
        while active.size:
            action = act(obs_BO)
            step = self.step(action[active], active)
            reward_B = np.zeros(self.n, np.float32)
            reward_B[active] = step.reward
            observe(reward_B)
            yield active, action, reward_B, step
            obs_BO[active] = step.obs
            active = active[~(step.terminated | step.truncated)]

    def close(self) -> None:
        self._backend.close()


class GymnasiumBackend:
    def __init__(self, config: EnvConfig, seeds: list[int], autoreset: bool):
        self.envs = [make(config) for _ in seeds]
        self.seeds, self.autoreset = seeds, autoreset
        self.width = int(np.prod(self.envs[0].observation_space.shape or (1,)))

    def reset(self) -> np.ndarray:
        obs = np.empty((len(self.envs), self.width), np.float32)
        for i, (env, seed) in enumerate(zip(self.envs, self.seeds, strict=True)):
            obs[i] = env.reset(seed=seed)[0]
        return obs

    def step(self, action: np.ndarray, ids: np.ndarray) -> Step:
        n = len(ids)
        obs, reward = np.empty((n, self.width), np.float32), np.empty(n, np.float32)
        terminated, truncated = np.empty(n, bool), np.empty(n, bool)
        final_obs, infos = obs, []
        for row, i in enumerate(ids):
            env = self.envs[i]
            obs[row], reward[row], terminated[row], truncated[row], info = env.step(action[row])
            infos.append(info)
        truncated &= ~terminated  # what ended by itself was not cut
        if self.autoreset and (ended := np.flatnonzero(terminated | truncated)).size:
            final_obs = obs.copy()
            for place in ended:
                obs[place] = self.envs[ids[place]].reset()[0]
        return Step(obs, reward, terminated, truncated, final_obs, infos)

    def close(self) -> None:
        for env in self.envs:
            env.close()


class EnvPoolBackend:
    """EnvPool resets on the next step; asking it to reset the ended environments at once makes that the same step."""

    def __init__(self, config: EnvConfig, seeds: list[int], autoreset: bool):
        import envpool  # an extra: imported only when asked for

        known = envpool.list_all_envs()
        if config.id not in known:
            raise UserError(
                f"env.backend=envpool: EnvPool has no '{config.id}'{nearest(config.id, known)}; "
                "use env.backend=gymnasium"
            )
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
