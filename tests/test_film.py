"""Films: the replayed episode is the episode, the time is kept, and a machine that cannot render is told why."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from rlexp.envs.make import describe
from rlexp.report import film, scene
from rlexp.report.film import VideoConfig
from rlexp.rollout.evaluation import Episode, Evaluation, evaluate
from rlexp.util import seeding
from tests.helpers import ROOT, Unsaved, built


class RandomPolicy(Unsaved):
    """Uniform discrete actions, or continuous ones around zero."""

    def __init__(self, spec):
        self.env = spec

    def start(self, batch, rng):
        self.rng = rng

    def act(self, obs_BO):
        n, env = len(obs_BO), self.env
        if env.kind == "discrete":
            return self.rng.integers(env.n_actions, size=n)
        return env.executable(self.rng.normal(0, 0.3, (n, env.n_actions)).astype(np.float32))


def played(name, episodes=1, *overrides):
    """(env, evaluation) of random actions, exactly as a run's evaluation records it."""
    env = built(f"env={name}", *overrides).env.on_gymnasium()
    return env, evaluate(RandomPolicy(describe(env)), env, seeding.stream(0, "eval", 0), episodes)


def frames(path):
    """Frames of a film, its rate, its size."""
    import imageio_ffmpeg

    stream = imageio_ffmpeg.read_frames(str(path))
    meta = next(stream)
    return sum(1 for _ in stream), meta["fps"], meta["size"]


def rendered(env, episode, path, **options):
    try:
        return film.film(env, episode, path, **{"seconds": 20, "size": 96, **options})
    except film.CannotRender as error:
        if "libEGL" in str(error):  # only MuJoCo needs more than Python packages
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("name", ["cartpole", "hopper", "bipedal", "lunarlander", "lineworld", "acrobot"])
def test_replay_pays_the_same_rewards(name, tmp_path):
    """`film` compares every reward; a single different one would make it raise."""
    env, evaluation = played(name, 2, *(["env.max_episode_steps=60"] if name == "acrobot" else []))
    for i, episode in enumerate(evaluation.episodes):
        path = rendered(env, episode, tmp_path / f"{i}.mp4")
        count, _, _ = frames(path)
        assert 2 <= count <= len(episode.reward_T) + 1
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["0.mp4", "1.mp4"]  # no half-made files


def test_another_episode_is_not_shown(tmp_path):
    env, evaluation = played("lineworld")
    (episode,) = evaluation.episodes
    episode.reward_T[7] += 0.1
    with pytest.raises(film.CannotRender, match=r"another one \(reward .* at step 8"):
        film.film(env, episode, tmp_path / "x.mp4", seconds=20, size=96)
    assert not list(tmp_path.iterdir())


def test_plays_at_the_environments_own_rate_where_time_allows(tmp_path):
    env, evaluation = played("lineworld")
    path = film.film(env, evaluation.episodes[0], tmp_path / "x.mp4", seconds=20, size=96)
    assert frames(path) == (21, 5, (352, 32))  # the first picture and one a step; an odd size would be padded


def test_a_fast_simulator_is_thinned_to_what_players_show(tmp_path):
    env, evaluation = played("hopper")  # 125 steps a second
    path = rendered(env, evaluation.episodes[0], tmp_path / "x.mp4")
    _, fps, size = frames(path)
    assert fps == pytest.approx(125 / 3, abs=0.01)
    assert size == (96, 96)


class Clock:
    """Time that passes only where a test says so."""

    now = 0.0

    def perf_counter(self):
        return self.now


def test_slow_rendering_is_thinned_to_the_time_allowed(tmp_path, monkeypatch):
    env, evaluation = played("lineworld", 1, "env.kwargs.length=400")
    draw = scene.frame
    clock = Clock()

    def slow(simulator):
        clock.now += 0.02
        return draw(simulator)

    monkeypatch.setattr(scene, "frame", slow)  # 400 frames would take 8 s
    monkeypatch.setattr(film, "time", clock)
    path = film.film(env, evaluation.episodes[0], tmp_path / "x.mp4", seconds=2, size=96)
    assert 1 < clock.now < 2.1
    count, fps, _ = frames(path)
    assert 20 <= count <= 100
    assert fps == 5  # not below the environment's own rate, so it plays faster than real time


def test_a_film_keeps_its_pace_where_rendering_becomes_slower(tmp_path, monkeypatch):
    env, evaluation = played("lineworld", 1, "env.kwargs.length=400")
    draw = scene.frame
    clock = Clock()
    drawn = []

    def slower(simulator):
        drawn.append(clock.now)
        clock.now += 0.002 if len(drawn) < 50 else 0.02
        return draw(simulator)

    monkeypatch.setattr(scene, "frame", slower)
    monkeypatch.setattr(film, "time", clock)
    path = film.film(env, evaluation.episodes[0], tmp_path / "x.mp4", seconds=2, size=96)
    count, fps, _ = frames(path)
    assert len(drawn) < 200
    assert count / fps == pytest.approx(400 / 5, rel=0.05)


def test_odd_sizes_are_encoded(tmp_path, monkeypatch):
    import imageio_ffmpeg

    env, evaluation = played("lineworld")
    drawn, draw = [], scene.frame

    def odd(simulator):
        drawn.append(draw(simulator)[:31, :351])
        return drawn[-1]

    monkeypatch.setattr(scene, "frame", odd)
    path = film.film(env, evaluation.episodes[0], tmp_path / "x.mp4", seconds=20, size=96)
    stream = imageio_ffmpeg.read_frames(str(path))
    assert next(stream)["size"] == (352, 32)
    shown = np.frombuffer(next(stream), np.uint8).reshape(32, 352, 3)[:31, :351]
    assert np.abs(shown.astype(int) - drawn[0]).mean() < 6  # what compression costs; shifted rows would be 20
    stream.close()


