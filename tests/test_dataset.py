"""Recorded episodes in memory, each function beside a plain loop that says what it means."""

from dataclasses import replace

import numpy as np
import pytest

from rlexp.buffers.dataset import Dataset
from rlexp.envs.spec import EnvSpec
from rlexp.util.errors import UserError

BOX = EnvSpec(3, "continuous", 2, np.full(2, -1, np.float32), np.full(2, 1, np.float32))


def episodes(lengths, seed=0, discrete=False, name="made"):
    """Random episodes; every second one terminated."""
    rng, n, e = np.random.default_rng(seed), sum(lengths), len(lengths)
    return Dataset(
        name,
        rng.normal(size=(n, 3)).astype(np.float32),
        rng.integers(4, size=n) if discrete else rng.uniform(-1, 1, (n, 2)).astype(np.float32),
        rng.normal(size=n).astype(np.float32),
        np.array(lengths),
        np.arange(e) % 2 == 0,
        rng.normal(size=(e, 3)).astype(np.float32),
    )


def same(a, b):
    fields = ("obs_NO", "action", "reward_N", "length_E", "terminated_E", "final_obs_EO")
    return all(np.array_equal(getattr(a, f), getattr(b, f), equal_nan=f == "final_obs_EO") for f in fields)


def rows(data):
    """The rows of each episode, by counting."""
    out, at = [], 0
    for n in data.length_E:
        out.append(list(range(at, at + n)))
        at += n
    return out


DATA = episodes([5, 1, 9, 3])


def test_returns_and_returns_to_go():
    for e, steps in enumerate(rows(DATA)):
        assert DATA.return_E[e] == pytest.approx(sum(float(DATA.reward_N[t]) for t in steps))
        for i, t in enumerate(steps):
            expected = sum(float(DATA.reward_N[s]) for s in steps[i:])
            assert DATA.return_to_go_N[t] == pytest.approx(expected, abs=1e-6)
            assert DATA.episode_N[t] == e


def test_returns_to_go_keep_their_precision_behind_a_million_steps():
    n = 1_000_000
    data = Dataset("long", np.zeros((n, 1), np.float32), np.zeros(n, np.int64), np.full(n, 3.3, np.float32),
                   np.full(1000, 1000), np.zeros(1000, bool), np.zeros((1000, 1), np.float32))  # fmt: skip
    assert data.return_to_go_N[-1000:] == pytest.approx(3.3 * np.arange(1000, 0, -1), rel=1e-6)


@pytest.mark.parametrize("offsets", [(0,), (-2, -1, 0, 1), range(-4, 1), range(0, 12)])
def test_windows_stay_in_their_episode(offsets):
    windows = DATA.windows(np.arange(len(DATA)), offsets)
    for steps in rows(DATA):
        for i, t in enumerate(steps):
            for k, offset in enumerate(offsets):
                inside = 0 <= i + offset < len(steps)
                assert windows.valid_BK[t, k] == inside
                assert windows.step_BK[t, k] == i + offset
                assert windows.row_BK[t, k] in steps
                if inside:
                    assert windows.row_BK[t, k] == steps[i + offset]


def test_take_keeps_order_and_contents():
    taken = DATA.take(np.array([2, 0]))
    order = rows(DATA)[2] + rows(DATA)[0]
    assert np.array_equal(taken.obs_NO, DATA.obs_NO[order])
    assert np.array_equal(taken.action, DATA.action[order])
    assert np.array_equal(taken.reward_N, DATA.reward_N[order])
    assert taken.length_E.tolist() == [9, 5]
    assert np.array_equal(taken.final_obs_EO, DATA.final_obs_EO[[2, 0]])
    assert taken.terminated_E.tolist() == [True, True]
    assert same(DATA.first(2), DATA.take(np.array([0, 1])))


def test_concat_is_one_part_after_another():
    assert same(Dataset.concat("both", [DATA.take(np.array([0, 1])), DATA.take(np.array([2, 3]))]), DATA)


def returning(lengths, returns):
    data = episodes(lengths)
    reward = np.zeros(len(data), np.float32)
    reward[data.start_E] = returns
    return Dataset(data.name, data.obs_NO, data.action, reward, data.length_E, data.terminated_E, data.final_obs_EO)


@pytest.mark.parametrize(
    ("percent", "kept"), [(100, [50, 30, 10, 10]), (41, [30, 10]), (40, [30, 10]), (39, [30]), (30, [30]), (1, [30])]
)
def test_top_percent_counts_steps_and_keeps_at_least_one_episode(percent, kept):
    data = returning([50, 30, 10, 10], [1, 9, 5, 3])
    top = data.top(percent)
    assert top.length_E.tolist() == kept
    assert same(top, data.take(np.flatnonzero(np.isin(data.length_E, kept) & (data.return_E >= top.return_E.min()))))


