"""Simulators that render: what can go wrong in a graphics library is one error here. Needs no PyTorch."""

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from rlexp.envs.make import close, make
from rlexp.envs.spec import EnvConfig
from rlexp.report.encode import CannotRender
from rlexp.report.frames import as_picture
from rlexp.report.window import has_display
from rlexp.util import watchdog
from rlexp.util.errors import UserError
from rlexp.util.files import in_one_line, named


def picture(env: EnvConfig, size: int = 320) -> np.ndarray:
    """The first picture (H, W, 3) uint8 of an environment. Raises CannotRender."""
    simulator = simulator_of(env, size)
    try:
        attempt(lambda: simulator.reset(seed=0))
        return frame(simulator)
    finally:
        close(simulator)


def simulator_of(env: EnvConfig, size: int) -> gym.Env:
    """The environment of `env`, ready to be reset and rendered. Raises CannotRender."""
    if sys.platform == "linux" and not has_display():
        os.environ.setdefault("MUJOCO_GL", "egl")  # read when the first frame is rendered
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # or SDL complains that there is none
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a render mode that does not exist: said below
        simulator = attempt(lambda: make(env, render_mode="rgb_array"))
    if "rgb_array" not in (simulator.metadata.get("render_modes") or []):
        close(simulator)
        raise CannotRender(f"environment '{env.id}' has no rgb_array rendering")
    if hasattr(simulator.unwrapped, "mujoco_renderer"):
        _set_up_mujoco(simulator.unwrapped, size)
    return simulator


def _set_up_mujoco(simulator: Any, size: int) -> None:
    """Size, camera and quality of MuJoCo's pictures. Raises CannotRender where its graphics library is missing."""
    model = simulator.model
    cameras = [model.camera(i).name for i in range(model.ncam)]
    if "track" in cameras:  # the default camera stays where the robot started
        simulator.mujoco_renderer.camera_id = cameras.index("track")
    simulator.mujoco_renderer.width = size
    simulator.mujoco_renderer.height = size
    model.vis.global_.offwidth = size
    model.vis.global_.offheight = size
    # Antialiasing and shadows cost six sevenths of the time on a machine that renders without a GPU.
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 0
    backend = os.environ.get("MUJOCO_GL")
    if backend:  # fails here with a clean error where the library is missing
        attempt(lambda: importlib.import_module(f"mujoco.{backend}"))


def frame(simulator: gym.Env) -> np.ndarray:
    """The current picture (H, W, 3) uint8. Raises CannotRender."""
    return as_picture(attempt(simulator.render))


def attempt(action: Callable[[], Any]) -> Any:
    """`action()`; whatever goes wrong in a graphics library, each has its own errors, becomes CannotRender."""
    watchdog.alive("the renderer")
    try:
        return action()
    except (KeyboardInterrupt, watchdog.Hung):
        raise
    except BaseException as error:  # a library that exits or panics, too
        raise CannotRender(_reason(error)) from error


MUJOCO_NEEDS = {
    "egl": "rendering needs libEGL (Debian: apt install libegl1), or set MUJOCO_GL=osmesa",
    "osmesa": "rendering with MUJOCO_GL=osmesa needs libOSMesa (Debian: apt install libosmesa6)",
}


def _reason(error: BaseException) -> str:
    """An error of a graphics library in one line, with what to install where MuJoCo's is missing."""
    first_line = named(error)
    # Gymnasium's and our own messages are sentences, and name the missing package where there is one.
    if isinstance(error, gym.error.Error | UserError):
        first_line = in_one_line(error, 500)
    files = [place.filename for place in traceback.extract_tb(error.__traceback__)]
    need = MUJOCO_NEEDS.get(os.environ.get("MUJOCO_GL", ""))
    if need and any("mujoco" in file for file in files):
        return f"{need} ({first_line})"
    return first_line
