"""Evaluation and collection: what they record, and that neither disturbs the other."""

import random

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlexp.envs.backend import Step
from rlexp.envs.make import describe, make
from rlexp.envs.spec import EnvConfig, EnvSpec
from rlexp.envs.vector import VecEnv
from rlexp.nn.actors import Normaliser, make_actor
from rlexp.policies.actor import ActorPolicy
from rlexp.rollout.collector import Collector, collect
from rlexp.rollout.evaluation import Episode, Evaluation, evaluate
from rlexp.util import seeding
from tests.helpers import Unsaved, built, task


class Countdown(gym.Env):
    """Lasts 2 to 6 steps, drawn at each reset, and shows (length, steps done). Pays 1, 2, 4, …: no two sums agree."""

    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length, self.t = int(self.np_random.integers(2, 7)), 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        ended = self.t == self.length
        info = {"is_success": self.length > 4} if ended else {}
        return self._obs(), 2.0 ** (self.t - 1), ended, False, info

    def _obs(self):
        return np.array([self.length, self.t], np.float32)


gym.register("rlexp_test/Countdown-v0", entry_point=Countdown)
COUNTDOWN = EnvConfig(id="rlexp_test/Countdown-v0", name="c", kwargs={}, max_episode_steps=None, backend="gymnasium",
                      random_return=None, expert_return=None)  # fmt: skip


def actor_for(env: EnvConfig, hidden=(16,)):
    spec = describe(env)
    torch.manual_seed(0)
    return make_actor(spec.kind, spec.obs_dim, spec.n_actions, hidden=hidden, activation="tanh"), spec


class Witness(Unsaved):
    """Writes down what it is told."""

    def __init__(self):
        self.started, self.seen, self.rewards = [], [], []

    def start(self, batch, rng):
        self.started.append((batch, rng.integers(2**31)))

    def act(self, obs_BO):
        self.seen.append(obs_BO.copy())
        return np.zeros(len(obs_BO), np.int64)

    def observe(self, reward_B):
        self.rewards.append(reward_B)


# ---- evaluation ----


def test_evaluation_records_every_episode_whole():
    result = evaluate(Witness(), COUNTDOWN, seeding.stream(0, "eval"), 40)
    lengths = []
    for episode in result.episodes:
        env = make(COUNTDOWN)
        length = int(env.reset(seed=episode.seed)[0][0])
        assert episode.reward_T.tolist() == [2.0**t for t in range(length)]
        assert len(episode.action) == length
        assert episode.total == 2.0**length - 1
        assert episode.success == (length > 4)
        lengths.append(length)
    assert set(lengths) == {2, 3, 4, 5, 6}
    summary = result.summary(COUNTDOWN)
    total = 2.0 ** np.array(lengths) - 1
    assert summary["length_mean"] == np.mean(lengths)
    assert summary["return_mean"] == total.mean()
    assert summary["return_std"] == pytest.approx(np.std(total, ddof=1)), "the sample deviation"
    assert (summary["return_min"], summary["return_median"], summary["return_max"]) == (3, np.median(total), 63)
    assert summary["last_reward_mean"] == pytest.approx(np.mean(2.0 ** (np.array(lengths) - 1)))
    assert summary["success_rate"] == np.mean(np.array(lengths) > 4)
    assert "score" not in summary


def test_an_episode_that_says_nothing_of_success_had_none():
    episodes = [Episode(0, np.zeros(1, int), np.ones(1, np.float32), success) for success in (None, 1.0, None)]
    for some, rate in ((episodes, 1 / 3), (episodes[1:], 1 / 2)):
        assert Evaluation(some, sampled=False).summary(COUNTDOWN)["success_rate"] == rate
    assert "success_rate" not in Evaluation(episodes[:1], sampled=False).summary(COUNTDOWN)


def test_one_episode_has_no_deviation_rather_than_a_nan():
    assert evaluate(Witness(), COUNTDOWN, seeding.stream(0, "eval"), 1).summary(COUNTDOWN)["return_std"] == 0


