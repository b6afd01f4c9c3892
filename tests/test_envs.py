"""Environments: when they end, what they show then, how they are seeded; the same on every backend."""

import dataclasses
import importlib.util
import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

from rlexp.envs.make import describe, make
from rlexp.envs.spec import EnvConfig, EnvSpec
from rlexp.envs.vector import VecEnv
from rlexp.rollout.evaluation import evaluate
from rlexp.util import seeding
from rlexp.util.errors import UserError
from tests.helpers import ROOT, Unsaved, built

BACKENDS = [
    "gymnasium",
    pytest.param(
        "envpool", marks=pytest.mark.skipif(importlib.util.find_spec("envpool") is None, reason="needs EnvPool")
    ),
]
SIMULATORS = ["CartPole-v1", "Hopper-v5", "BipedalWalker-v3"]


def config(id: str, *, limit: int | None = None, backend: str = "gymnasium", **kwargs) -> EnvConfig:
    return EnvConfig(
        id=id, name="e", kwargs=kwargs, max_episode_steps=limit, backend=backend, random_return=None, expert_return=None
    )


class Scripted(gym.Env):
    """Counts its steps in a Dict observation; after `length` of them it ends, as told. Keeps its actions and seeds."""

    observation_space = gym.spaces.Dict(
        {"step": gym.spaces.Box(0, 99, (1,), np.float64), "two": gym.spaces.Box(0, 1, (1, 2), np.float64)}
    )
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, length: int = 3, terminated: bool = True, truncated: bool = False):
        self.length, self.end, self.actions, self.seeds = length, (terminated, truncated), [], []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.seeds.append(seed)
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        self.actions.append(action)
        ended = self.t == self.length
        return self._obs(), float(self.t), ended and self.end[0], ended and self.end[1], {}

    def _obs(self):
        return {"step": np.array([float(self.t)]), "two": np.array([[0.25, 0.75]])}


gym.register("rlexp_test/Scripted-v0", entry_point=Scripted)
for _name, _space in {
    "Matrix": gym.spaces.Box(-1, 1, (2, 2)),
    "Binary": gym.spaces.MultiBinary(3),
    "Offset": gym.spaces.Discrete(3, start=1),
}.items():
    gym.register(f"rlexp_test/{_name}-v0", entry_point=type(_name, (Scripted,), {"action_space": _space}))


