"""A data set in memory: episodes one after another in flat, contiguous arrays, and sampling by index.

Shapes: N steps, E episodes, O observation dims, A action dims; B sampled steps, K places of a window around each.
Nothing here loops over steps or episodes in Python.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from rlexp.buffers.holdout import held_out_count
from rlexp.envs.spec import EnvSpec
from rlexp.util.errors import UserError


@dataclass(frozen=True)
class Windows:
    """B windows of K rows. Where a window leaves its episode `valid_BK` is False, and the row is some row of it."""

    row_BK: np.ndarray
    valid_BK: np.ndarray
    step_BK: np.ndarray  # place in the episode, from 0; negative or too large where invalid


@dataclass(frozen=True)
class Dataset:
    """E episodes, N steps in all, raw: observations unnormalised, actions as executed."""

    name: str
    obs_NO: np.ndarray  # float32
    action: np.ndarray  # (N, A) float32, or (N,) int64 where actions are discrete
    reward_N: np.ndarray  # float32; all NaN where rewards were not recorded
    length_E: np.ndarray  # int64
    terminated_E: np.ndarray  # bool: the task ended; False: a time limit, or the end of the recording
    final_obs_EO: np.ndarray  # float32: what the last action of each episode led to; NaN where that was not recorded

    def __post_init__(self) -> None:
        n, e = len(self.reward_N), len(self.length_E)
        if not (len(self.obs_NO) == len(self.action) == n == self.length_E.sum()):
            raise ValueError("observations, actions, rewards and lengths do not belong together")
        if not (len(self.terminated_E) == len(self.final_obs_EO) == e > 0) or self.length_E.min() < 1:
            raise ValueError("every episode has at least one step, an end and a final observation")
        if self.final_obs_EO.shape[1:] != self.obs_NO.shape[1:]:
            raise ValueError("final observations are not like the others")

    def __len__(self) -> int:
        return len(self.reward_N)

    @cached_property
    def digest(self) -> str:
        """The same word for the same episodes."""
        parts = (self.obs_NO, self.action, self.reward_N, self.length_E, self.terminated_E, self.final_obs_EO)
        found = hashlib.sha256()
        for part in parts:
            found.update(f"{part.dtype}{part.shape}".encode())
            found.update(np.ascontiguousarray(part).data)
        return found.hexdigest()[:16]

    @property
    def rewarded(self) -> bool:
        """Whether rewards were recorded."""
        return not np.isnan(self.reward_N).all()

    @cached_property
    def start_E(self) -> np.ndarray:
        """The row of each episode's first step."""
        return np.cumsum(self.length_E) - self.length_E

    @cached_property
    def return_E(self) -> np.ndarray:
        """Undiscounted return of each episode, summed in float64."""
        return np.add.reduceat(self.reward_N.astype(np.float64), self.start_E)

    @cached_property
    def episode_N(self) -> np.ndarray:
        """The episode of each step."""
        return np.repeat(np.arange(len(self.length_E), dtype=np.int32), self.length_E)

    @cached_property
    def return_to_go_N(self) -> np.ndarray:
        """Undiscounted sum of rewards from each step to the end of its episode, float32 of a float64 sum."""
        before_N = np.cumsum(self.reward_N, dtype=np.float64) - self.reward_N
        total_E = before_N[self.start_E] + self.return_E
        return (total_E[self.episode_N] - before_N).astype(np.float32)

    def next_obs_NO(self) -> np.ndarray:
        """What each step's action led to."""
        following_NO = np.roll(self.obs_NO, -1, 0)
        following_NO[self.start_E + self.length_E - 1] = self.final_obs_EO
        return following_NO

    def obs_stats(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (ddof 0) of each observation dimension over all steps, float32."""
        mean_O = self.obs_NO.mean(0, dtype=np.float64)
        return mean_O.astype(np.float32), self.obs_NO.std(0, dtype=np.float64).astype(np.float32)

    def windows(self, row_B: np.ndarray, offsets: Sequence[int]) -> Windows:
        """The rows at `offsets` (…, -1, 0, 1, …) from each of `row_B`, inside the same episode."""
        episode_B = self.episode_N[row_B]
        start_B, length_B = self.start_E[episode_B], self.length_E[episode_B]
        step_BK = (row_B - start_B)[:, None] + np.asarray(offsets)
        inside_BK = step_BK.clip(0, (length_B - 1)[:, None])
        return Windows(start_B[:, None] + inside_BK, inside_BK == step_BK, step_BK)

    def take(self, episodes: np.ndarray) -> "Dataset":
        """The episodes at these indices, in this order."""
        length_E = self.length_E[episodes]
        start_E = np.cumsum(length_E) - length_E
        row_N = np.repeat(self.start_E[episodes] - start_E, length_E) + np.arange(length_E.sum())
        return Dataset(
            self.name,
            self.obs_NO[row_N],
            self.action[row_N],
            self.reward_N[row_N],
            length_E,
            self.terminated_E[episodes],
            self.final_obs_EO[episodes],
        )

    @staticmethod
    def concat(name: str, parts: Sequence["Dataset"]) -> "Dataset":
        """The episodes of all parts, one part after another."""
        fields = ("obs_NO", "action", "reward_N", "length_E", "terminated_E", "final_obs_EO")
        return Dataset(name, *(np.concatenate([getattr(part, field) for part in parts]) for field in fields))

    def top(self, percent: float) -> "Dataset":
        """The episodes of highest return that make up `percent` of all steps, at least one; in their old order.
        Raises UserError where rewards were not recorded."""
        if percent >= 100:
            return self
        if not self.rewarded:
            raise UserError(f"{self.name}: has no rewards, so none of its episodes is the best")
        order = np.argsort(-self.return_E, kind="stable")
        steps = np.cumsum(self.length_E[order])
        n = max(1, int(np.searchsorted(steps, percent * len(self) / 100, side="right")))
        return self.take(np.sort(order[:n]))

    def first(self, n: int) -> "Dataset":
        """The first `n` episodes."""
        return self.take(np.arange(n))

    def split(self, share: float, rng: np.random.Generator) -> tuple["Dataset", "Dataset"]:
        """Two parts by whole episodes, the second with `share` of them, at least one each. Raises UserError for one."""
        n = len(self.length_E)
        if n < 2:
            raise UserError(
                f"{self.name}: has one episode; it cannot be split into training and validation "
                "(algo.validation_fraction=0)"
            )
        order = rng.permutation(n)
        held = held_out_count(n, share, least=1)
        return self.take(np.sort(order[held:])), self.take(np.sort(order[:held]))

    def check_numbers(self) -> None:
        """Raise UserError where a number is not finite, except for what was not recorded at all."""
        rewards = [("rewards", self.reward_N)] if self.rewarded else []
        for what, array in (("observations", self.obs_NO), ("actions", self.action), *rewards):
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                row = int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(1))[0])
                raise UserError(f"{self.name}: {what} are not finite at step {row:,} (episode {self.episode_N[row]})")

    def check(self, spec: EnvSpec, hint: str = "") -> None:
        """Raise UserError, naming what is wrong, where these episodes cannot come from such an environment.

        hint: what can be done about actions outside of its bounds
        """
        self.check_numbers()
        if self.obs_NO.shape[1] != spec.obs_dim:
            raise UserError(
                f"{self.name}: observations have {self.obs_NO.shape[1]} dims, the environment's have {spec.obs_dim}"
            )
        if spec.kind == "discrete":
            if self.action.ndim != 1:
                raise UserError(
                    f"{self.name}: actions are {self.action.shape[1]}-dim vectors, the environment's numbers"
                )
            if self.action.min() < 0 or self.action.max() >= spec.n_actions:
                raise UserError(f"{self.name}: actions are not all in 0..{spec.n_actions - 1}")
            return
        if self.action.ndim != 2:
            raise UserError(
                f"{self.name}: actions are whole numbers, the environment's are vectors of {spec.n_actions} dims"
            )
        if self.action.shape[1] != spec.n_actions:
            wide = self.action.shape[1]
            raise UserError(f"{self.name}: actions have {wide} dims, the environment's have {spec.n_actions}")
        if not spec.clip_actions:  # such an environment is given them as they are
            return
        outside = np.abs(self.action - np.clip(self.action, spec.low_A, spec.high_A)).max()
        if outside > 1e-4:
            raise UserError(f"{self.name}: actions leave the environment's bounds by up to {outside:.3g}{hint}")