def test_a_policy_with_memory_is_told_of_each_start_observation_and_reward():
    policy = Witness()
    result = evaluate(policy, COUNTDOWN, seeding.stream(0, "eval"), 8)
    assert [batch for batch, _ in policy.started] == [8]
    reward_TB, obs_TBO = np.stack(policy.rewards), np.stack(policy.seen)
    for b, episode in enumerate(result.episodes):
        t = len(episode.reward_T)
        assert reward_TB[:t, b].tolist() == episode.reward_T.tolist(), "rewards reach the row they belong to"
        assert not reward_TB[t:, b].any()
        assert obs_TBO[:t, b, 1].tolist() == list(range(t))
        assert (obs_TBO[:t, b, 0] == t).all()


@pytest.mark.parametrize("env", ["cartpole", "lineworld", "inverted_double_pendulum"])
def test_episodes_side_by_side_are_the_same_episodes_one_by_one(env):
    config = built(f"env={env}").env.on_gymnasium()
    net, spec = actor_for(config)
    policy = ActorPolicy(net, spec)
    result = evaluate(policy, config, seeding.stream(0, "eval", 7), 12)
    assert len({episode.seed for episode in result.episodes}) == 12
    for episode in result.episodes:
        single = make(config)
        obs, rewards, ended = single.reset(seed=episode.seed)[0], [], False
        while not ended:
            action = policy.act(np.asarray(obs, np.float32)[None])[0]
            obs, reward, terminated, truncated, _ = single.step(action)
            rewards.append(reward)
            ended = terminated or truncated
        assert len(rewards) == len(episode.reward_T)
        assert rewards == pytest.approx(episode.reward_T.tolist(), abs=1e-4)


@pytest.mark.parametrize("env", ["cartpole", "inverted_double_pendulum"])
@pytest.mark.parametrize("explore", [False, True])
def test_replaying_the_actions_of_an_episode_from_its_seed_repeats_it(env, explore):
    config = built(f"env={env}").env.on_gymnasium()
    net, spec = actor_for(config)
    result = evaluate(ActorPolicy(net, spec, explore=explore), config, seeding.stream(0, "eval"), 5)
    for episode in result.episodes:
        single = make(config)
        single.reset(seed=episode.seed)
        steps = [single.step(action) for action in episode.action]
        assert [np.float32(step[1]) for step in steps] == episode.reward_T.tolist()
        assert [step[2] or step[3] for step in steps] == [False] * (len(steps) - 1) + [True]


def test_evaluations_repeat_by_their_stream_and_mean_actions_need_no_chance():
    config = built("env=cartpole").env
    net, spec = actor_for(config)

    def totals(explore: bool, *key) -> list[float]:
        policy = ActorPolicy(net, spec, explore=explore)
        return [e.total for e in evaluate(policy, config, seeding.stream(*key), 10).episodes]

    assert totals(True, 0, "eval", 5) == totals(True, 0, "eval", 5)
    assert totals(True, 0, "eval", 5) != totals(True, 0, "eval", 6)
    assert totals(True, 0, "eval", 5) != totals(True, 1, "eval", 5)
    assert totals(False, 0, "eval", 5) != totals(True, 0, "eval", 5), "sampled and mean actions differ"
    witness = Witness()
    for key in ((0, "eval", 5), (0, "eval", 5), (0, "eval", 6), (1, "eval", 5)):
        evaluate(witness, COUNTDOWN, seeding.stream(*key), 2)
    noise = [drawn for _, drawn in witness.started]
    assert noise[0] == noise[1], "what a policy samples by, apart from the environments"
    assert len(set(noise)) == 3
    policy = ActorPolicy(net, spec)
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert np.array_equal(policy.act(obs), policy.act(obs))