def test_every_percent_of_a_hundred_single_steps_keeps_as_many():
    data = episodes([1] * 100)
    assert [len(data.top(percent)) for percent in range(1, 101)] == list(range(1, 101))


def test_data_without_rewards_are_data_whose_best_nobody_knows():
    data = episodes([3, 2])
    data.reward_N[:] = np.nan
    data.check(BOX)
    assert not data.rewarded
    with pytest.raises(UserError, match="has no rewards"):
        data.top(50)


def test_what_followed_each_step():
    for t, following in enumerate(DATA.next_obs_NO()):
        e = DATA.episode_N[t]
        last = t == DATA.start_E[e] + DATA.length_E[e] - 1
        assert np.array_equal(following, DATA.final_obs_EO[e] if last else DATA.obs_NO[t + 1])


def test_a_digest_is_of_every_field():
    one = episodes([5, 1, 9, 3])
    assert one.digest == episodes([5, 1, 9, 3]).digest
    for name, at in {
        "obs_NO": (0, 0),
        "action": (0, 0),
        "reward_N": 0,
        "terminated_E": 0,
        "final_obs_EO": (0, 0),
    }.items():
        other = episodes([5, 1, 9, 3])
        getattr(other, name)[at] = 1 - getattr(other, name)[at]
        assert other.digest != one.digest, name
    assert episodes([5, 1, 3, 9]).digest != one.digest


def test_split_is_by_whole_episodes():
    data = episodes([4, 2, 7, 3, 5, 1])
    train, held = data.split(0.3, np.random.default_rng(0))
    assert len(held.length_E) == 2
    starts = [tuple(part.obs_NO[t]) for part in (train, held) for t in part.start_E]
    assert sorted(starts) == sorted(tuple(data.obs_NO[t]) for t in data.start_E)
    again = data.split(0.3, np.random.default_rng(0))
    assert same(again[1], held)
    assert [len(part.length_E) for part in data.split(0.001, np.random.default_rng(0))] == [5, 1]
    assert [len(part.length_E) for part in data.split(0.999, np.random.default_rng(0))] == [1, 5]
    with pytest.raises(UserError, match="has one episode"):
        data.first(1).split(0.5, np.random.default_rng(0))


def test_obs_stats():
    mean, std = DATA.obs_stats()
    assert mean == pytest.approx(DATA.obs_NO.mean(0), abs=1e-6)
    assert std == pytest.approx(DATA.obs_NO.std(0), abs=1e-6)
    assert mean.dtype == std.dtype == np.float32


def changed(**fields):
    base = episodes([5, 1, 9, 3])
    for name, (place, value) in fields.items():
        getattr(base, name)[place] = value
    return base


@pytest.mark.parametrize(
    ("data", "spec", "message"),
    [
        (DATA, replace(BOX, obs_dim=4), "observations have 3 dims, the environment's have 4"),
        (DATA, replace(BOX, n_actions=1), "actions have 2 dims, the environment's have 1"),
        (DATA, EnvSpec(3, "discrete", 4), "actions are 2-dim vectors, the environment's numbers"),
        (episodes([3], discrete=True), BOX, "actions are whole numbers, the environment's are vectors of 2 dims"),
        (episodes([30], discrete=True), EnvSpec(3, "discrete", 3), r"actions are not all in 0\.\.2"),
        (changed(obs_NO=((6, 1), np.nan)), BOX, r"observations are not finite at step 6 \(episode 2\)"),
        (changed(action=((0, 0), np.inf)), BOX, "actions are not finite at step 0"),
        (changed(reward_N=(17, np.nan)), BOX, r"rewards are not finite at step 17 \(episode 3\)"),
        (changed(action=((3, 1), -1.5)), BOX, "actions leave the environment's bounds by up to 0.5"),
    ],
)  # fmt: skip
def test_check_names_what_is_wrong(data, spec, message):
    with pytest.raises(UserError, match=f"made: .*{message}"):
        data.check(spec)


def test_check_lets_good_data_pass():
    DATA.check(BOX)
    episodes([9], discrete=True).check(EnvSpec(3, "discrete", 4))
    changed(action=((3, 1), 1.00005)).check(BOX)  # rounding of somebody's float64


@pytest.mark.parametrize("field", ["obs_NO", "action", "reward_N", "terminated_E", "final_obs_EO"])
def test_arrays_that_do_not_belong_together_are_refused(field):
    parts = {f: getattr(DATA, f) for f in ("obs_NO", "action", "reward_N", "length_E", "terminated_E", "final_obs_EO")}
    with pytest.raises(ValueError, match=r"together|every episode"):
        Dataset("made", **{**parts, field: parts[field][1:]})
    with pytest.raises(ValueError, match="every episode"):
        Dataset("made", **{**parts, "length_E": np.array([5, 0, 10, 3])})
