"""Many environments stepped together, with one meaning whichever simulator runs them.

- `terminated` and `truncated` stay apart, and `final_obs` is the observation the last action led to.
- Autoreset happens in the *same* step: where an episode ended, `obs` is already the first observation of the next one.
  There is no transition between episodes that somebody would have to mask out. (Gymnasium's own vector environments
  and EnvPool reset on the *next* step; see correctness tests.)
- Environment i is seeded once with its own seed. Observations are float32; `ids` steps only some environments.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from rlexp.envs import faults
from rlexp.envs.backend import Step, find_backend
from rlexp.envs.spec import EnvConfig
from rlexp.util import watchdog
from rlexp.util.errors import UserError

Act = Callable[[np.ndarray, np.ndarray], np.ndarray]
ENDLESS = 50_000  # steps after which somebody who waits for the end of an episode is told that there is none


class VecEnv:
    """`len(seeds)` environments of one kind. `autoreset=False` leaves an ended one alone: do not step it again. Then
    an episode that does not end raises UserError."""

    def __init__(self, config: EnvConfig, seeds: list[int], *, autoreset: bool = True):
        self.n = len(seeds)
        self.id = config.id
        self._reset = f"reset() of '{config.id}'"
        self._step = f"step() of '{config.id}'"
        self._left = math.inf if autoreset or config.max_episode_steps else ENDLESS
        self._all = np.arange(self.n, dtype=np.int32)
        backend = find_backend(config.backend)
        self._partial, self._autoreset = backend.partial, autoreset
        self._backend = backend(config, seeds, autoreset or not backend.partial)

    def reset(self) -> np.ndarray:
        """First observations (n, O) of all environments. Call it once."""
        watchdog.alive(self._reset)
        obs = self._backend.reset()
        watchdog.alive()
        return obs

    def step(self, action: np.ndarray, ids: np.ndarray | None = None) -> Step:
        """Execute `action[i]` in environment `ids[i]` (default: all). Actions must lie in the action space."""
        self._left -= 1
        if self._left < 0:
            raise UserError(
                f"env.id: an episode of '{self.id}' goes on after {ENDLESS:,} steps; give it an end with "
                "env.max_episode_steps=..."
            )
        watchdog.alive(self._step)
        if ids is None or self._partial:
            step = self._backend.step(action, self._all if ids is None else ids)
        else:
            step = self._step_all(action, ids)
        watchdog.alive()
        return step

    def _step_all(self, action: np.ndarray, ids: np.ndarray) -> Step:
        """Some environments of a simulator that can only step all: what the others do is thrown away. They have ended,
        so nobody asks for it."""
        if self._autoreset:
            raise UserError(f"env.backend: this simulator of '{self.id}' cannot step some environments and not others")
        everyone = np.repeat(action[:1], self.n, axis=0)
        everyone[ids] = action
        step = self._backend.step(everyone, self._all)
        return Step(
            step.obs[ids],
            step.reward[ids],
            step.terminated[ids],
            step.truncated[ids],
            step.final_obs[ids],
            [step.info[i] for i in ids],
        )

    def episodes(self, obs_BO: np.ndarray, act: Act) -> Iterator[tuple[np.ndarray, np.ndarray, Step]]:
        """One whole episode of each of the B environments, side by side, from their first observations `obs_BO`.

        At each step `act` is given the observations (B, O) and the environments whose episodes go on, `active` (n,),
        and returns their actions (n, …). Yields (active, actions, what the step returned (n,)); only then writes the
        next observations into `obs_BO`, where the rows of ended episodes stay as they are.
        """
        active = np.arange(self.n)
        while active.size:
            action = act(obs_BO, active)
            step = self.step(action, active)
            if not faults.all_finite(step.final_obs, step.reward):
                self.require_finite(step.final_obs[~step.terminated], step.reward, action)
            yield active, action, step
            obs_BO[active] = step.obs
            active = active[~(step.terminated | step.truncated)]

    def require_finite(self, obs: np.ndarray, reward: np.ndarray, action: np.ndarray) -> None:
        """Raise EnvironmentFault where observations or rewards of these environments are NaN or infinite; or
        FloatingPointError, where `action` is and led to them."""
        faults.require_finite(self.id, obs, reward, action)

    def close(self) -> None:
        self._backend.close()