@pytest.mark.parametrize("algo", ["ppo", "vpg"])
@pytest.mark.parametrize("explore", [False, True])
def test_evaluating_between_steps_changes_nothing_of_training(algo, explore):
    """Neither its environments nor its generators nor its statistics."""
    words = {"ppo": ["algo.num_envs=2", "algo.num_steps=32", "algo.normalise_obs=true", "algo.normalise_reward=true"],
             "vpg": ["algo.num_envs=2", "algo.steps_per_epoch=10"]}  # fmt: skip
    run = built(f"algo={algo}", "env=cartpole", *words[algo])
    seen = []
    for evaluations in (0, 2):
        seeding.seed_globals(seeding.stream(0, "init"))
        learner = run.algo_class(run.algo, task())
        metrics = []
        for _ in range(3):
            metrics.append(dict(learner.step().metrics))
            for _ in range(evaluations):
                evaluate(learner.policy(explore=explore), run.env, seeding.stream(0, "eval"), 3)
        seen.append((metrics, learner.learner.theta.tolist()))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("explore", [False, True])
def test_making_and_evaluating_a_policy_draws_nothing_from_the_global_generators(explore):
    """They draw dropout masks, say: evaluating more often must not change those."""
    run = built("algo=ppo", "env=cartpole", "algo.num_envs=2")
    learner = run.algo_class(run.algo, task())
    seeding.seed_globals(seeding.stream(0, "init"))
    expected = random.random(), np.random.rand(), float(torch.rand(()))
    seeding.seed_globals(seeding.stream(0, "init"))
    evaluate(learner.policy(explore=explore), run.env, seeding.stream(0, "eval"), 3)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected


def test_evaluation_freezes_a_copy_of_the_normaliser():
    config = built("env=cartpole").env
    net, spec = actor_for(config)
    normaliser = Normaliser(4)
    normaliser.update(np.random.default_rng(0).normal(2, 3, (50, 4)))
    policy = ActorPolicy(net, spec, normaliser)
    before = {name: np.copy(value) for name, value in policy.state_dict()["normaliser"].items()}
    evaluate(policy, config, seeding.stream(0, "eval"), 3)
    normaliser.update(np.full((50, 4), 100.0))
    with torch.no_grad():
        net.body[0].weight.zero_()
    for name, value in policy.state_dict()["normaliser"].items():
        assert np.array_equal(value, before[name])
    assert policy.actor.body[0].weight.abs().sum() > 0, "the weights are a copy as well"


# ---- collection ----


def test_collected_steps_are_the_episodes_that_were_played():
    net, spec = actor_for(COUNTDOWN)
    collector, generator = Collector(VecEnv(COUNTDOWN, [1, 2, 3]), spec), torch.Generator().manual_seed(0)
    expected: list[int] = []
    open_B = np.zeros(3, int)
    for steps in (7, 1, 20):  # episodes go on from one rollout to the next
        r = collector.collect(net, steps, generator)
        assert r.obs_TBO.shape == (steps, 3, 2)
        assert r.action.shape == r.reward_TB.shape == (steps, 3)
        ended = []
        for t in range(steps):
            for b in range(3):
                length, done = r.obs_TBO[t, b]
                assert done == open_B[b]
                assert r.reward_TB[t, b] == 2.0**done
                open_B[b] += 1
                assert r.terminated_TB[t, b] == (open_B[b] == length)
                if r.terminated_TB[t, b]:
                    ended.append(int(length))
                    open_B[b] = 0
        assert not r.truncated_TB.any()
        assert r.cut_obs_NO.shape == (0, 2)
        assert r.lengths == ended
        assert r.returns == [2.0**length - 1 for length in ended]
        assert (r.last_obs_BO[:, 1] == open_B).all()
        expected += ended
    assert len(expected) > 12