def random_actions(spec: EnvSpec, steps: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    if spec.kind == "discrete":
        return rng.integers(spec.n_actions, size=(steps, n))
    return rng.uniform(-1, 1, (steps, n, spec.n_actions)).astype(np.float32)


# ---- autoreset ----


def test_stepping_together_is_stepping_each_by_hand():
    """Same-step autoreset: `final_obs` is what the action led to, `obs` the next episode's start, nothing between."""
    seeds, actions = [3, 11], random_actions(EnvSpec(4, "discrete", 2), 150, 2)
    together, single = VecEnv(config("CartPole-v1"), seeds), [gym.make("CartPole-v1") for _ in seeds]
    start = [env.reset(seed=seed)[0] for env, seed in zip(single, seeds, strict=True)]
    np.testing.assert_array_equal(together.reset(), start)
    episodes = 0
    for action in actions:
        step = together.step(action)
        for i, env in enumerate(single):
            final, reward, terminated, truncated, _ = env.step(action[i])
            ended = terminated or truncated
            obs = env.reset()[0] if ended else final  # without a seed: seeding again would repeat the episode
            episodes += ended
            np.testing.assert_array_equal(step.final_obs[i], final)
            np.testing.assert_array_equal(step.obs[i], obs)
            assert (step.reward[i], step.terminated[i], step.truncated[i]) == (reward, terminated, truncated)
    assert episodes > 6


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("id", SIMULATORS)
def test_random_actions_meet_no_transition_between_episodes(id, backend):
    """After an end, `obs` looks like a start and `final_obs` does not; no step is lost and no reward is a filler's."""
    env = config(id, backend=backend, limit=60)
    n, steps = 4, 250
    spec = describe(env)
    starts = VecEnv(env, list(range(100, 300))).reset()
    low, high = starts.min(0) - 0.02, starts.max(0) + 0.02  # 200 starts nearly span what a start may be
    vec = VecEnv(env, seeding.env_seeds(seeding.stream(0, "train_env"), n))
    obs, length, lengths = vec.reset(), np.zeros(n, int), []
    assert obs.dtype == np.float32
    assert obs.shape == (n, spec.obs_dim)
    for action in random_actions(spec, steps, n):
        step = vec.step(action)
        length += 1
        assert step.obs.dtype == step.final_obs.dtype == step.reward.dtype == np.float32
        assert step.terminated.dtype == step.truncated.dtype == bool
        assert (step.reward != 0).all(), "a reset that costs a step pays nothing"
        ended = step.terminated | step.truncated
        assert ((step.obs[ended] >= low) & (step.obs[ended] <= high)).all()
        assert not ((step.final_obs[ended] >= low) & (step.final_obs[ended] <= high)).all(1).any()
        np.testing.assert_array_equal(step.obs[~ended], step.final_obs[~ended])
        assert (length[step.truncated] == 60).all()
        assert (length < 60)[~ended].all()
        lengths += length[ended].tolist()
        length[ended] = 0
    assert len(lengths) >= n * (steps // 60)
    assert len(set(lengths)) > 1, "some fell before the limit"
    vec.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_time_limit_truncates_and_a_fall_terminates(backend):
    right = np.ones(2, np.int64)
    vec = VecEnv(config("CartPole-v1", backend=backend, limit=4), [1, 2])
    vec.reset()
    for t in range(1, 13):
        step = vec.step(right)
        assert step.truncated.tolist() == [t % 4 == 0] * 2
        assert not step.terminated.any()
    vec = VecEnv(config("CartPole-v1", backend=backend), [1, 2])
    vec.reset()
    ends = [vec.step(right) for _ in range(30)]
    assert sum(step.terminated.sum() for step in ends) >= 4
    assert not any(step.truncated.any() for step in ends)
    fallen = np.concatenate([step.final_obs[step.terminated] for step in ends])
    assert (abs(fallen[:, 2]) > 0.2).all(), "the final observation is the fall"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fall_in_the_very_step_of_the_time_limit_is_a_fall(backend):
    def fall(limit: int | None) -> tuple[int, bool]:
        vec = VecEnv(config("CartPole-v1", backend=backend, limit=limit), [5])
        vec.reset()
        for t in range(1, 50):
            step = vec.step(np.ones(1, np.int64))
            if step.terminated[0] or step.truncated[0]:
                return t, bool(step.terminated[0])
        raise AssertionError("it should have fallen")

    length, terminated = fall(None)
    assert terminated
    assert fall(length) == (length, True), "what follows a fall is worth nothing, whatever the clock says"


def test_ends_of_both_kinds_are_told_apart_and_both_at_once_is_a_termination():
    for terminated, truncated in ((True, False), (False, True), (True, True)):
        vec = VecEnv(config("rlexp_test/Scripted-v0", length=2, terminated=terminated, truncated=truncated), [0])
        vec.reset()
        assert not vec.step(np.zeros((1, 2), np.float32)).terminated[0]
        step = vec.step(np.zeros((1, 2), np.float32))
        assert (bool(step.terminated[0]), bool(step.truncated[0])) == (terminated, truncated and not terminated)
        assert (step.final_obs[0, 0], step.obs[0, 0], step.reward[0]) == (2, 0, 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_autoreset_an_ended_environment_stays_as_it_ended(backend):
    vec = VecEnv(config("CartPole-v1", backend=backend, limit=3), [1, 2], autoreset=False)
    vec.reset()
    for _ in range(3):
        step = vec.step(np.ones(2, np.int64))
    assert step.truncated.all()
    np.testing.assert_array_equal(step.obs, step.final_obs)
    assert (step.obs[:, 1] > 0.3).all(), "three pushes to the right"


# ---- seeds and ids ----


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_environment_follows_its_own_seed_alone(backend):
    env, actions = config("CartPole-v1", backend=backend), random_actions(EnvSpec(4, "discrete", 2), 60, 1)

    def play(*seeds: int) -> np.ndarray:
        vec = VecEnv(env, list(seeds))
        return np.stack([vec.reset(), *(vec.step(action.repeat(len(seeds))).obs for action in actions)])

    both = play(7, 2**31 - 1)
    np.testing.assert_array_equal(both, np.concatenate([play(7), play(2**31 - 1)], 1))
    np.testing.assert_array_equal(both, play(7, 2**31 - 1))
    assert (both[0, 0] != both[0, 1]).all()
    assert (play(8)[0] != both[0, 0]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbouring_seeds_of_a_run_share_no_environment(backend):
    """Environment 1 of seed 0 is not environment 0 of seed 1; nor do restarts or evaluation repeat anything."""
    env = config("CartPole-v1", backend=backend)
    sequences = [seeding.stream(seed, "train_env", step) for seed in range(5) for step in (0, 1000)]
    sequences += [seeding.stream(seed, "eval", 1000) for seed in range(5)]
    starts = np.concatenate([VecEnv(env, seeding.env_seeds(sequence, 6)).reset() for sequence in sequences])
    assert len(np.unique(starts, axis=0)) == len(starts) == 90


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_episode_begins_differently(backend):
    vec = VecEnv(config("CartPole-v1", backend=backend, limit=2), [4])
    starts = [vec.reset(), *[vec.step(np.ones(1, np.int64)).obs for _ in range(20)][1::2]]
    assert len(np.unique(np.concatenate(starts), axis=0)) == 11


def test_an_environment_is_seeded_once_and_never_again():
    vec = VecEnv(config("rlexp_test/Scripted-v0", length=1), [5, 6])
    vec.reset()
    for _ in range(3):
        vec.step(np.zeros((2, 2), np.float32))
    assert [env.unwrapped.seeds for env in vec._backend.envs] == [[5, None, None, None], [6, None, None, None]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_stepping_some_environments_leaves_the_others_alone(backend):
    env, ones = config("CartPole-v1", backend=backend), np.ones(3, np.int64)
    all_, some = VecEnv(env, [1, 2, 3]), VecEnv(env, [1, 2, 3])
    all_.reset()
    some.reset()
    first, second = all_.step(ones), all_.step(ones * 0)
    a = some.step(ones[:2], np.array([2, 0]))  # rows follow `ids`, not the environments' order
    b = some.step(ones[:2] * 0, np.array([0, 2]))
    c = some.step(ones[:1], np.array([1]))
    np.testing.assert_array_equal(a.obs, first.obs[[2, 0]])
    np.testing.assert_array_equal(b.obs, second.obs[[0, 2]])
    np.testing.assert_array_equal(c.obs, first.obs[[1]])
    assert len(a.reward) == len(a.terminated) == len(a.info) == 2


# ---- the same agent scores the same on both backends ----


class Linear(Unsaved):
    """A fixed linear controller, for tests."""

    def __init__(self, spec: EnvSpec, weights_OA: np.ndarray):
        self.env, self.weights_OA = spec, weights_OA

    def act(self, obs_BO: np.ndarray) -> np.ndarray:
        out = obs_BO @ self.weights_OA
        return out.argmax(-1) if self.env.kind == "discrete" else self.env.executable(np.tanh(out).astype(np.float32))


@pytest.mark.parametrize("id", SIMULATORS)
def test_a_fixed_controller_scores_the_same_on_both_backends(id):
    """Two samples of 200 episodes, neither degenerate, differ by less than chance would have it (|z| < 4)."""
    pytest.importorskip("envpool")
    limit = 100 if id == "BipedalWalker-v3" else None
    spec = describe(config(id))
    weights = np.random.default_rng(1).normal(size=(spec.obs_dim, spec.n_actions))
    if id == "CartPole-v1":
        weights[:] = [[0, 0], [0, 0], [-1, 1], [0, 0]]  # push to where the pole leans
    returns, lengths = [], []
    for backend in ("gymnasium", "envpool"):
        env = config(id, backend=backend, limit=limit)
        result = evaluate(Linear(spec, weights), env, seeding.stream(0, "eval"), 200)
        returns.append([e.total for e in result.episodes])
        lengths.append([len(e.reward_T) for e in result.episodes])
    for a, b in (returns, lengths):
        spread = np.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 200)
        assert abs(np.mean(a) - np.mean(b)) <= 4 * spread
        assert 0.6 <= (np.std(a) + 1e-9) / (np.std(b) + 1e-9) <= 1 / 0.6
    assert np.std(returns[0]) > 0


# ---- the worlds of this package ----


def test_grid_world_draws_start_and_target_from_its_inside():
    env = make(config("rlexp/GridWorld-v0", dims=2, size=10, length=20))
    points = []
    for seed in range(400):
        obs, _ = env.reset(seed=seed)
        points.append((obs + 1) * 5)
    points = np.stack(points)
    np.testing.assert_allclose(points, points.round(), atol=1e-5)
    points = points.round().astype(int)
    assert points.min(0).tolist() == [0] * 4
    assert points.max(0).tolist() == [9] * 4, "size itself can be walked to, but nothing starts or lies there"
    counts = np.stack([np.bincount(column, minlength=10) for column in points.T])
    assert counts.min() > 15, "uniform: 40 each"
    assert counts.max() < 70


def test_grid_world_shows_target_then_position_and_pays_by_distance():
    env = make(config("rlexp/GridWorld-v0", dims=2, size=10, length=20))
    env.reset(seed=0)
    world = env.unwrapped
    world.position, world.target = np.array([5, 2]), np.array([1, 6])
    obs, reward, terminated, truncated, info = env.step(1)
    assert world.position.tolist() == [6, 2]
    assert reward == pytest.approx(-np.hypot(5, 4) / 10), "of the position after the move"
    assert obs.tolist() == pytest.approx([-0.8, 0.2, 0.2, -0.6])
    assert obs.dtype == np.float32
    assert not terminated
    assert not truncated
    assert info == {}


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_grid_world_moves_along_each_axis_and_stops_at_the_walls(dims):
    env = make(config("rlexp/GridWorld-v0", dims=dims, size=10, length=1000))
    assert describe(config("rlexp/GridWorld-v0", dims=dims)) == EnvSpec(2 * dims, "discrete", 2 * dims + 1)
    for axis in range(dims):
        env.reset(seed=axis)
        world = env.unwrapped
        start = world.position.copy()
        env.step(0)
        assert (world.position == start).all(), "0 stays"
        others = np.delete(start, axis)
        for action, wall in ((2 * axis + 1, 10), (2 * axis + 2, 0)):
            before = world.position[axis]
            env.step(action)
            assert world.position[axis] == before + (1 if wall else -1)
            for _ in range(12):
                obs = env.step(action)[0]
            assert world.position[axis] == wall
            assert obs[dims + axis] == (1 if wall else -1)
            assert (np.delete(world.position, axis) == others).all()


def test_grid_world_lasts_its_length_whatever_happens_and_reports_success_at_the_end():
    env = make(config("rlexp/GridWorld-v0", dims=1, size=10, length=20))
    found = []
    for seed in range(60):
        env.reset(seed=seed)
        world = env.unwrapped
        for t in range(1, 21):
            gap = int(world.target[0] - world.position[0])
            walk = 0 if gap == 0 else (1 if gap > 0 else 2)
            _, reward, terminated, truncated, info = env.step(walk if seed % 2 else 0)
            assert terminated == (t == 20)
            assert not truncated, "the length belongs to the task"
            assert ("is_success" in info) == terminated
        assert info["is_success"] == (reward == 0) == bool(world.position == world.target)
        found.append(info["is_success"])
    assert all(found[1::2])
    assert not all(found[::2])


def test_grid_world_refuses_impossible_sizes():
    with pytest.raises(UserError, match="dims ≥ 1"):
        describe(config("rlexp/GridWorld-v0", dims=0))


def test_sphere_pays_the_negative_squared_distance_once():
    env = config("rlexp/Sphere-v0", optimum=[65, 49])
    spec = describe(env)
    assert (spec.obs_dim, spec.kind, spec.n_actions) == (0, "continuous", 2)
    vec = VecEnv(env, [0, 1])
    assert vec.reset().shape == (2, 0)
    step = vec.step(spec.executable(np.array([[65, 49], [62, 53]], np.float32)))
    assert step.reward.tolist() == [0, -25]
    assert step.terminated.all()
    assert not step.truncated.any()


# ---- any environment, or one clear line ----


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (config("CartPol-v1"), ["env.id", "CartPol-v1", "did you mean 'CartPole-v1'?"]),
        (config("CartPole-v7"), ["env.id", "CartPole-v7", "did you mean 'CartPole-v"]),
        (config("rlexp/GridWrld-v0"), ["did you mean 'rlexp/GridWorld-v0'?"]),
        (config("no_such_module_here:Env-v0"), ["env.id", "no_such_module_here"]),
        (config("CartPole-v1", colour="red"), ["env.kwargs", "colour"]),
        (config("rlexp_test/Matrix-v0"), ["rlexp_test/Matrix-v0", "supported are Discrete and one-axis Box"]),
        (config("rlexp_test/Binary-v0"), ["MultiBinary actions", "supported are Discrete and one-axis Box"]),
        (config("rlexp_test/Offset-v0"), ["count from 1"]),
    ],
)
def test_what_cannot_be_used_is_one_line_that_says_why(env, words):
    with pytest.raises(UserError) as error:
        describe(env)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("id", "kwargs", "words"),
    [("CartPol-v1", {}, "did you mean 'CartPole-v1'"), ("CartPole-v1", {"colour": "red"}, "colour"),
     ("rlexp/GridWorld-v0", {}, "env.backend=gymnasium")],
)  # fmt: skip
def test_what_envpool_lacks_is_one_line_that_says_so(id, kwargs, words):
    pytest.importorskip("envpool")
    with pytest.raises(UserError) as error:
        VecEnv(config(id, backend="envpool", **kwargs), [0])
    assert "\n" not in str(error.value)
    assert words in str(error.value)


def test_envpool_that_is_not_installed_is_one_line_that_says_how(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"EnvPool is not installed; pip install"):
        describe(config("CartPole-v1", backend="envpool"))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("id", ["FrozenLake-v1", "Pendulum-v1", "Acrobot-v1", "LunarLander-v3"])
def test_any_id_gives_flat_observations_of_the_width_described(id, backend):
    """Discrete observations become one-hot vectors, so that a network can read them; or the backend is refused."""
    env = config(id, backend=backend)
    try:
        spec = describe(env)
        vec = VecEnv(env, [1, 2])
    except UserError:
        assert (id, backend) == ("FrozenLake-v1", "envpool"), "only this may be refused"
        return
    obs = vec.reset()
    assert obs.shape == (2, spec.obs_dim)
    step = vec.step(spec.executable(random_actions(spec, 1, 2)[0]))
    assert step.obs.shape == step.final_obs.shape == obs.shape
    assert step.obs.dtype == obs.dtype == np.float32
    if id == "FrozenLake-v1":
        assert spec.obs_dim == 16
        assert obs.sum(1).tolist() == [1, 1]
        assert set(np.unique(step.obs)) == {0, 1}


def test_dict_observations_are_laid_out_flat_and_in_order():
    env = config("rlexp_test/Scripted-v0")
    assert describe(env).obs_dim == 3
    vec = VecEnv(env, [0])
    assert vec.reset().tolist() == [[0, 0.25, 0.75]]
    assert vec.step(np.zeros((1, 2), np.float32)).obs.tolist() == [[1, 0.25, 0.75]]


def test_actions_are_clipped_into_the_box_and_discrete_ones_left_alone():
    spec = describe(config("Pendulum-v1"))
    assert (spec.kind, spec.n_actions, spec.low_A.tolist(), spec.high_A.tolist()) == ("continuous", 1, [-2], [2])
    action = np.array([[-7.0], [0.5], [2.5]], np.float32)
    assert spec.executable(action).tolist() == [[-2], [0.5], [2]]
    assert spec.executable(action).dtype == np.float32
    assert action[0, 0] == -7, "the action as sampled is kept"
    discrete = np.array([0, 2])
    assert EnvSpec(4, "discrete", 3).executable(discrete) is discrete


def test_actions_may_be_executed_as_drawn():
    spec = describe(dataclasses.replace(config("Pendulum-v1"), clip_actions=False))
    action = np.array([[-7.0], [0.5]], np.float32)
    assert spec.executable(action).tolist() == [[-7], [0.5]]
    again = EnvSpec.with_bounds(3, "continuous", 1, spec.bounds)
    assert (again.clip_actions, again.bounds) == (False, spec.bounds)
    assert "clip_actions" not in describe(config("Pendulum-v1")).bounds, "files of the usual kind stay as they were"


def test_time_limit_of_the_config_replaces_the_environments_own():
    assert built("env=cartpole200").env.max_episode_steps == 200
    for limit, expected in ((None, 500), (200, 200), (1000, 1000)):
        assert make(config("CartPole-v1", limit=limit)).spec.max_episode_steps == expected


def test_scores_are_normalised_between_random_and_expert():
    hopper = built("env=hopper").env
    assert hopper.score(hopper.random_return) == 0
    assert hopper.score(hopper.expert_return) == 100
    assert config("CartPole-v1").score(500) is None


def test_mujoco_is_quiet_and_leaves_no_log(tmp_path):
    code = (
        "from rlexp.envs.make import describe; from tests.helpers import built\ndescribe(built('env=halfcheetah').env)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert (done.returncode, done.stderr, list(tmp_path.iterdir())) == (0, b"", [])
