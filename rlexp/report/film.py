"""Films of episodes: the stored actions are replayed in a fresh environment, from the episode's own seed.

Nothing is filmed while a policy is evaluated, so evaluation costs the same with and without films; and a replay that
pays other rewards than the episode did is refused instead of shown. Long episodes are thinned, every k-th step is
rendered, so that the time spent stays within what is allowed; a film plays near real time where that allows it.
"""

import importlib
import math
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlexp.envs.make import make
from rlexp.envs.spec import EnvConfig
from rlexp.policies.files import Saved
from rlexp.rollout.evaluation import Episode, Evaluation
from rlexp.rollout.score import play
from rlexp.util.errors import UserError
from rlexp.util.params import Params, param

MAX_FPS, MIN_FPS = 60, 10  # an environment that asks for less than the minimum gets what it asks for
MAX_GIF_FRAMES = 150
NAMES = ("best", "median", "worst")


@dataclass(frozen=True, kw_only=True)
class VideoConfig(Params):
    enabled: bool = param("film the last evaluation")
    gif: bool = param("write GIFs beside the mp4s")
    seconds: float = param("rendering time for all films of one seed", unit="s", gt=0)
    size: int = param("width and height, where the environment lets one choose", unit="pixels", ge=64)


class CannotRender(Exception):
    """There will be no film; one line says why, and what to install where that is the reason."""


