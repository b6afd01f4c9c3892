"""Vanilla policy gradient: its loss, its samples, its direction."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlexp.algos import vpg as vpg_file
from rlexp.algos.vpg import VPG
from rlexp.envs.make import describe
from rlexp.experiment.task import make_task
from rlexp.rollout.collector import collect_steps
from rlexp.rollout.evaluation import evaluate
from rlexp.util import seeding
from tests.helpers import built


class Choice(gym.Env):
    """One step; action 1 pays 1, action 0 pays 0."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), float(action), True, False, {}


gym.register("rlexp_test/Choice-v0", entry_point=Choice)
# By `env=gym`, for which nothing is tuned: values are the defaults and what a test says.
CARTPOLE, CHOICE, LINEWORLD, PENDULUM = (
    ["env=gym", f"env.id={id}"]
    for id in ("CartPole-v1", "rlexp_test/Choice-v0", "rlexp/GridWorld-v0", "InvertedDoublePendulum-v5")
)


def vpg(*words: str) -> VPG:
    run = built("algo=vpg", *CARTPOLE, "policy.hidden=[8]", "algo.normalise_advantage=false", *words)
    torch.manual_seed(0)
    return VPG(run.algo, make_task(run, describe(run.env), 0))


def indifferent(algo: VPG) -> None:
    """Make all actions equally likely, and all values 3."""
    with torch.no_grad():
        algo.learner.theta.zero_()
        algo.net.critic[-1].bias.fill_(3.0)


def spied(algo: VPG) -> list[dict[str, torch.Tensor]]:
    """The batches that updates are given, as they come."""
    seen, update = [], algo.learner.update
    algo.learner.update = lambda batch: (seen.append(batch), update(batch))[1]
    return seen


def batch(n: int, adv: torch.Tensor, obs: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "obs": torch.randn(n, obs, generator=generator),
        "action": torch.randint(2, (n,), generator=generator),
        "adv": adv,
        "return": adv,
    }


def test_loss_of_equal_logits_is_ln2_times_the_mean_return():
    algo = vpg("algo.baseline=none")
    indifferent(algo)
    returns = torch.tensor([0.1, 0.9, -0.4, 1.3406])  # mean 0.48515
    loss, metrics = algo.loss(algo.net, batch(4, returns))
    assert float(loss.detach()) == pytest.approx(math.log(2) * float(returns.mean()))
    assert float(loss.detach()) == pytest.approx(0.3363, abs=5e-5)
    assert metrics["data/entropy"].item() == pytest.approx(math.log(2))
    assert "loss/value" not in metrics


def test_loss_is_the_mean_over_samples():
    """Not over episodes and not a sum: the same samples twice weigh the same."""
    algo = vpg("algo.baseline=value")
    once = batch(5, torch.randn(5))
    twice = {name: torch.cat([column, column]) for name, column in once.items()}
    a, b = (algo.loss(algo.net, x)[0].detach() for x in (once, twice))
    assert float(a) == pytest.approx(float(b), rel=1e-5)


def test_value_loss_is_the_mean_squared_error_times_its_weight():
    algo = vpg("algo.baseline=value", "algo.vf_coef=0.25")
    indifferent(algo)
    x = {**batch(2, torch.zeros(2)), "return": torch.tensor([1.0, 7.0])}
    loss, metrics = algo.loss(algo.net, x)
    assert metrics["loss/value"].item() == pytest.approx((4 + 16) / 2)
    assert float(loss.detach()) == pytest.approx(0.25 * 10)


def test_policy_gradient_does_not_reach_the_value_network_nor_the_value_loss_the_policy():
    algo = vpg("algo.baseline=value")
    x = batch(5, torch.zeros(5)) | {"return": torch.ones(5)}
    algo.loss(algo.net, x)[0].backward()
    assert not any(p.grad.any() for p in algo.net.actor.parameters()), "no advantage, no policy gradient"
    assert any(p.grad.any() for p in algo.net.critic.parameters())
    algo.learner.grad.zero_()
    x = batch(5, torch.ones(5)) | {"return": algo.net.critic(x["obs"])[:, 0].detach()}
    algo.loss(algo.net, x)[0].backward()
    assert any(p.grad.any() for p in algo.net.actor.parameters())
    assert not any(p.grad.any() for p in algo.net.critic.parameters()), "no error, no value gradient"


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("env", [CARTPOLE, PENDULUM], ids=["discrete", "continuous"])
def test_an_advantaged_action_becomes_likelier_and_a_disadvantaged_one_less(env, sign):
    algo = vpg("algo.baseline=none", *env)
    obs = torch.ones(1, algo.task.spec.obs_dim)
    action = torch.tensor([1]) if env is CARTPOLE else torch.tensor([[0.7]])
    x = {"obs": obs, "action": action, "adv": torch.tensor([sign]), "return": torch.tensor([sign])}
    before = algo.net.actor.log_prob_entropy(obs, action)[0].item()
    algo.learner.update(x)
    after = algo.net.actor.log_prob_entropy(obs, action)[0].item()
    assert (after - before) * sign > 0


