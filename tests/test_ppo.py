"""PPO: every place where implementations are known to go wrong."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlexp.algos.ppo import PPO
from rlexp.envs.backend import Step
from rlexp.envs.make import describe
from rlexp.experiment.probe import probe
from rlexp.experiment.task import make_task
from rlexp.nn.actors import Normaliser
from rlexp.policies.files import save_policy
from rlexp.rollout.collector import Collector, Rollout
from rlexp.rollout.evaluation import evaluate
from rlexp.util import seeding
from rlexp.util.errors import UserError
from tests.helpers import built

# By `env=gym`, for which nothing is tuned: the values below are the defaults and what a test says.
DISCRETE, CONTINUOUS = ["env=gym", "env.id=CartPole-v1"], ["env=gym", "env.id=Pendulum-v1"]


class OneStep(gym.Env):
    """One step, reward 3, from observation 1 to observation 5; its end is a time limit or a real one."""

    observation_space = gym.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, terminated: bool):
        self.terminated = terminated

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.full(1, 5, np.float32), 3.0, self.terminated, not self.terminated, {}


class Echo(gym.Env):
    """Pays the first dimension of the action as it arrives; the box is narrow, so that most samples leave it."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-0.1, 0.2, (3,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), float(action[0]), False, False, {}


gym.register("rlexp_test/OneStep-v0", entry_point=OneStep)
gym.register("rlexp_test/Echo-v0", entry_point=Echo)
ECHO = ["env=gym", "env.id=rlexp_test/Echo-v0"]


def ppo(*words: str, seed: int = 0) -> PPO:
    """A small one; `words` override."""
    small = ["algo.num_envs=2", "algo.num_steps=16", "algo.batch_size=8", "algo.update_epochs=2", "policy.hidden=[16]"]
    run = built("algo=ppo", *small, *words)
    torch.manual_seed(seed)
    return PPO(run.algo, make_task(run, describe(run.env), seed))


def spied(algo: PPO) -> list[tuple[dict, float, dict]]:
    """(batch, learning rate, metrics) of every update, as they come; and the log-probabilities just before it."""
    seen, update = [], algo.learner.update

    def spy(batch, lr):
        with torch.no_grad():
            now = algo.net.actor.log_prob_entropy(batch["obs"], batch["action"])[0]
        metrics = update(batch, lr)
        seen.append(({**batch, "logp_now": now}, lr, metrics))
        return metrics

    algo.learner.update = spy
    return seen


def linear_value(algo: PPO, weight: float, bias: float) -> None:
    """V(obs) = weight · obs[0] + bias; needs policy.hidden=[]."""
    with torch.no_grad():
        algo.net.critic[-1].weight.zero_()
        algo.net.critic[-1].weight[0, 0] = weight
        algo.net.critic[-1].bias.fill_(bias)


def collected(algo: PPO) -> Rollout:
    return algo.collector.collect(algo.net.actor, algo.config.num_steps, algo.generator, algo.obs_stats)


# ---- the first update ----


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
@pytest.mark.parametrize("normalise", [False, True])
def test_before_the_first_update_of_every_iteration_the_ratio_is_one(env, normalise):
    flag = str(normalise).lower()
    algo = ppo(*env, f"algo.normalise_obs={flag}", f"algo.normalise_reward={flag}", "algo.lr=0.01")
    for _ in range(3):  # later iterations have statistics to normalise with
        seen = spied(algo)
        algo.step()
        batch, _, metrics = seen[0]
        assert (batch["logp_now"] - batch["logp"]).abs().max() <= 1e-6
        assert abs(float(metrics["opt/kl"])) <= 1e-6
        assert metrics["opt/clip_fraction"] == 0
        assert abs(float(seen[-1][2]["opt/kl"])) > 1e-6, "later it moves"
        del algo.learner.update


