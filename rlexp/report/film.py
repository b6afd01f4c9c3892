"""Films of episodes: the stored actions are replayed in a fresh environment, from the episode's own seed.

Nothing is filmed while a policy is evaluated, so evaluation costs the same with and without films; and a replay that
pays other rewards than the episode did is refused instead of shown. Long episodes are thinned, every k-th step is
rendered, so that the time spent stays within what is allowed; a film plays near real time where that allows it.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlexp.envs.make import close
from rlexp.envs.spec import EnvConfig
from rlexp.policies.files import Saved
from rlexp.report import scene
from rlexp.report.encode import CannotRender, FilmWriter
from rlexp.rollout.evaluation import Episode, Evaluation
from rlexp.rollout.score import play
from rlexp.util.errors import UserError
from rlexp.util.params import Params, param

MAX_FPS = 60
MIN_FPS = 10  # an environment that asks for less gets what it asks for
USUAL_FPS = 30  # of an environment that does not say
MAX_GIF_FRAMES = 150
MAX_STILLS = 24
NAMES = ("best", "success", "median", "worst", "failure")


@dataclass(frozen=True, kw_only=True)
class VideoConfig(Params):
    """The films of a seed's last evaluation."""

    enabled: bool = param("film the last evaluation")
    gif: bool = param("write GIFs beside the mp4s")
    stills: bool = param("write a picture of frames beside each mp4", default=False)
    seconds: float = param("rendering time for all films of one seed", unit="s", gt=0)
    size: int = param(
        "width and height, where the environment lets one choose",
        unit="pixels",
        ge=64,
        le=4096,
    )
    above: float | None = param("return that makes the best episode's film a success", default=None)
    below: float | None = param("return that makes the worst episode's film a failure", default=None)


def films(env: EnvConfig, evaluation: Evaluation, folder: Path, video: VideoConfig) -> list[Path]:
    """Film the best, median and worst episode as `folder`/<which>_<return>.mp4, instead of the films that are there.

    Two episodes give the best and the worst, one gives the best. A best one that returns more than `video.above` is
    called success, a worst one that returns less than `video.below` failure. All films together take `video.seconds`.
    Raises CannotRender.
    """
    chosen = _chosen(evaluation.episodes, video)
    _remove_films(folder)
    deadline = time.perf_counter() + video.seconds
    paths: list[Path] = []
    for which, episode in chosen.items():
        share = (deadline - time.perf_counter()) / (len(chosen) - len(paths))
        total = round(episode.total, 1) + 0.0  # no minus before zero
        path = folder / f"{which}_{total:.1f}.mp4"
        look: dict[str, Any] = {"size": video.size, "gif": video.gif, "stills": video.stills}
        paths.append(film(env, episode, path, seconds=share, **look))
    return paths


