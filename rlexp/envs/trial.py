"""An environment tried out for some steps of random actions, before anything is trained: what comes back from reset()
and step() is compared with what is declared, once, so that nobody has to in training."""

import time
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlexp.envs import faults
from rlexp.envs.faults import EnvironmentFault
from rlexp.envs.make import close, make
from rlexp.envs.spec import EnvConfig
from rlexp.util import watchdog

STEPS = 20
SECONDS = 1.0  # that a slow simulator may take; two steps are taken in any case
RESET = "reset() of '{}' gave {}; Gymnasium's gives two values: observation, info"
STEP = "step() of '{}' gave {}; Gymnasium's gives five values: observation, reward, terminated, truncated, info"


@dataclass(frozen=True)
class Trial:
    """What was seen."""

    obs_NO: np.ndarray  # float64, flat, as the environment gave them
    shape: tuple[int, ...]  # of an observation before it was made flat; () where it is no array
    largest: float  # absolute value of any number seen, or of a pixel that could be


def try_out(config: EnvConfig) -> Trial:
    """Some steps of random actions in a new environment. Raises UserError for whatever is not as it is declared, and
    for NaN and infinity."""
    env = make(config.on_gymnasium())
    if isinstance(env, gym.wrappers.FlattenObservation):
        env = env.env  # observations as they come
    try:
        _check_form(env.unwrapped, config.id)
        return _play(env, config.id)
    finally:
        close(env)


def _check_form(env: gym.Env, env_id: str) -> None:
    """One reset and one step of the bare environment: its wrappers take for granted how many values there are."""
    env.action_space.seed(0)
    first = _attempt(env_id, "reset()", lambda: env.reset(seed=0))
    if not isinstance(first, tuple) or len(first) != 2 or not isinstance(first[1], dict):
        raise EnvironmentFault("env.id: " + RESET.format(env_id, _described(first)))
    step = _attempt(env_id, "step()", lambda: env.step(env.action_space.sample()))
    if not isinstance(step, tuple) or len(step) != 5:
        raise EnvironmentFault("env.id: " + STEP.format(env_id, _described(step)))


def _play(env: gym.Env, env_id: str) -> Trial:
    started = time.perf_counter()
    space = env.observation_space
    obs, _ = _attempt(env_id, "reset()", lambda: env.reset(seed=0))
    seen = [_flat(space, obs, env_id, "reset()")]
    env.action_space.seed(0)
    for t in range(1, STEPS + 1):
        obs, reward, terminated, truncated, info = _attempt(
            env_id, "step()", lambda: env.step(env.action_space.sample())
        )
        _check_step(env_id, reward, terminated, truncated, info)
        flat = _flat(space, obs, env_id, "step()")
        if not np.isfinite(np.float32(reward)):
            raise faults.not_finite(env_id, "reward", reward, f" at step {t}")
        if terminated or truncated:  # an observation that nobody acts on
            obs, _ = _attempt(env_id, "reset()", lambda: env.reset())
            flat = _flat(space, obs, env_id, "reset()")
        seen.append(flat)
        if t > 1 and time.perf_counter() - started > SECONDS:
            break
    obs_NO = np.array(seen)
    _check_finite(env_id, obs_NO)
    largest = float(np.abs(obs_NO).max(initial=0))
    if isinstance(space, spaces.Box) and space.dtype == np.uint8:
        largest = max(largest, float(space.high.max(initial=0)))
    return Trial(obs_NO, space.shape or (), largest)


def _attempt(env_id: str, doing: str, action: Any) -> Any:
    """`action()`; what the environment raises in it becomes EnvironmentFault."""
    watchdog.alive(f"{doing} of '{env_id}'")
    try:
        return action()
    except BaseException as error:
        if not faults.is_theirs(error):
            raise
        raise faults.raised(env_id, doing, error) from error


def _check_step(env_id: str, reward: Any, terminated: Any, truncated: Any, info: Any) -> None:
    """Raise EnvironmentFault for what is no number, no flag, no dict."""
    for name, value in (("reward", reward), ("terminated", terminated), ("truncated", truncated)):
        array = np.asarray(value)
        if array.ndim or array.dtype.kind not in "biuf":
            wanted = "number" if name == "reward" else "true or false"
            raise EnvironmentFault(f"env.id: {name} of '{env_id}' is {_described(value)}, not one {wanted}")
    if not isinstance(info, dict):
        raise EnvironmentFault(f"env.id: info of '{env_id}' is {_described(info)}, not a dict")


def _flat(space: spaces.Space, obs: Any, env_id: str, doing: str) -> np.ndarray:
    """An observation as float64 numbers (O,). Raises EnvironmentFault where it is not what `space` says."""
    wrong = mismatch(space, obs)
    if wrong is not None:
        raise EnvironmentFault(f"env.id: {doing} of '{env_id}' gave an observation that is not as declared: {wrong}")
    flat = _attempt(env_id, doing, lambda: spaces.flatten(space, obs))
    return np.asarray(flat, np.float64).reshape(-1)


def mismatch(space: spaces.Space, value: Any, name: str = "") -> str | None:
    """What tells `value` from the values of `space`; None where nothing does. Numbers outside of a box's bounds are
    let pass: many environments give some. `name`: of a part of an observation, in messages."""
    of = f"'{name}' " if name else ""
    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or set(value) != set(space):
            keys = sorted(map(str, value)) if isinstance(value, dict) else _described(value)
            return f"{of}{keys}, declared are the keys {sorted(map(str, space))}"
        found = (mismatch(part, value[key], f"{name}.{key}".strip(".")) for key, part in space.items())
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space):
            return f"{of}{_described(value)}, declared is a tuple of {len(space)}"
        found = (mismatch(part, value[i], f"{name}[{i}]") for i, part in enumerate(space))
    elif isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
        array = np.asarray(value, dtype=None if np.ndim(value) == 0 or isinstance(value, np.ndarray) else float)
        if array.shape != space.shape or array.dtype.kind not in "biuf":
            return f"{of}{_described(value)}, declared is {type(space).__name__} of shape {space.shape}"
        return None
    elif isinstance(space, spaces.Discrete):
        if np.ndim(value) or not space.start <= value < space.start + space.n:
            return f"{of}{_described(value)}, declared is {space}"
        return None
    else:
        return None
    return next((wrong for wrong in found if wrong is not None), None)


def _described(value: Any) -> str:
    """A value in a few words: what it is rather than what stands in it."""
    if isinstance(value, tuple | list):
        return f"{len(value)} values"
    if isinstance(value, np.ndarray) and value.ndim:
        return f"an array of shape {value.shape} ({value.dtype})"
    if isinstance(value, np.ndarray | np.generic | int | float):
        return f"the number {value}"
    return f"{type(value).__name__} {value!r:.40}"


def _check_finite(env_id: str, obs_NO: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        single_NO = obs_NO.astype(np.float32)
    bad_N = ~np.isfinite(single_NO).all(1)
    if not bad_N.any():
        return
    t = int(bad_N.argmax())
    where = f" at step {t}"
    large = obs_NO[t][np.isfinite(obs_NO[t]) & ~np.isfinite(single_NO[t])]
    if large.size:
        raise EnvironmentFault(
            f"env.id: an observation of '{env_id}' holds {large[0]:.3g}{where}, more than float32 has room for"
        )
    raise faults.not_finite(env_id, "observation", single_NO[t], where)