@pytest.mark.parametrize("env", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_learning_sees_the_observations_that_acting_saw(env, monkeypatch):
    """Were the statistics updated in between, the ratio would still be 1 and yet be that of another policy."""
    algo = ppo(*env, "algo.normalise_obs=true", "algo.batch_size=1000", "algo.update_epochs=1")
    algo.step()
    acted, sample, seen = [], algo.net.actor.sample, spied(algo)
    monkeypatch.setattr(algo.net.actor, "sample", lambda x, noise: (acted.append(x.clone()), sample(x, noise))[1])
    algo.step()
    learned = seen[0][0]["obs"]
    key = lambda x: x[x[:, 0].argsort()]  # noqa: E731, minibatches are shuffled
    assert torch.equal(key(torch.cat(acted)), key(learned))


# ---- minibatches ----


def test_every_sample_is_used_in_every_epoch_also_the_last_few():
    algo = ppo(*CONTINUOUS, "algo.num_steps=5", "algo.batch_size=4", "algo.update_epochs=3")
    seen = spied(algo)
    progress = algo.step()
    assert [len(batch["adv"]) for batch, _, _ in seen] == [4, 4, 2] * 3
    assert (progress.updates, progress.env_steps) == (9, 10)
    epochs = [torch.cat([batch["adv"] for batch, _, _ in seen[i : i + 3]]) for i in (0, 3, 6)]
    assert len(set(epochs[0].tolist())) == 10
    for epoch in epochs[1:]:
        assert torch.equal(epoch.sort().values, epochs[0].sort().values)
        assert not torch.equal(epoch, epochs[0]), "shuffled anew"


def test_columns_of_a_sample_stay_together_when_shuffled():
    algo = ppo(*CONTINUOUS)
    seen = spied(algo)
    algo.step()
    for batch, _, _ in seen[:4]:  # the first epoch uses each sample once
        with torch.no_grad():
            value = algo.net.critic(batch["obs"]).squeeze(-1)
        assert torch.allclose(batch["return"], batch["adv"] + batch["value"], atol=1e-4)
        assert torch.corrcoef(torch.stack([value, batch["value"]]))[0, 1] > 0.5


def test_a_minibatch_of_one_is_not_standardised_into_a_nan():
    algo = ppo(*DISCRETE, "algo.num_steps=5", "algo.batch_size=9")  # 9 + 1
    seen = spied(algo)
    assert all(math.isfinite(value) for value in algo.step().metrics.values())
    assert len(seen[1][0]["adv"]) == 1
    assert torch.isfinite(algo.learner.theta).all()


def surrogate(algo: PPO, ratio: list[float], adv: list[float], clip: float = 0.2) -> tuple[float, float]:
    """Policy loss, and the size of its gradient, for given ratios."""
    obs = torch.zeros(len(ratio), algo.task.spec.obs_dim)
    action = torch.zeros(len(ratio), dtype=torch.int64)
    with torch.no_grad():
        now = algo.net.actor.log_prob_entropy(obs, action)[0]
    value = algo.net.critic(obs).squeeze(-1).detach()
    batch = {"obs": obs, "action": action, "adv": torch.tensor(adv), "logp": now - torch.tensor(ratio).log()}
    algo.learner.grad.zero_()
    loss, metrics = algo.loss(algo.net, {**batch, "value": value, "return": value, "clip": torch.tensor(clip)})
    loss.backward()
    return metrics["loss/policy"].item(), sum(float(p.grad.abs().sum()) for p in algo.net.actor.parameters())


def test_advantages_are_standardised_within_the_minibatch_or_not_at_all():
    with_, without = ppo(*DISCRETE), ppo(*DISCRETE, "algo.normalise_advantage=false")
    ratio, adv = [0.9, 1.1, 1.0, 1.05], [1.0, 2.0, -4.0, 9.0]
    a, b = (surrogate(with_, ratio, x)[0] for x in (adv, [5 + 3 * x for x in adv]))
    assert a == pytest.approx(b, abs=1e-5)
    z = (np.array(adv) - np.mean(adv)) / np.std(adv, ddof=1)
    assert a == pytest.approx(-np.mean(np.array(ratio) * z), abs=1e-5)
    assert surrogate(without, ratio, adv)[0] == pytest.approx(-np.mean(np.array(ratio) * adv), abs=1e-5)


# ---- the clipped losses, by hand ----


@pytest.mark.parametrize(
    ("ratio", "adv", "loss", "moves"),
    [
        (1.0, 2.0, -2.0, True),
        (1.5, 2.0, -2.4, False),  # good and already much likelier: enough
        (0.5, 2.0, -1.0, True),  # good but less likely than it was: mend it
        (1.1, 2.0, -2.2, True),
        (1.0, -2.0, 2.0, True),
        (1.5, -2.0, 3.0, True),  # bad and likelier than it was: mend it, without limit
        (0.5, -2.0, 1.6, False),  # bad and already much less likely: enough
        (0.9, -2.0, 1.8, True),
    ],
)
def test_clipped_surrogate(ratio, adv, loss, moves):
    value, gradient = surrogate(ppo(*DISCRETE), [ratio], [adv])
    assert value == pytest.approx(loss, rel=1e-5)
    assert (gradient > 1e-6) == moves


@pytest.mark.parametrize(
    ("clip", "value", "old", "target", "loss"),
    [
        ("null", 3.0, 1.0, 5.0, 0.5 * 4),
        ("0.5", 3.0, 1.0, 5.0, 0.5 * 3.5**2),  # clipped to 1.5, the larger error counts
        ("0.5", 3.0, 1.0, 1.0, 0.5 * 4),  # clipping would hide the error: it does not
        ("0.5", 1.2, 1.0, 5.0, 0.5 * 3.8**2),  # within reach: plain
        ("0.5", -1.0, 1.0, -5.0, 0.5 * 5.5**2),
    ],
)
def test_value_clipping(clip, value, old, target, loss):
    algo = ppo(*DISCRETE, f"algo.vf_clip_coef={clip}", "policy.hidden=[]")
    linear_value(algo, 0.0, value)
    x = {"obs": torch.zeros(1, 4), "action": torch.tensor([0]), "adv": torch.zeros(1), "logp": torch.zeros(1)}
    x |= {"value": torch.tensor([old]), "return": torch.tensor([target]), "clip": torch.tensor(0.2)}
    assert algo.loss(algo.net, x)[1]["loss/value"].item() == pytest.approx(loss)


def test_total_loss_weighs_value_and_rewards_entropy():
    obs = torch.randn(6, 4)
    x = {"obs": obs, "action": torch.tensor([0, 1] * 3), "adv": torch.randn(6), "logp": torch.full((6,), -0.7)}
    x |= {"value": torch.zeros(6), "return": torch.ones(6), "clip": torch.tensor(0.2)}
    algo = ppo(*DISCRETE, "algo.vf_coef=0.3", "algo.ent_coef=0.07")
    with torch.no_grad():
        loss, m = algo.loss(algo.net, x)
        entropy = torch.distributions.Categorical(logits=algo.net.actor(obs)).entropy().mean()
    assert float(m["data/entropy"]) == pytest.approx(float(entropy), rel=1e-5)
    assert float(loss) == pytest.approx(float(m["loss/policy"] + 0.3 * m["loss/value"] - 0.07 * entropy), rel=1e-5)


@pytest.mark.parametrize("target", ["1e-7", "null"])
def test_exceeding_the_kl_target_ends_all_epochs(target):
    algo = ppo(*DISCRETE, f"algo.target_kl={target}", "algo.lr=0.01", "algo.update_epochs=5")
    assert algo.step().updates == (20 if target == "null" else 2), "the first has KL 0, the second stops it all"


# ---- actions ----


def test_log_probability_is_that_of_the_unclipped_action_and_the_clipped_one_is_executed():
    algo = ppo(*ECHO)
    r = collected(algo)
    assert r.action.shape == (16, 2, 3)
    assert r.action.dtype == np.float32
    assert (abs(r.action) > 0.3).mean() > 0.5, "stored as sampled, of deviation 1"
    np.testing.assert_allclose(r.reward_TB, np.clip(r.action[..., 0], -0.1, 0.2))  # executed inside the box
    batch, _ = algo._prepare(r)
    normal = torch.distributions.Normal(algo.net.actor(batch["obs"]), algo.net.actor.log_std.exp())
    assert torch.allclose(batch["logp"], normal.log_prob(torch.from_numpy(r.action.reshape(32, 3))).sum(-1), atol=1e-5)


@pytest.mark.parametrize("explore", [False, True])
def test_policies_act_inside_the_box(explore):
    algo = ppo(*ECHO)
    with torch.no_grad():
        algo.net.actor.body[-1].bias.copy_(torch.tensor([5.0, -5.0, 0.05]))
        algo.net.actor.log_std.fill_(-4)
    policy = algo.policy(explore=explore)
    policy.start(4, np.random.default_rng(0))
    action = policy.act(np.zeros((4, 2), np.float32))
    assert action[:, :2].tolist() == np.float32([[0.2, -0.1]] * 4).tolist()
    assert action[:, 2] == pytest.approx(0.05, abs=0.1)
    assert (action[0] != action[1]).any() == explore


# ---- initial weights and optimiser ----


def test_weights_from_a_file_go_with_the_statistics_that_they_were_trained_on(tmp_path):
    first = ppo("algo.normalise_obs=true")
    first.step()
    save_policy(tmp_path / "p.safetensors", first.policy(), first.task.env, {})
    second = ppo("algo.normalise_obs=true", f"policy.init={tmp_path / 'p.safetensors'}")
    obs = np.random.default_rng(0).normal(size=(5, first.task.spec.obs_dim)).astype(np.float32)
    assert np.array_equal(second.policy().act(obs), first.policy().act(obs))
    with pytest.raises(UserError, match="this run takes them raw"):
        probe(built("algo=vpg", "env=hopper", "policy.hidden=[64,64]", "policy.init=ppo-hopper"))
    save_policy(tmp_path / "raw.safetensors", ppo("algo.normalise_obs=false").policy(), first.task.env, {})
    with pytest.raises(UserError, match="sees observations raw"):
        ppo("algo.normalise_obs=true", f"policy.init={tmp_path / 'raw.safetensors'}")


def test_initial_weights_are_orthogonal_with_their_gains_and_adam_has_its_epsilon():
    algo = ppo(*DISCRETE, "policy.hidden=[16,16]")
    for net, last in ((algo.net.actor.body, 0.01), (algo.net.critic, 1.0)):
        layers = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
        for layer, gain in zip(layers, (math.sqrt(2), math.sqrt(2), last), strict=True):
            values = torch.linalg.svdvals(layer.weight.detach())
            assert values.tolist() == pytest.approx([gain] * len(values), rel=1e-4)
            assert not layer.bias.any()
    assert algo.learner.eps == 1e-5
    assert algo.learner.clip == 0.5


# ---- normalisation ----


def test_rewards_are_divided_by_the_deviation_of_the_discounted_return_and_nothing_is_subtracted():
    """Returns run on across rollouts, end with their episodes, and the mean reward, here 1, keeps its sign."""
    algo = ppo(*DISCRETE, "algo.normalise_reward=true", "algo.gamma=0.9", "algo.gae_lambda=0", "policy.hidden=[]")
    linear_value(algo, 0.0, 0.0)
    running, sums = [0.0, 0.0], []
    for _ in range(4):
        r = collected(algo)
        for t in range(16):
            for b in range(2):
                running[b] = 0.9 * running[b] + float(r.reward_TB[t, b])
                sums.append(running[b])
                running[b] = 0.0 if r.terminated_TB[t, b] or r.truncated_TB[t, b] else running[b]
        batch, _ = algo._prepare(r)
        expected = r.reward_TB / np.sqrt(np.var(sums) + 1e-8)
        assert batch["return"].reshape(16, 2).numpy() == pytest.approx(expected, rel=1e-4)
    assert r.terminated_TB.any() or len(sums) > 2 * 16
    assert (batch["return"] > 0).all()


def test_observation_statistics_are_those_of_all_raw_observations_of_training(monkeypatch):
    algo = ppo(*CONTINUOUS, "algo.normalise_obs=true")
    seen, collect = [], algo.collector.collect
    monkeypatch.setattr(algo.collector, "collect", lambda *a: (seen.append(collect(*a)), seen[-1])[1])
    for _ in range(3):
        algo.step()
    x = np.concatenate([r.obs_TBO.reshape(-1, 3) for r in seen]).astype(np.float64)
    assert algo.obs_stats.count == len(x) == 96
    assert algo.obs_stats.mean == pytest.approx(x.mean(0))
    assert algo.obs_stats.var == pytest.approx(x.var(0))


def test_evaluation_and_the_policies_it_uses_leave_the_statistics_alone():
    algo = ppo(*CONTINUOUS, "algo.normalise_obs=true", "algo.normalise_reward=true", "env.max_episode_steps=20")
    algo.step()
    parts = (algo.obs_stats, algo.return_stats)
    before = [{name: np.copy(value) for name, value in part.state_dict().items()} for part in parts]
    policy = algo.policy()
    evaluate(policy, algo.task.env, seeding.stream(0, "eval"), 4)
    for part, old in zip(parts, before, strict=True):
        assert all(np.array_equal(value, old[name]) for name, value in part.state_dict().items())
    assert isinstance(policy.normaliser, Normaliser)
    obs = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    action = policy.act(obs)
    algo.step()
    assert np.array_equal(policy.act(obs), action), "a policy handed out does not change while training goes on"
    assert not np.array_equal(algo.policy().act(obs), action)


# ---- ends of episodes ----

BOOTSTRAP = ["env=gym", "env.id=rlexp_test/OneStep-v0", "policy.hidden=[]", "algo.gamma=0.9"]


@pytest.mark.parametrize("lam", [0, 0.95, 1])
@pytest.mark.parametrize("weight", [0.0, 2.0])
@pytest.mark.parametrize("terminated", [False, True])
def test_targets_of_one_step_episodes_by_their_kind_of_end(terminated, weight, lam):
    """V(start) = weight + 7, V(final) = 5 weight + 7: a cut is worth V of the final observation, not of the reset."""
    words = [f"+env.kwargs.terminated={terminated}".lower(), f"algo.gae_lambda={lam}"]
    algo = ppo(*BOOTSTRAP, *words)
    linear_value(algo, weight, 7.0)
    batch, _ = algo._prepare(collected(algo))
    expected = 3 if terminated else 3 + 0.9 * (5 * weight + 7)
    assert batch["return"].tolist() == pytest.approx([expected] * 32)
    assert batch["adv"].tolist() == pytest.approx([expected - (weight + 7)] * 32, abs=1e-5)


class TwoEnds:
    """Two environments of one-step episodes; only the second is cut, at a different place each time."""

    n = 2

    def __init__(self):
        self.t = 0

    def reset(self) -> np.ndarray:
        return np.ones((2, 1), np.float32)

    def require_finite(self, *arrays: np.ndarray) -> None:
        assert all(np.isfinite(array).all() for array in arrays)

    def step(self, action: np.ndarray) -> Step:
        self.t += 1
        final = np.full((2, 1), 4 + self.t, np.float32)
        flags = np.array([True, False]), np.array([False, True])
        return Step(self.reset(), np.full(2, 3, np.float32), *flags, final, [{}] * 2)

    def close(self) -> None: ...


def test_of_two_environments_only_the_one_that_was_cut_bootstraps_from_its_own_final_observation():
    algo = ppo(*BOOTSTRAP, "+env.kwargs.terminated=true", "algo.num_steps=4")
    linear_value(algo, 2.0, 7.0)
    algo.collector = Collector(TwoEnds(), algo.task.spec)
    batch, _ = algo._prepare(collected(algo))
    target_TB = batch["return"].reshape(4, 2)
    assert target_TB[:, 0].tolist() == pytest.approx([3] * 4)
    assert target_TB[:, 1].tolist() == pytest.approx([3 + 0.9 * (2 * (5 + t) + 7) for t in range(4)])


def test_the_last_step_of_a_rollout_bootstraps_from_what_follows_it():
    algo = ppo(*ECHO, "algo.gamma=0.9", "policy.hidden=[]")
    linear_value(algo, 2.0, 7.0)
    r = collected(algo)
    batch, _ = algo._prepare(r)
    expected = r.reward_TB[-1] + 0.9 * (2 * r.last_obs_BO[:, 0] + 7)
    assert batch["return"].reshape(16, 2)[-1].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_restarting_begins_new_episodes_seeded_by_the_step():
    algo = ppo(*DISCRETE, "algo.normalise_reward=true")
    algo.step()
    assert algo.collector.length_B.any()
    assert algo.discounted_B.any()
    starts = []
    for step in (0, 1000, 1000):
        algo.restart(step)
        assert not algo.collector.length_B.any()
        assert not algo.collector.total_B.any()
        assert not algo.discounted_B.any()
        assert (abs(algo.collector.obs_BO) <= 0.05).all()
        starts.append(algo.collector.obs_BO.copy())
    assert np.array_equal(starts[1], starts[2])
    assert not np.array_equal(starts[0], starts[1])
    r = collected(algo)
    assert np.array_equal(r.obs_TBO[0], starts[2])


def test_restarting_closes_the_environments_it_replaces(monkeypatch):
    """Simulators hold windows, threads and memory; a long run restarts often."""
    algo, closed = ppo(*DISCRETE), []
    old = algo.collector.envs
    monkeypatch.setattr(old, "close", lambda: closed.append(True))
    algo.restart(1000)
    assert closed == [True]


# ---- schedules ----


@pytest.mark.parametrize("linear", ["lr", "clip"])
def test_linear_schedules_fall_to_zero_at_the_horizon(linear):
    algo = ppo(
        *DISCRETE,
        f"algo.{linear}_schedule=linear",
        "algo.anneal_steps=128",
        "train.budget=128",
        "algo.lr=0.01",
        "algo.clip_coef=0.4",
    )
    seen, rates = spied(algo), []
    for _ in range(4):
        rates.append(algo.step().metrics["opt/lr"])
    left = np.repeat([1, 0.75, 0.5, 0.25], len(seen) // 4)
    lr = 0.01 * (left if linear == "lr" else 1 + 0 * left)
    clip = 0.4 * (left if linear == "clip" else 1 + 0 * left)
    assert [rate for _, rate, _ in seen] == pytest.approx(lr.tolist())
    assert [float(batch["clip"]) for batch, _, _ in seen] == pytest.approx(clip.tolist())
    assert rates == pytest.approx(lr[:: len(seen) // 4].tolist())


@pytest.mark.parametrize("linear", ["lr", "clip"])
def test_a_budget_beyond_the_end_of_a_linear_schedule_is_refused(linear):
    words = ["algo=ppo", *DISCRETE, f"algo.{linear}_schedule=linear", "algo.anneal_steps=1000"]
    with pytest.raises(UserError, match=r"algo\.anneal_steps: is 1000.*train\.budget is 1001"):
        built(*words, "train.budget=1001")
    assert built(*words, "train.budget=1000").algo.anneal_steps == 1000
    assert built("algo=ppo", *DISCRETE, "algo.anneal_steps=1000", "train.budget=2000"), (
        "nothing depends on it when all is constant"
    )


def test_a_schedule_ends_with_the_budget_where_none_is_given():
    words = ["algo=ppo", *DISCRETE, "algo.lr_schedule=linear", "train.budget=5000", "algo.num_steps=16"]
    assert built(*words).algo.anneal_steps == 5000
    try:
        run = built(*words, "algo.anneal_steps=null")
    except UserError as error:
        assert "anneal_steps" in str(error)  # noqa: PT017, either is an honest answer; ignoring the schedule is not
        return
    algo = PPO(run.algo, make_task(run, describe(run.env), 0))
    assert algo.step().metrics["opt/lr"] > algo.step().metrics["opt/lr"]


def test_schedules_continue_where_a_restored_state_was():
    first, second = (ppo(*DISCRETE, "algo.lr_schedule=linear", "train.budget=128", seed=seed) for seed in (0, 1))
    first.step()
    second.load_state_dict(first.state_dict())
    assert first.step().metrics["opt/lr"] == second.step().metrics["opt/lr"] == pytest.approx(3e-4 * 0.75)


# ---- what is reported ----


def test_reported_returns_are_those_of_ended_episodes():
    algo = ppo(*DISCRETE, "env.max_episode_steps=8")
    metrics = algo.step().metrics
    assert (metrics["data/return_mean"], metrics["data/length_mean"]) == (8, 8)
    algo = ppo(*DISCRETE, "algo.num_steps=4")
    assert "data/return_mean" not in algo.step().metrics, "none has ended yet"
