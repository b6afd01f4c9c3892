"""Behaviour cloning: what it converges to, what it is shown, what is held out."""

import dataclasses
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlexp.algos.base import Task
from rlexp.algos.bc import BC
from rlexp.buffers.dataset import Dataset
from rlexp.envs.make import describe
from rlexp.policies.files import load_policy, save_policy
from rlexp.util import checkpoint
from rlexp.util.errors import UserError
from tests.helpers import built


class Nowhere(gym.Env):
    """Spaces of which data can be made: 3 observations; 2 actions in [-1, 1], or one of 3."""

    def __init__(self, discrete: bool = False):
        self.observation_space = gym.spaces.Box(-9, 9, (3,), np.float32)
        self.action_space = gym.spaces.Discrete(3) if discrete else gym.spaces.Box(-1, 1, (2,), np.float32)


gym.register("rlexp_test/Nowhere-v0", entry_point=Nowhere)
CONTINUOUS = ["algo=bc", "env=gym", "env.id=rlexp_test/Nowhere-v0", "policy=linear"]
DISCRETE = [*CONTINUOUS, "+env.kwargs.discrete=true"]
LENGTHS = (1, 40, 7, 152, 30, 70)


def episodes(action_of, lengths=LENGTHS) -> Dataset:
    """Episodes whose observations have very different scales; the first one names the episode."""
    rng, n = np.random.default_rng(0), sum(lengths)
    x_NO = rng.normal(size=(n, 3)) * [1, 40, 0.01] + [0, 100, 5]
    x_NO[:, 0] = np.repeat(np.arange(len(lengths)), lengths)
    obs_NO = x_NO.astype(np.float32)
    ends = np.zeros(len(lengths), bool)
    return Dataset(
        "test", obs_NO, action_of(obs_NO, rng), np.zeros(n, np.float32), np.array(lengths), ends, obs_NO[: len(lengths)]
    )