def films(env: EnvConfig, evaluation: Evaluation, folder: Path, video: VideoConfig) -> list[Path]:
    """Film the best, median and worst episode as `folder`/<which>_<return>.mp4, instead of the films that are there.

    Two episodes give the best and the worst, one gives the best. All films together take `video.seconds`.
    Raises CannotRender.
    """
    ranked = sorted(evaluation.episodes, key=lambda episode: -episode.total)
    chosen = dict(zip(NAMES, (ranked[0], ranked[len(ranked) // 2], ranked[-1]), strict=True))
    if len(ranked) < 3:
        del chosen["median"]
    if len(ranked) < 2:
        del chosen["worst"]
    for which in NAMES:
        for old in [*folder.glob(f"{which}_*.mp4"), *folder.glob(f"{which}_*.gif")]:
            old.unlink()
    deadline, paths = time.perf_counter() + video.seconds, list[Path]()
    for which, episode in chosen.items():
        share = (deadline - time.perf_counter()) / (len(chosen) - len(paths))
        path = folder / f"{which}_{round(episode.total, 1) + 0.0:.1f}.mp4"  # + 0.0: no minus before zero
        paths.append(film(env, episode, path, seconds=share, size=video.size, gif=video.gif))
    return paths


def picture(env: EnvConfig, size: int = 320) -> np.ndarray:
    """The first picture (H, W, 3) uint8 of an environment. Raises CannotRender."""
    simulator = _simulator(env, size)
    try:
        simulator.reset(seed=0)
        return _frame(simulator)
    finally:
        simulator.close()


def film(env: EnvConfig, episode: Episode, path: Path, *, seconds: float, size: int, gif: bool = False) -> Path:
    """Write `episode` to `path` (mp4) and, with `gif`, also beside it as .gif. Takes about `seconds` at most.

    `size` is width and height in pixels, where the environment lets one choose. Raises CannotRender.
    """
    deadline, steps = time.perf_counter() + seconds, len(episode.reward_T)
    simulator = _simulator(env, size)
    try:
        simulator.reset(seed=episode.seed)
        first = _frame(simulator)  # the first one sets up the graphics: it says nothing of what a frame costs
        begun, rendered = time.perf_counter(), 3
        for _ in range(rendered):
            _frame(simulator)

        def stride_within_time(steps_left: int) -> float:
            now = time.perf_counter()
            return steps_left * (now - begun) / rendered / max(deadline - now, 1e-6)

        native = simulator.metadata.get("render_fps") or 30
        # A fifth of the time stays in reserve, so that the stride, and with it the playing speed, need not change.
        stride = max(math.ceil(native / MAX_FPS), math.ceil(1.25 * stride_within_time(steps)), 1)
        fps = max(native / stride, min(MIN_FPS, native))
        with _Writer(path, first, fps, math.ceil(steps / stride / MAX_GIF_FRAMES) if gif else 0) as writer:
            due = stride
            for t, action in enumerate(episode.action, 1):
                reward = np.float32(simulator.step(action)[1])
                if reward != episode.reward_T[t - 1]:
                    raise CannotRender(
                        f"the replayed episode is another one (reward {reward} at step {t}, was "
                        f"{episode.reward_T[t - 1]}): '{env.id}' does not repeat itself from a seed"
                    )
                if t in (due, steps):
                    writer.add(_frame(simulator))
                    rendered += 1
                    due = t + max(stride, math.ceil(stride_within_time(steps - t)))
    finally:
        simulator.close()
    return path


class _Writer:
    """Encodes frames as they come. The film appears under its name when it is complete, or not at all."""

    def __init__(self, path: Path, first: np.ndarray, fps: float, gif_stride: int):
        self.path, self.part, self.fps, self.gif_stride = path, path.with_name(f".part_{path.name}"), fps, gif_stride
        self.count, self.gif_frames = 0, list[Any]()
        height, width = first.shape[:2]
        self.even = [(0, height % 2), (0, width % 2), (0, 0)]  # yuv420p has one colour for 2×2 pixels
        try:
            import imageio_ffmpeg

            path.parent.mkdir(parents=True, exist_ok=True)
            self.stream = imageio_ffmpeg.write_frames(
                str(self.part),
                (width + width % 2, height + height % 2),
                fps=fps,
                macro_block_size=1,
                ffmpeg_log_level="error",
                output_params=["-threads", "1", "-preset", "veryfast", "-movflags", "+faststart"],
            )
            self.stream.send(None)
        except ImportError:
            raise CannotRender("films need imageio-ffmpeg: pip install imageio-ffmpeg") from None
        except (OSError, RuntimeError) as error:  # no binary for this platform, a folder that cannot be written
            raise CannotRender(f"cannot start ffmpeg for {path}: {_first_line(error)}") from None
        self.add(first)

    def add(self, frame: np.ndarray) -> None:
        try:
            self.stream.send(np.ascontiguousarray(np.pad(frame, self.even, mode="edge")))
        except OSError as error:
            raise CannotRender(f"cannot write {self.path}: {_first_line(error)}") from None
        if self.gif_stride and self.count % self.gif_stride == 0:
            from PIL import Image

            self.gif_frames.append(Image.fromarray(frame).quantize(64, method=Image.Quantize.FASTOCTREE))
        self.count += 1

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.stream.close()  # waits for ffmpeg
        try:
            if kind is None:
                self._finish()
        except OSError as error:
            raise CannotRender(f"cannot write {self.path}: {_first_line(error)}") from None
        finally:
            self.part.unlink(missing_ok=True)

    def _finish(self) -> None:
        if self.gif_frames:
            image, *rest = self.gif_frames
            duration = round(100 * self.gif_stride / self.fps) * 10  # ms; GIF counts in hundredths of a second
            image.save(self.path.with_suffix(".gif"), save_all=True, append_images=rest, duration=duration, loop=0)
        if not self.part.exists() or not self.part.stat().st_size:
            raise OSError("ffmpeg wrote nothing; is the disk full?")
        self.part.replace(self.path)


def _simulator(env: EnvConfig, size: int) -> gym.Env:
    """The environment of `env`, ready to be reset and rendered."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("MUJOCO_GL", "egl")  # read when the first frame is rendered
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # or SDL complains about the display it looks for
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a render mode that does not exist: said below
        simulator = _attempt(lambda: make(env, render_mode="rgb_array"))
    if "rgb_array" not in (simulator.metadata.get("render_modes") or []):
        simulator.close()
        raise CannotRender(f"environment '{env.id}' has no rgb_array rendering")
    inner: Any = simulator.unwrapped
    if hasattr(inner, "mujoco_renderer"):
        cameras = [inner.model.camera(i).name for i in range(inner.model.ncam)]
        if "track" in cameras:  # the default camera stays where the robot started
            inner.mujoco_renderer.camera_id = cameras.index("track")
        inner.mujoco_renderer.width = inner.mujoco_renderer.height = size
        inner.model.vis.global_.offwidth = inner.model.vis.global_.offheight = size
        # Antialiasing and shadows cost six sevenths of the time on a machine that renders without a GPU.
        inner.model.vis.quality.offsamples = inner.model.vis.quality.shadowsize = 0
        if backend := os.environ.get("MUJOCO_GL"):  # fails here with a clean error where the library is missing
            _attempt(lambda: importlib.import_module(f"mujoco.{backend}"))
    return simulator


def _frame(simulator: gym.Env) -> np.ndarray:
    """The current picture (H, W, 3) uint8."""
    frame = _attempt(simulator.render)
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise CannotRender(f"rendering gave {type(frame).__name__} instead of a picture")
    return frame


def _attempt(action: Callable[[], Any]) -> Any:
    """`action()`; whatever goes wrong in a graphics library, each has its own errors, becomes CannotRender."""
    try:
        return action()
    except Exception as error:
        text, backend = _first_line(error), os.environ.get("MUJOCO_GL")
        if any("mujoco" in place.filename for place in traceback.extract_tb(error.__traceback__)):
            if backend == "egl":
                text = f"rendering needs libEGL (Debian: apt install libegl1), or set MUJOCO_GL=osmesa ({text})"
            elif backend == "osmesa":
                text = f"rendering with MUJOCO_GL=osmesa needs libOSMesa (Debian: apt install libosmesa6) ({text})"
        raise CannotRender(text) from error


def _first_line(error: BaseException) -> str:
    # Gymnasium's and our own messages are sentences, and name the missing package where there is one.
    sentence = isinstance(error, gym.error.Error | UserError)
    return (str(error) if sentence else f"{type(error).__name__}: {error}").splitlines()[0]


def record(saved: Saved, path: str | Path, *, sampled: bool = False, seed: int = 0, size: int = 320) -> Path:
    """Film one episode as mp4 (and GIF where `path` ends so). Raises CannotRender where the machine can't."""
    path = Path(path)
    if path.suffix not in (".mp4", ".gif"):
        raise UserError(f"{path}: films end in .mp4 or .gif")
    episode = play(saved, 1, sampled=sampled, seed=seed).episodes[0]
    env = saved.env.on_gymnasium()
    film(env, episode, path.with_suffix(".mp4"), seconds=60, size=size, gif=path.suffix == ".gif")
    return path