@pytest.mark.parametrize("baseline", ["none", "value"])
def test_advantages_are_returns_to_go_less_the_baseline(baseline, monkeypatch):
    algo = vpg(f"algo.baseline={baseline}", *LINEWORLD, "algo.gamma=0.9", "algo.steps_per_epoch=60", "algo.num_envs=3")
    indifferent(algo)
    seen, played = spied(algo), []
    monkeypatch.setattr(vpg_file, "collect_steps", lambda *a: (played.append(collect_steps(*a)), played[-1])[1])
    algo.step()
    rows = played[0].reward_ET.astype(np.float64)
    assert rows.shape == (3, 20)
    returns = [[sum(0.9 ** (i - t) * row[i] for i in range(t, 20)) for t in range(20)] for row in rows]
    x = seen[0]
    assert sorted(x["return"].tolist()) == pytest.approx(sorted(np.ravel(returns)), abs=1e-5)
    shift = 3.0 if baseline == "value" else 0.0
    assert x["adv"].tolist() == pytest.approx((x["return"] - shift).tolist(), abs=1e-6)


def test_without_a_baseline_the_value_network_does_not_move():
    algo = vpg("algo.baseline=none", *LINEWORLD, "algo.steps_per_epoch=20", "algo.num_envs=1")
    before = [p.detach().clone() for p in algo.net.critic.parameters()]
    algo.step()
    assert all(torch.equal(p, q) for p, q in zip(algo.net.critic.parameters(), before, strict=True))


def test_advantages_are_standardised_once_per_iteration():
    algo = vpg("algo.baseline=none", *LINEWORLD, "algo.steps_per_epoch=60", "algo.num_envs=3", "algo.batch_size=25",
               "algo.normalise_advantage=true")  # fmt: skip
    seen = spied(algo)
    algo.step()
    adv = torch.cat([x["adv"] for x in seen])
    assert (float(adv.mean()), float(adv.std())) == pytest.approx((0, 1), abs=1e-5)
    assert abs(float(seen[0]["adv"].mean())) > 1e-3, "not per minibatch"


def test_one_sample_is_not_standardised_into_a_nan():
    algo = vpg(*CHOICE, "algo.steps_per_epoch=1", "algo.num_envs=1", "algo.normalise_advantage=true")
    assert all(math.isfinite(value) for value in algo.step().metrics.values())


@pytest.mark.parametrize(("wanted", "played"), [(1, 80), (80, 80), (81, 160), (161, 240)])
def test_rounds_of_whole_episodes_are_played_until_there_are_enough_steps(wanted, played):
    algo = vpg(*LINEWORLD, "algo.num_envs=4", f"algo.steps_per_epoch={wanted}")
    assert algo.step().env_steps == played


def test_no_episode_is_cut_and_no_two_are_the_same():
    algo = vpg("algo.num_envs=4", "algo.steps_per_epoch=200")
    played = collect_steps(200, algo._new_envs, algo.task.spec, algo.net.actor, algo.generator)
    assert len(played) % 4 == 0
    starts = played.obs_ETO[:, 0]
    assert (abs(starts) <= 0.05).all()
    assert len(np.unique(starts, axis=0)) == len(played) >= 8
    last = played.obs_ETO[played.last_ET]
    assert (np.maximum(abs(last[:, 0]) / 2.4, abs(last[:, 2]) / 0.2095) > 0.7).all(), "each was about to fall"
    assert played.length_E.sum() == played.return_E.sum() >= 200


def test_every_sample_is_used_once_per_epoch_also_the_last_few():
    algo = vpg(*LINEWORLD, "algo.num_envs=4", "algo.steps_per_epoch=80", "algo.batch_size=30", "algo.update_epochs=2",
               "algo.baseline=none")  # fmt: skip
    seen = spied(algo)
    progress = algo.step()
    assert [len(x["adv"]) for x in seen] == [30, 30, 20] * 2
    assert progress.updates == 6
    first, second = (torch.cat([x["return"] for x in seen[i : i + 3]]) for i in (0, 3))
    assert torch.equal(first.sort().values, second.sort().values)
    assert not torch.equal(first, second), "shuffled anew"


def test_one_update_takes_all_samples_where_no_minibatch_is_set():
    algo = vpg(*LINEWORLD, "algo.num_envs=4", "algo.steps_per_epoch=80", "algo.batch_size=0")
    seen = spied(algo)
    assert algo.step().updates == 1
    assert len(seen[0]["adv"]) == 80


@pytest.mark.parametrize("baseline", ["none", "value"])
def test_learns_which_of_two_actions_pays(baseline):
    algo = vpg(*CHOICE, f"algo.baseline={baseline}", "algo.lr=0.03", "algo.steps_per_epoch=32", "algo.num_envs=32")
    for _ in range(40):
        algo.step()
    p = algo.net.actor(torch.ones(1, 1)).softmax(-1)[0, 1].item()
    assert p > 0.95
    result = evaluate(algo.policy(), algo.task.env, seeding.stream(0, "eval"), 5)
    assert result.summary(algo.task.env)["return_mean"] == 1