def linear(obs_NO: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A linear demonstrator with a shaking hand."""
    z_NO = (obs_NO - obs_NO.mean(0)) / obs_NO.std(0)
    mean_NA = z_NO @ np.array([[0.1, -0.2], [0.2, 0.1], [-0.1, 0.05]]) + [0.3, -0.1]
    return (mean_NA + rng.normal(size=mean_NA.shape) * [0.05, 0.2]).astype(np.float32)


def numbered(obs_NO: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Actions from which their observation can be told."""
    return (obs_NO[:, :2] / 1000).astype(np.float32)


def bc(data: Dataset, *words: str, **changes) -> BC:
    run = built(*words)
    torch.manual_seed(0)
    return BC(run.algo, Task(run.env, describe(run.env), run.policy, 0, data=data, **changes))


def spied(algo: BC) -> list[dict[str, torch.Tensor]]:
    """The batches that updates are given, as they come."""
    seen, update = [], algo.learner.update
    algo.learner.update = lambda batch: (seen.append(batch), update(batch))[1]
    return seen


def least_squares(data: Dataset) -> np.ndarray:
    """(O + 1, A) coefficients."""
    x = np.c_[data.obs_NO.astype(np.float64), np.ones(len(data))]
    return np.linalg.lstsq(x, data.action.astype(np.float64), rcond=None)[0]


FULL_BATCH = ["algo.validation_fraction=0", "algo.batch_size=512", "algo.weight_decay=0", "algo.log_every=300"]


def test_squared_error_converges_to_least_squares():
    data = episodes(linear)
    algo = bc(data, *CONTINUOUS, *FULL_BATCH, "algo.lr=1e-2")
    for lr in (1e-2, 1e-3, 1e-4):
        algo.learner.lr = lr
        for _ in range(2):
            algo.step()
    best = np.c_[data.obs_NO, np.ones(len(data))] @ least_squares(data)
    assert np.abs(best).max() < 1, "the test itself: nothing is clipped"
    assert algo.policy().act(data.obs_NO) == pytest.approx(best, abs=0.01)


def test_likelihood_converges_to_least_squares_and_its_residual():
    data = episodes(linear)
    algo = bc(data, *CONTINUOUS, *FULL_BATCH, "algo.head=gaussian", "algo.lr=1e-2")
    for lr in (1e-2, 1e-2, 1e-3, 1e-4):
        algo.learner.lr = lr
        for _ in range(2):
            algo.step()
    best = np.c_[data.obs_NO, np.ones(len(data))] @ least_squares(data)
    assert algo.policy().act(data.obs_NO) == pytest.approx(best, abs=0.02)
    assert algo.net.log_std.exp().tolist() == pytest.approx((data.action - best).std(0).tolist(), rel=0.05)
    sampled = algo.policy(explore=True).act(data.obs_NO)
    assert sampled.std(0).tolist() == pytest.approx(data.action.std(0).tolist(), rel=0.2)


def test_cross_entropy_converges_to_how_often_each_action_was_taken():
    share = np.array([0.6, 0.3, 0.1])
    data = episodes(lambda obs, rng: rng.permutation(np.repeat([0, 1, 2], (share * len(obs)).round().astype(int))))
    data.obs_NO[:] = 1.0  # nothing to tell them by, and no deviation to divide by
    algo = bc(data, *DISCRETE, *FULL_BATCH, "algo.lr=3e-2")
    for lr in (3e-2, 1e-3, 1e-4):
        algo.learner.lr = lr
        loss = algo.step().metrics["loss/train"]
    logits = algo.net(torch.zeros(1, 3))
    assert logits.softmax(-1)[0].tolist() == pytest.approx(share.tolist(), abs=0.01)
    assert loss == pytest.approx(-(share * np.log(share)).sum(), abs=0.01)
    assert algo.policy().act(data.obs_NO[:1]).tolist() == [0]


@pytest.mark.parametrize("head", ["deterministic", "gaussian"])
def test_loss_is_the_mean_over_samples(head):
    algo = bc(episodes(linear), *CONTINUOUS, f"algo.head={head}", "policy.log_std=-0.5")
    obs, action = torch.randn(5, 3), torch.randn(5, 2)
    error = (algo.net(obs) - action).square()
    likely = 0.5 * error.sum(-1) * math.exp(1.0) + 2 * (-0.5 + 0.5 * math.log(2 * math.pi))
    expected = error.mean() if head == "deterministic" else likely.mean()
    loss = algo.loss(algo.net, {"obs": obs, "action": action})[0]
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_deterministic_head_explores_no_differently():
    algo = bc(episodes(linear), *CONTINUOUS)
    obs = algo.train.obs_NO[:50]
    policy = algo.policy(explore=True)
    policy.start(50, np.random.default_rng(0))
    assert np.array_equal(policy.act(obs), algo.policy().act(obs))


def test_no_episode_is_on_both_sides():
    data = episodes(numbered)
    algo = bc(data, *CONTINUOUS, "algo.validation_fraction=0.4", "algo.normalise_obs=false", "algo.batch_size=500")
    seen = spied(algo)
    algo.step()
    trained = {int(e) for batch in seen for e in batch["obs"][:, 0]}
    held_out = {int(e) for e in algo.held_out[0][:, 0]}
    assert trained & held_out == set()
    assert trained | held_out == set(range(6))
    assert len(held_out) == 2
    assert len(algo.held_out[0]) == sum(LENGTHS[e] for e in held_out), "whole episodes"
    other = BC(algo.config, dataclasses.replace(algo.task, seed=1))
    assert {int(e) for e in other.held_out[0][:, 0]} != held_out, "another seed holds out others"


def test_validation_loss_is_that_of_the_held_out_steps_and_learns_nothing():
    algo = bc(episodes(linear), *CONTINUOUS, "algo.validation_fraction=0.4", "algo.log_every=1")
    loss = algo.step().metrics["loss/validation"]
    before = algo.learner.theta.clone()
    obs, action = algo.held_out
    assert loss == pytest.approx(
        float(np.square(algo.net(torch.from_numpy(algo.obs_stats(obs))).detach() - action).mean())
    )
    algo._validate()
    assert torch.equal(before, algo.learner.theta)
    assert "loss/validation" not in bc(episodes(linear), *CONTINUOUS, "algo.validation_fraction=0").step().metrics


def test_many_held_out_steps_are_thinned_over_all_of_them():
    algo = bc(episodes(numbered, (15_000, 15_000, 10)), *CONTINUOUS, "algo.validation_fraction=0.6")
    obs = algo.held_out[0]
    assert len(obs) == 10_000
    assert len(np.unique(obs[:, 1])) > 9_000, "none repeated"
    assert len(np.unique(obs[:, 0])) == 2, "from the first episode to the last"


def test_each_action_stands_beside_its_own_observation():
    data = episodes(numbered)
    algo = bc(data, *CONTINUOUS, "algo.normalise_obs=false", "algo.validation_fraction=0")
    seen = spied(algo)
    algo.step()
    assert len(seen) == 100
    for batch in seen:
        assert torch.equal(batch["action"], batch["obs"][:, :2] / 1000)


def test_steps_are_drawn_uniformly_whatever_episode_they_are_of():
    data = episodes(numbered)
    algo = bc(data, *CONTINUOUS, "algo.normalise_obs=false", "algo.validation_fraction=0", "algo.batch_size=1000")
    seen = spied(algo)
    algo.step()
    obs = torch.cat([batch["obs"] for batch in seen])
    _, times = np.unique(obs[:, 1].numpy(), return_counts=True)
    assert len(times) == len(data), "the first and the last step too"
    expected = len(obs) / len(data)
    assert times == pytest.approx(np.full(len(data), expected), abs=5.5 * math.sqrt(expected))


def test_statistics_are_those_of_the_training_episodes_and_go_with_the_policy(tmp_path):
    algo = bc(episodes(linear), *CONTINUOUS, "algo.validation_fraction=0.4")
    algo.step()
    x = algo.train.obs_NO.astype(np.float64)
    assert len(x) < sum(LENGTHS)
    assert algo.obs_stats.mean == pytest.approx(x.mean(0), rel=1e-9)
    assert algo.obs_stats.var == pytest.approx(x.var(0), rel=1e-9)
    save_policy(tmp_path / "p.safetensors", algo.policy(), algo.task.env, {})
    loaded = load_policy(tmp_path / "p.safetensors").policy
    action = loaded.act(algo.train.obs_NO)
    assert np.array_equal(action, algo.policy().act(algo.train.obs_NO))
    z = torch.from_numpy(((x - x.mean(0)) / x.std(0)).astype(np.float32))
    assert action == pytest.approx(algo.net(z).detach().numpy().clip(-1, 1), abs=1e-4)
    assert bc(episodes(linear), *CONTINUOUS, "algo.normalise_obs=false").policy().normaliser is None


def test_weights_bring_the_statistics_that_they_were_trained_on(tmp_path):
    first = bc(episodes(linear), *CONTINUOUS)
    first.step()
    save_policy(tmp_path / "p.safetensors", first.policy(), first.task.env, {})
    other = episodes(linear)
    other.obs_NO[:] += 3
    second = bc(other, *CONTINUOUS, f"policy.init={tmp_path / 'p.safetensors'}")
    assert np.array_equal(second.policy().act(other.obs_NO), first.policy().act(other.obs_NO))


def test_one_demonstration_is_enough_unless_one_must_be_held_out():
    data = episodes(linear).take(np.array([0]))
    assert len(data) == 1
    assert math.isfinite(bc(data, *CONTINUOUS, "algo.validation_fraction=0").step().metrics["loss/train"])
    with pytest.raises(UserError, match="has one episode"):
        bc(data, *CONTINUOUS, "algo.validation_fraction=0.1")


def test_bounded_actions_at_the_bound_can_be_learned():
    """A demonstrator who always pushes as hard as he can."""
    data = episodes(lambda obs, rng: np.where(obs[:, 1:] > obs[:, 1:].mean(0), 1, -1).astype(np.float32))
    algo = bc(data, "algo=bc", *CONTINUOUS[1:3], "algo.lr=3e-3", "policy.hidden=[32,32]")
    for _ in range(6):
        algo.step()
    action = algo.policy().act(data.obs_NO)
    assert np.abs(action).max() <= 1
    assert (np.sign(action) == data.action).mean() > 0.97


def test_continues_exactly_from_its_state(tmp_path):
    whole, cut, again = (bc(episodes(linear), *CONTINUOUS) for _ in range(3))
    cut.step()
    checkpoint.save(tmp_path / "c.safetensors", cut.state_dict())
    again.load_state_dict(checkpoint.load(tmp_path / "c.safetensors"))
    first = whole.step()
    second = whole.step()
    assert again.step() == second != first
    assert torch.equal(again.learner.theta, whole.learner.theta)


def test_settings_reach_the_optimiser():
    algo = bc(episodes(linear), *CONTINUOUS, "algo.lr=0.5", "algo.weight_decay=0.25")
    assert (algo.learner.lr, algo.learner.weight_decay) == (0.5, 0.25)
    default = built("algo=bc", "env=bipedal")
    assert (default.algo.lr, default.algo.weight_decay, default.algo.batch_size) == (1e-4, 1e-4, 128)
    net = bc(episodes(linear), "algo=bc", *CONTINUOUS[1:3]).net
    assert [tuple(p.shape) for p in net.parameters() if p.ndim == 2] == [(128, 3), (128, 128), (2, 128)]