class Ends:
    """Three environments, one step each: the first and the third terminate, the second is cut."""

    n = 3

    def __init__(self):
        self.t = 0

    def reset(self) -> np.ndarray:
        return np.zeros((3, 1), np.float32)

    def require_finite(self, *arrays: np.ndarray) -> None:
        assert all(np.isfinite(array).all() for array in arrays)

    def step(self, action: np.ndarray) -> Step:
        self.t += 1
        final = (10 * self.t + np.arange(3, dtype=np.float32))[:, None]
        flags = np.array([True, False, True]), np.array([False, True, False])
        return Step(self.reset(), np.ones(3, np.float32), *flags, final, [{}] * 3)


def test_ends_of_both_kinds_stay_apart_and_final_observations_of_cuts_are_kept_in_order():
    net = make_actor("discrete", 1, 2, hidden=[], activation="tanh")
    r = Collector(Ends(), EnvSpec(1, "discrete", 2)).collect(net, 3, torch.Generator())
    assert r.terminated_TB.tolist() == [[True, False, True]] * 3
    assert r.truncated_TB.tolist() == [[False, True, False]] * 3
    assert r.cut_obs_NO.tolist() == [[11], [21], [31]]
    assert r.lengths == [1] * 9
    assert r.returns == [1] * 9


def test_time_limits_reach_the_rollout_as_truncations_with_their_final_observation():
    config = built("env=cartpole", "env.max_episode_steps=5").env
    net, spec = actor_for(config)
    r = Collector(VecEnv(config, [1, 2]), spec).collect(net, 12, torch.Generator().manual_seed(0))
    assert r.truncated_TB.all(1).nonzero()[0].tolist() == [4, 9]
    assert not r.terminated_TB.any()
    assert r.cut_obs_NO.shape == (4, 4)
    assert r.lengths == [5] * 4
    for row, (t, b) in enumerate([(4, 0), (4, 1), (9, 0), (9, 1)]):
        x, v = r.obs_TBO[t, b, :2]
        assert r.cut_obs_NO[row, 0] == pytest.approx(x + 0.02 * v, abs=1e-6), "one step of physics beyond the last"
        assert abs(r.obs_TBO[t + 1, b]).max() <= 0.05, "what comes next is a new start"


def test_rollouts_hold_raw_observations_and_actors_see_normalised_ones(monkeypatch):
    config = built("env=cartpole").env
    net, spec = actor_for(config)
    normaliser, seen = Normaliser(4), []
    normaliser.update(np.random.default_rng(0).normal(5, 2, (100, 4)))
    sample = net.sample
    monkeypatch.setattr(net, "sample", lambda x, noise: (seen.append(x.numpy().copy()), sample(x, noise))[1])
    collector = Collector(VecEnv(config, [1, 2]), spec)
    start = collector.obs_BO.copy()
    before = normaliser.state_dict()
    r = collector.collect(net, 10, torch.Generator().manual_seed(0), normaliser)
    assert np.array_equal(r.obs_TBO[0], start)
    assert np.array_equal(np.stack(seen), normaliser(r.obs_TBO))
    assert all(np.array_equal(before[name], value) for name, value in normaliser.state_dict().items())


def test_whole_episodes_are_collected_side_by_side():
    net, spec = actor_for(COUNTDOWN)
    played = collect(VecEnv(COUNTDOWN, [1, 2, 3, 4]), spec, net, torch.Generator().manual_seed(0))
    lengths = VecEnv(COUNTDOWN, [1, 2, 3, 4]).reset()[:, 0].astype(int)
    assert len(set(lengths)) > 1
    assert played.length_E.tolist() == lengths.tolist()
    assert np.argwhere(played.last_ET).tolist() == [[e, length - 1] for e, length in enumerate(lengths)]
    obs, reward = played.obs_ETO[played.valid_ET], played.reward_ET[played.valid_ET]
    assert obs[:, 0].tolist() == np.repeat(lengths, lengths).tolist()
    assert obs[:, 1].tolist() == [t for length in lengths for t in range(length)]
    assert reward.tolist() == [2.0**t for length in lengths for t in range(length)]
    assert not played.reward_ET[~played.valid_ET].any()