def test_gif_stands_beside_the_film_and_stays_short(tmp_path, monkeypatch):
    monkeypatch.setattr(film, "time", Clock())
    env, evaluation = played("lineworld", 1, "env.kwargs.length=400")
    path = film.film(env, evaluation.episodes[0], tmp_path / "x.mp4", seconds=20, size=96, gif=True, stills=True)
    with Image.open(path.with_suffix(".png")) as sheet:  # of frames of 32 by 352 pixels, below each other
        assert sheet.size == (352 + 6, 24 * (32 + 6))
    with Image.open(path.with_suffix(".gif")) as image:
        assert 2 <= image.n_frames <= film.MAX_GIF_FRAMES + 1  # like frames that follow each other are one
    assert frames(path)[0] == 401


def evaluation_of(returns):
    def episode(total):
        return Episode(0, np.zeros(1, np.int64), np.array([total], np.float32), None)

    return Evaluation([episode(total) for total in returns], sampled=False)


@pytest.mark.parametrize(
    ("returns", "names"),
    [
        ([3, 1, 5, 2, 4], ["best_5.0", "median_3.0", "worst_1.0"]),
        ([-0.001, -12.34], ["best_0.0", "worst_-12.3"]),
        ([7], ["best_7.0"]),
        ([5, 5, 5], ["best_5.0", "median_5.0", "worst_5.0"]),
    ],
)
def test_films_of_best_median_and_worst_replace_the_old_ones(tmp_path, monkeypatch, returns, names):
    allowed = []

    def fake(env, episode, path, *, seconds, size, gif, stills):
        allowed.append(seconds)
        path.touch()
        return path

    monkeypatch.setattr(film, "film", fake)
    for old in ("best_999.0.mp4", "median_1.0.gif", "my own.mp4"):
        (tmp_path / old).touch()
    video = VideoConfig(enabled=True, gif=False, seconds=30.0, size=96)
    paths = film.films(built("env=lineworld").env, evaluation_of(returns), tmp_path, video)
    assert [path.stem for path in paths] == names
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["my own.mp4", *(f"{n}.mp4" for n in names)])
    assert allowed[0] == pytest.approx(30 / len(names), rel=0.01)


@pytest.mark.parametrize(
    ("above", "below", "names"),
    [
        (4, 2, ["success", "median", "failure"]),
        (5, 1, ["best", "median", "worst"]),
        (4, None, ["success", "median", "worst"]),
    ],
)
def test_films_say_where_thresholds_are_passed(above, below, names):
    video = VideoConfig(enabled=True, gif=False, seconds=30.0, size=96, above=above, below=below)
    assert list(film._chosen(evaluation_of([3, 1, 5, 2, 4]).episodes, video)) == names


def test_environments_without_pictures_say_so(tmp_path):
    env, evaluation = played("sphere")
    with pytest.raises(film.CannotRender, match=r"'rlexp/Sphere-v0' has no rgb_array rendering"):
        film.film(env, evaluation.episodes[0], tmp_path / "x.mp4", seconds=5, size=96)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    env, evaluation = played("cartpole")
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(film.CannotRender, match=r"pygame is not installed"):
        film.film(env, evaluation.episodes[0], tmp_path / "x.mp4", seconds=5, size=96)
    env, evaluation = played("lineworld")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(film.CannotRender, match=r"pip install imageio-ffmpeg"):
        film.film(env, evaluation.episodes[0], tmp_path / "x.mp4", seconds=5, size=96)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    env, evaluation = played("lineworld")
    (tmp_path / "file").touch()
    with pytest.raises(film.CannotRender, match=r"x\.mp4"):
        film.film(env, evaluation.episodes[0], tmp_path / "file" / "x.mp4", seconds=5, size=96)


NO_EGL = """
import ctypes, ctypes.util, os, sys
find, load = ctypes.util.find_library, ctypes.CDLL.__init__
def refuse(self, name, *args, **kwargs):
    if "EGL" in str(name): raise OSError(f"{name}: cannot open shared object file")
    load(self, name, *args, **kwargs)
ctypes.util.find_library = lambda name: None if name == "EGL" else find(name)
ctypes.CDLL.__init__ = refuse
from pathlib import Path
import numpy as np
from rlexp.report import film
from rlexp.rollout.evaluation import Episode
from tests.helpers import built
try:
    episode = Episode(0, np.zeros((1, 3), np.float32), np.zeros(1, np.float32), None)
    film.film(built("env=hopper").env, episode, Path(sys.argv[1]), seconds=5, size=96)
except film.CannotRender as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="EGL is how Linux renders without a display")
def test_a_missing_system_library_is_named(tmp_path):
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "PYOPENGL_PLATFORM")
    env = {key: value for key, value in os.environ.items() if key not in hidden}
    command = [sys.executable, "-c", NO_EGL, str(tmp_path / "x.mp4")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert "apt install libegl1" in done.stdout, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["hopper", "halfcheetah", "walker2d", "swimmer"])
def test_the_camera_follows_a_robot_that_runs_away(name):
    try:
        simulator = scene.simulator_of(built(f"env={name}").env, 160)
        simulator.reset(seed=0)
        robot = simulator.unwrapped
        robot.set_state(robot.data.qpos + np.eye(robot.model.nq)[0] * 20, robot.data.qvel)  # 20 m along the first axis
        red, green = (scene.frame(simulator)[..., channel].astype(int) for channel in (0, 1))
    except film.CannotRender as error:
        pytest.skip(str(error))
    simulator.close()
    assert ((red - green) > 40).sum() > 50, "the robot, the only thing that is orange, must be in the picture"