def _chosen(episodes: list[Episode], video: VideoConfig) -> dict[str, Episode]:
    """The best, median and worst of `episodes`, as far as these are different ones, by what their films are called."""
    ranked = sorted(episodes, key=lambda episode: -episode.total)
    best = "best"
    if video.above is not None and ranked[0].total > video.above:
        best = "success"
    worst = "worst"
    if video.below is not None and ranked[-1].total < video.below:
        worst = "failure"
    chosen = {best: ranked[0]}
    if len(ranked) >= 3:
        chosen["median"] = ranked[len(ranked) // 2]
    if len(ranked) >= 2:
        chosen[worst] = ranked[-1]
    return chosen


def _remove_films(folder: Path) -> None:
    for which in NAMES:
        for suffix in ("mp4", "gif", "png"):
            for old in folder.glob(f"{which}_*.{suffix}"):
                old.unlink()


def record(
    saved: Saved,
    path: str | Path,
    *,
    sampled: bool = False,
    seed: int = 0,
    size: int = 320,
) -> Path:
    """Film one episode of a policy as mp4 (and GIF where `path` ends so). Returns `path`.

    Raises CannotRender where the machine cannot, UserError for another ending.
    """
    path = Path(path)
    if path.suffix not in (".mp4", ".gif"):
        raise UserError(f"{path}: films end in .mp4 or .gif")
    episode = play(saved, 1, sampled=sampled, seed=seed).episodes[0]
    env = saved.env.on_gymnasium()
    gif = path.suffix == ".gif"
    film(env, episode, path.with_suffix(".mp4"), seconds=60, size=size, gif=gif)
    return path


def film(
    env: EnvConfig,
    episode: Episode,
    path: Path,
    *,
    seconds: float,
    size: int,
    gif: bool = False,
    stills: bool = False,
) -> Path:
    """Write `episode` to `path` (mp4) and, with `gif`, beside it as .gif too; with `stills` some frames as .png.
    Takes about `seconds` at most.

    `size` is width and height in pixels, where the environment lets one choose. Raises CannotRender.
    """
    deadline = time.perf_counter() + seconds
    steps = len(episode.reward_T)
    simulator = scene.simulator_of(env, size)
    try:
        scene.attempt(lambda: simulator.reset(seed=episode.seed))
        first = scene.frame(simulator)  # sets up the graphics: it says nothing of what a frame costs
        camera = _Camera(simulator, deadline)
        for _ in range(3):
            camera.frame()
        native = simulator.metadata.get("render_fps") or USUAL_FPS
        stride = _first_stride(camera, steps, native)
        fps = max(native / stride, min(MIN_FPS, native))
        gif_stride = math.ceil(steps / stride / MAX_GIF_FRAMES) if gif else 0
        still_stride = math.ceil((steps + 1) / stride / MAX_STILLS) if stills else 0
        with FilmWriter(path, first, fps, gif_stride, still_stride) as writer:
            shown = 0
            due = stride
            for t, action in enumerate(episode.action, 1):
                reward = _reward(simulator, action)
                if reward != episode.reward_T[t - 1]:
                    raise CannotRender(_another_episode(env, t, reward, episode.reward_T[t - 1]))
                if t in (due, steps):
                    times = max(1, round((t - shown) / stride))  # as fast as it began, also where time runs short
                    writer.add(camera.frame(), times)
                    shown = t
                    due = t + max(stride, math.ceil(camera.stride_in_time(steps - t)))
    finally:
        close(simulator)
    return path


def _reward(simulator: gym.Env, action: np.ndarray) -> np.float32:
    """What `action` is paid. Raises CannotRender."""
    return np.float32(scene.attempt(lambda: simulator.step(action))[1])


def _first_stride(camera: "_Camera", steps: int, native_fps: float) -> int:
    """Every how many steps one is shown: with a fifth of the time in reserve, so that it need not change later."""
    in_time = math.ceil(1.25 * camera.stride_in_time(steps))
    fluent = math.ceil(native_fps / MAX_FPS)
    return max(fluent, in_time, 1)


def _another_episode(env: EnvConfig, t: int, reward: np.float32, stored: np.float32) -> str:
    difference = f"reward {reward} at step {t}, was {stored}"
    reason = f"'{env.id}' does not repeat itself from a seed"
    return f"the replayed episode is another one ({difference}): {reason}"


class _Camera:
    """Renders frames of a simulator, and knows how many there is time for."""

    def __init__(self, simulator: gym.Env, deadline: float):
        """`deadline` is a time of time.perf_counter."""
        self.simulator = simulator
        self.deadline = deadline
        self.begun = time.perf_counter()
        self.rendered = 0

    def frame(self) -> np.ndarray:
        """The current picture (H, W, 3) uint8. Raises CannotRender."""
        frame = scene.frame(self.simulator)
        self.rendered += 1
        return frame

    def stride_in_time(self, steps_left: int) -> float:
        """Every how many of the steps left one can be rendered until the deadline, at the speed so far."""
        now = time.perf_counter()
        seconds_per_frame = (now - self.begun) / self.rendered
        seconds_left = max(self.deadline - now, 1e-6)
        return steps_left * seconds_per_frame / seconds_left
