"""Returns, advantages and intervals against their definitions, written out in plain Python."""

import math

import numpy as np
import pytest

from rlexp.buffers.returns import discounted_sums, explained_variance, gae, rewards_to_go
from rlexp.util import stats

NO, YES = np.array([[False]]), np.array([[True]])


def random_rollout(steps: int = 40, envs: int = 3) -> tuple[np.ndarray, ...]:
    """Rewards, values, next values, and random ends of both kinds, some of them at once."""
    rng = np.random.default_rng(0)
    return (*rng.normal(size=(3, steps, envs)), *(rng.random((2, steps, envs)) < 0.15))


def test_rewards_to_go_of_the_worked_example():
    """Two episodes with rewards 0, 1, …, 10: nothing of the second enters the first."""
    reward, end = np.tile(np.arange(11.0), 2), np.tile(np.arange(11) == 10, 2)
    expected = [1.9883, 3.9766, 5.9531, 7.9062, 9.8125, 11.625, 13.25, 14.5, 15, 14, 10]
    assert rewards_to_go(reward, end, 0.5) == pytest.approx(expected * 2, abs=6e-5)


def test_rewards_to_go_is_its_definition_also_side_by_side():
    reward_TB, _, _, end_TB, _ = random_rollout()
    out = rewards_to_go(reward_TB, end_TB, 0.9)
    for b in range(reward_TB.shape[1]):
        for t in range(len(reward_TB)):
            expected, discount = 0.0, 1.0
            for i in range(t, len(reward_TB)):
                expected += discount * reward_TB[i, b]
                discount *= 0.9
                if end_TB[i, b]:
                    break
            assert out[t, b] == pytest.approx(expected, abs=1e-5)
    assert np.array_equal(rewards_to_go(reward_TB[:, 0], end_TB[:, 0], 0.9), out[:, 0])


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_gae_is_its_definition(lam):
    """A_t = Σ_l (γλ)^l δ_{t+l} to the end of the episode; a termination is worth nothing, a truncation V(s')."""
    gamma = 0.9
    reward, value, next_value, terminated, truncated = random_rollout()
    assert (terminated & truncated).any()
    assert (terminated & ~truncated).any()
    assert (truncated & ~terminated).any()
    out = gae(reward, value, next_value, terminated, truncated, gamma, lam)
    for b in range(reward.shape[1]):
        for t in range(len(reward)):
            expected, weight = 0.0, 1.0
            for i in range(t, len(reward)):
                future = 0.0 if terminated[i, b] else next_value[i, b]
                expected += weight * (reward[i, b] + gamma * future - value[i, b])
                weight *= gamma * lam
                if terminated[i, b] or truncated[i, b]:
                    break
            assert out[t, b] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
def test_one_step_episodes_bootstrap_only_when_truncated(lam):
    """Reward 3, V = 7 everywhere: the target (advantage + V) is r + γV after a time limit and r after a real end."""
    r, v = np.full((4, 1), 3.0), np.full((4, 1), 7.0)
    no, yes = np.repeat(NO, 4, 0), np.repeat(YES, 4, 0)
    assert gae(r, v, v, no, yes, 0.9, lam) + v == pytest.approx(3 + 0.9 * 7)
    assert gae(r, v, v, yes, no, 0.9, lam) + v == pytest.approx(3)
    assert gae(r, v, v, yes, yes, 0.9, lam) + v == pytest.approx(3), "a task that ended has no future, limit or not"


def test_two_environments_of_which_only_one_truncates():
    r, v = np.full((4, 2), 3.0), np.full((4, 2), 7.0)
    first, second = np.array([[True, False]] * 4), np.array([[False, True]] * 4)
    target = gae(r, v, v, first, second, 0.9, 0.95) + v
    assert target[:, 0] == pytest.approx(3)
    assert target[:, 1] == pytest.approx(3 + 0.9 * 7)


def test_discounted_sums_run_forward_stop_at_ends_and_carry_on_between_rollouts():
    reward_TB, _, _, end_TB, _ = random_rollout()
    expected, carry = np.empty_like(reward_TB), [0.0] * 3
    for t in range(len(reward_TB)):
        for b in range(3):
            carry[b] = 0.9 * carry[b] + reward_TB[t, b]
            expected[t, b] = carry[b]
            carry[b] = 0.0 if end_TB[t, b] else carry[b]
    first, middle = discounted_sums(reward_TB[:17], end_TB[:17], np.zeros(3), 0.9)
    second, last = discounted_sums(reward_TB[17:], end_TB[17:], middle, 0.9)
    assert np.concatenate([first, second]) == pytest.approx(expected)
    assert last == pytest.approx(carry)


def test_explained_variance():
    target = np.array([1.0, 2.0, 3.0, 6.0])
    assert explained_variance(target, target) == 1
    assert explained_variance(target + 5, target) == 1, "a constant offset explains the variance all the same"
    assert explained_variance(np.zeros(4), target) == 0
    assert explained_variance(-target, target) == pytest.approx(-3)
    assert explained_variance(target, np.ones(4)) == 0, "a constant target has nothing to explain; not a NaN"


@pytest.mark.parametrize(
    ("confidence", "dof", "t"),
    [
        (0.95, 1, 12.7062),
        (0.95, 2, 4.3027),
        (0.95, 4, 2.7764),
        (0.95, 9, 2.2622),
        (0.95, 24, 2.0639),
        (0.95, 1000, 1.9623),
        (0.90, 4, 2.1318),
        (0.99, 4, 4.6041),
    ],
)
def test_t_quantile_agrees_with_the_printed_table(confidence, dof, t):
    assert stats.t_quantile(confidence, dof) == pytest.approx(t, rel=1e-4)


def test_t_interval_uses_the_sample_deviation_and_one_value_has_none():
    mean, half = stats.t_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (mean, half) == pytest.approx((3, 2.7764 * math.sqrt(2.5 / 5)), rel=1e-4)
    assert stats.t_interval([4.0])[0] == 4
    assert math.isnan(stats.t_interval([4.0])[1])


def test_t_interval_covers_what_it_says_at_three_seeds():
    draws = np.random.default_rng(0).normal(size=(20_000, 3))
    half = stats.t_interval([1.0, 2.0, 3.0])[1] * draws.std(1, ddof=1)  # proportional to the sample deviation, here 1
    assert (abs(draws.mean(1)) < half).mean() == pytest.approx(0.95, abs=0.006)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0, 0.2775),
        (10, 10, 0.7225, 1),
        (1, 2, 0.0945, 0.9055),
        (50, 100, 0.4038, 0.5962),
    ],
)
def test_wilson_interval_of_known_proportions(successes, n, low, high):
    assert stats.wilson(successes, n) == pytest.approx((low, high), abs=1e-4)
