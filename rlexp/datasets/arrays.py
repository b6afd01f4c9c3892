"""From arrays as others keep them to a `Dataset`.

Shapes: N steps, E episodes, O observation dims, A action dims.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlexp.buffers.dataset import Dataset
from rlexp.util.unpickle import Wrong


def flat(name: str, arrays: Mapping[str, np.ndarray], limit: int | None = None) -> Dataset:
    """Episodes one after another, by our names of the arrays. They end at a terminal or a timeout; the last at the end
    of the recording. Raises Wrong.

    limit: of the steps of an episode, where there are no timeouts
    """
    obs_NO = vectors(arrays["observations"])
    action = actions(arrays["actions"])
    reward_N = numbers(arrays["rewards"], "rewards")
    n = len(reward_N)
    for key, array in arrays.items():
        if len(array) != n:
            raise Wrong(f"has {n:,} rewards and {len(array):,} {key}")
    if not n:
        raise Wrong("holds no steps")
    next_obs_NO = None
    if "next_observations" in arrays:
        next_obs_NO = vectors(arrays["next_observations"])
        if next_obs_NO.shape[1] != obs_NO.shape[1]:
            raise Wrong(f"next_observations have {next_obs_NO.shape[1]} dims, observations {obs_NO.shape[1]}")
    terminal_N = numbers(arrays["terminals"], "terminals") != 0
    if "timeouts" in arrays:
        end_N = terminal_N | (numbers(arrays["timeouts"], "timeouts") != 0)
    else:
        end_N = _ends(terminal_N, obs_NO, next_obs_NO, limit)
    end_N[-1] = True
    last_E = np.flatnonzero(end_N)
    final_obs_EO = unknown(len(last_E), obs_NO.shape[1])
    if next_obs_NO is not None:
        final_obs_EO = next_obs_NO[last_E]
    return Dataset(name, obs_NO, action, reward_N, np.diff(last_E, prepend=-1), terminal_N[last_E], final_obs_EO)


def _ends(
    terminal_N: np.ndarray,
    obs_NO: np.ndarray,
    next_obs_NO: np.ndarray | None,
    limit: int | None,
) -> np.ndarray:
    """The last steps of episodes, where timeouts were not recorded: as D4RL did before it recorded them.

    Where a step's next observation is not the one that follows; else after `limit` steps.
    """
    if next_obs_NO is not None:
        goes_on_N = np.isclose(next_obs_NO[:-1], obs_NO[1:], rtol=1e-5, atol=1e-6).all(1)
        if len(goes_on_N) and goes_on_N.mean() < 0.5:
            raise Wrong("its steps do not follow one another, as its next_observations show; episodes are needed")
        return terminal_N | ~np.append(goes_on_N, False)
    if limit is None:
        raise Wrong(
            "has no 'timeouts' and no 'next_observations', so that it cannot be known where a time limit ended an "
            "episode; its environment's limit is taken where that is named: --env NAME"
        )
    end_N = terminal_N.copy()
    start = 0
    for last in [*np.flatnonzero(terminal_N), len(end_N) - 1]:
        end_N[start + limit - 1 : last : limit] = True
        start = last + 1
    return end_N


def joined(name: str, parts: Sequence[Dataset]) -> Dataset:
    """The episodes of all parts. Raises Wrong where there are none, or they do not go together."""
    if not parts:
        raise Wrong("holds no episodes")
    for what, array in (("observations", "obs_NO"), ("actions", "action")):
        first = getattr(parts[0], array)
        for i, part in enumerate(parts):
            this = getattr(part, array)
            if this.shape[1:] != first.shape[1:]:
                raise Wrong(f"episode {i} has {what} of shape {this.shape[1:]}, episode 0 of {first.shape[1:]}")
    return Dataset.concat(name, parts)


def unknown(*shape: int) -> np.ndarray:
    """What was not recorded: NaN."""
    return np.full(shape, np.nan, np.float32)


def vectors(array: Any) -> np.ndarray:
    """(N, O) float32. Raises Wrong for anything else."""
    array = np.asarray(array)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise Wrong(f"observations are {array.dtype} of shape {array.shape}, where (steps, dims) numbers are expected")
    return float32(array)


def actions(array: Any) -> np.ndarray:
    """(N, A) float32; or (N,) int64, where they are whole numbers, one for each step. Raises Wrong."""
    array = np.asarray(array)
    if array.dtype.kind in "iu" and array.size == len(array):
        return array.reshape(-1).astype(np.int64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise Wrong(f"actions are {array.dtype} of shape {array.shape}, where (steps, dims) numbers are expected")
    return float32(array)


def numbers(array: Any, what: str) -> np.ndarray:
    """(N,) float32; `what` else than rewards must be finite. Raises Wrong."""
    array = np.asarray(array)
    if array.size != len(array) or array.dtype.kind not in "fiub":
        raise Wrong(f"{what} are {array.dtype} of shape {array.shape}, where one number a step is expected")
    if what != "rewards" and array.dtype.kind == "f" and np.isnan(array).any():
        raise Wrong(f"{what} are not finite at step {int(np.isnan(array).reshape(-1).argmax()):,}")
    return float32(array.reshape(-1))


def float32(array: np.ndarray) -> np.ndarray:
    """The same numbers in single precision."""
    with np.errstate(over="ignore"):  # what is too large becomes inf, which `Dataset.check_numbers` finds
        return np.ascontiguousarray(array, np.float32)
