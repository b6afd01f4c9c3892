"""What an environment does wrong, told in one line: that it is the environment, where in it, and in its own words."""

import math
import os
import traceback
from typing import Any

import numpy as np

from rlexp.util.errors import UserError
from rlexp.util.files import named
from rlexp.util.watchdog import Hung


class EnvironmentFault(UserError):
    """An environment raised an exception, or gave what it has not declared or nobody can learn from."""


def is_theirs(error: BaseException) -> bool:
    """Whether it is an environment that raised `error`: anything, a simulator that exits or panics would else end all
    seeds, but what we say ourselves, and what ends the work from outside."""
    return not isinstance(error, UserError | Hung | KeyboardInterrupt)


def raised(env_id: str, doing: str, error: BaseException) -> EnvironmentFault:
    """`error`, which the environment raised in `doing` ("reset()", say), with the place in its author's file."""
    return EnvironmentFault(f"env.id: '{env_id}' fails in {doing}: {with_place(error)}")


def with_place(error: BaseException) -> str:
    """An error's class and message in one line, with the place in its author's file."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _is_ours(frame.filename)] or list(frames)
    if not theirs:
        return named(error)
    return f"{named(error)} ({os.path.basename(theirs[-1].filename)}, line {theirs[-1].lineno})"


def _is_ours(file: str) -> bool:
    return os.path.dirname(os.path.abspath(file)) == os.path.dirname(os.path.abspath(__file__))


def not_finite(env_id: str, what: str, value: Any, where: str = "") -> EnvironmentFault:
    """That an observation or a reward of the environment (`what`) is NaN or infinite."""
    bad = np.asarray(value, np.float32).reshape(-1)
    first = bad[~np.isfinite(bad)][0]
    name = "NaN" if np.isnan(first) else str(first)
    return EnvironmentFault(f"env.id: the {what} of the environment '{env_id}' is {name}{where}")


def require_finite(env_id: str, observation: np.ndarray, reward: np.ndarray, action: np.ndarray) -> None:
    """Raise EnvironmentFault where rewards or observations, float32, hold NaN or infinity: a reward before an
    observation. Where it was the policy that asked for such an action, raise FloatingPointError. Arrays without any
    cost one pass over each of them."""
    if all_finite(observation, reward):
        return
    require_finite_action(action)
    if not all_finite(reward):
        raise not_finite(env_id, "reward", reward)
    raise not_finite(env_id, "observation", observation)


def require_finite_action(action: np.ndarray) -> None:
    """Raise FloatingPointError where continuous actions hold NaN: then no environment is to blame."""
    if not np.isfinite(action).all():
        raise FloatingPointError("the policy's action is NaN or infinite: its weights have overflowed")


def all_finite(*arrays: np.ndarray) -> bool:
    """Whether no array holds NaN or infinity."""
    # The sum of squares costs a fifth of the exact answer, which is needed where that sum itself overflows.
    return all(math.isfinite(np.vdot(x, x)) or np.isfinite(x).all() for x in arrays)
