"""One environment from its config, for any Gymnasium id, with clear errors; and what can be known before training."""

import importlib.util
import warnings
from typing import Any

import gymnasium as gym
import numpy as np

from rlexp.envs import faults
from rlexp.envs.backend import find_backend
from rlexp.envs.spec import EnvConfig, EnvSpec, register
from rlexp.util import watchdog
from rlexp.util.errors import UserError, did_you_mean, nearest
from rlexp.util.files import in_one_line

for _id, _entry in {
    "GridWorld": "gridworld:GridWorld",
    "Sphere": "sphere:Sphere",
    "CartPoleForever": "cartpole_forever:CartPoleForever",
}.items():
    gym.register(f"rlexp/{_id}-v0", entry_point=f"rlexp.envs.{_entry}")

# Errors whose messages are mostly sentences. Of others the class has to be said, and the place.
TELLING = (gym.error.Error, ImportError, TypeError, ValueError, AssertionError, OSError, RuntimeError, MemoryError)


def _mujoco_says(text: str) -> None:
    """A warning of the simulator, once each; left to itself MuJoCo prints all of them and writes a file beside the
    user's own. That Gymnasium's models use deprecated attributes is no news for anybody who runs them."""
    if "deprecated" not in text:
        warnings.warn(f"MuJoCo: {text}", stacklevel=2)


def make(config: EnvConfig, **kwargs: Any) -> gym.Env:
    """A Gymnasium environment with flat float observations. Raises UserError where it cannot be made."""
    limit = {}
    if config.max_episode_steps is not None:
        limit["max_episode_steps"] = config.max_episode_steps
    register(config.id)
    if config.id in gym.registry and "mujoco" in str(gym.registry[config.id].entry_point):
        import mujoco

        mujoco.set_mju_user_warning(_mujoco_says)
    try:
        with warnings.catch_warnings():  # of ids with a newer version
            warnings.simplefilter("ignore", DeprecationWarning)
            watchdog.alive(f"making '{config.id}'")
            env = gym.make(config.id, disable_env_checker=True, **limit, **config.kwargs, **kwargs)
            watchdog.alive()
    except gym.error.UnregisteredEnv:
        known = [i for i in gym.registry if i.split("-v")[0] == config.id.split("-v")[0]] or list(gym.registry)
        hint = did_you_mean(nearest(config.id, known))
        raise UserError(f"env.id: Gymnasium knows no environment '{config.id}'{hint}") from None
    except BaseException as error:
        if not faults.is_theirs(error):
            raise
        reason = in_one_line(error, 500) if isinstance(error, TELLING) else faults.with_place(error)
        raise UserError(f"env.id: cannot make '{config.id}' with env.kwargs={dict(config.kwargs)}: {reason}") from None
    flat = isinstance(env.observation_space, gym.spaces.Box) and len(env.observation_space.shape) == 1
    if flat:
        return env
    kind = type(env.observation_space).__name__
    try:
        env = gym.wrappers.FlattenObservation(env)
    except NotImplementedError:  # a class of space that Gymnasium does not know
        raise UserError(
            f"env.id: observations of '{config.id}' are or hold a space of its own, {_unknown(env.observation_space)}, "
            "of which nobody knows how to make numbers; wrap the environment in one that leaves it out"
        ) from None
    if not isinstance(env.observation_space, gym.spaces.Box):
        raise UserError(
            f"env.id: observations of '{config.id}' are a {kind} of no fixed size, which nothing here learns"
        )
    return env


def _unknown(space: gym.Space) -> str:
    """The name of the class of the part of `space` that Gymnasium cannot make numbers of."""
    parts = list(space.spaces.values()) if isinstance(space, gym.spaces.Dict) else list(getattr(space, "spaces", ()))
    for part in parts:
        try:
            gym.spaces.flatten_space(part)
        except NotImplementedError:
            return _unknown(part)
    return type(space).__name__


def close(env: gym.Env) -> None:
    """Close an environment that is no longer needed: what goes wrong in that need not stop anybody."""
    try:
        env.close()
    except BaseException as error:
        if not faults.is_theirs(error):
            raise


def describe(config: EnvConfig) -> EnvSpec:
    """Sizes and bounds of an environment; makes one to see. Raises UserError for what no algorithm here can act in."""
    find_backend(config.backend)
    if config.backend == "envpool" and importlib.util.find_spec("envpool") is None:
        raise UserError(
            "env.backend=envpool: EnvPool is not installed; pip install -e '.[fast]', or env.backend=gymnasium"
        )
    env = make(config)
    try:
        obs = env.observation_space
        act = env.action_space
    finally:
        close(env)
    obs_dim = int(np.prod(obs.shape or (1,)))
    if isinstance(act, gym.spaces.Discrete):
        if act.start != 0:
            raise UserError(f"env.id: actions of '{config.id}' count from {act.start}; only those from 0 are supported")
        return EnvSpec(obs_dim, "discrete", int(act.n))
    if isinstance(act, gym.spaces.Box) and len(act.shape) == 1:
        if not np.can_cast(np.float32, act.dtype):
            raise UserError(
                f"env.id: actions of '{config.id}' are a Box of {act.dtype}; supported are Discrete and a one-axis "
                "Box of float32 or float64"
            )
        low_A, high_A = _within(act.low, act.high)
        return EnvSpec(obs_dim, "continuous", act.shape[0], low_A, high_A, config.clip_actions)
    raise UserError(f"env.id: '{config.id}' has {type(act).__name__} actions; supported are Discrete and one-axis Box")


def _within(low_A: np.ndarray, high_A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds as float32, where these are not exact the next ones inside: actions at them lie in the box."""
    infinity = np.float32(np.inf)
    with np.errstate(over="ignore"):
        low32_A, high32_A = low_A.astype(np.float32), high_A.astype(np.float32)
    low32_A = np.where(low32_A < low_A, np.nextafter(low32_A, infinity), low32_A)
    high32_A = np.where(high32_A > high_A, np.nextafter(high32_A, -infinity), high32_A)
    return low32_A, high32_A
