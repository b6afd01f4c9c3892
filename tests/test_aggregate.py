"""Methods over several environments: IQM, probability of improvement, performance profiles."""

import numpy as np
import pytest
from scipy import stats

from rlexp.report import aggregate


def test_iqm_is_the_mean_of_the_middle_half():
    found = aggregate.iqm({"a": np.array([0.0, 1, 2, 3]), "b": np.array([4.0, 5, 6, 100])})
    assert found.value == np.mean([2, 3, 4, 5])
    assert found.low < found.value < found.high


def test_the_interval_is_that_of_a_stratified_bootstrap():
    rng = np.random.default_rng(1)
    samples = (rng.normal(size=8), rng.normal(3, 1, size=8))
    found = aggregate.iqm(dict(zip("ab", samples, strict=True)))
    theirs = stats.bootstrap(
        samples,
        lambda *drawn, axis=-1: stats.trim_mean(np.concatenate(drawn, axis=axis), 0.25, axis=axis),
        n_resamples=5000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.15)


def test_probability_of_improvement_is_mann_and_whitneys():
    rng = np.random.default_rng(0)
    ours = {"a": rng.normal(1, 1, 6), "b": rng.normal(0, 1, 6)}
    theirs = {"a": rng.normal(0, 1, 5), "b": rng.normal(0, 1, 5), "c": np.zeros(3)}
    expected = [stats.mannwhitneyu(ours[env], theirs[env]).statistic / 30 for env in "ab"]
    assert aggregate.improvement(ours, theirs).value == pytest.approx(np.mean(expected))
    assert aggregate.improvement({"a": np.ones(3)}, {"a": np.ones(3)}) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="no environment"):
        aggregate.improvement({"x": np.ones(3)}, theirs)


def test_profile_falls_from_all_to_none_and_environments_count_alike():
    scores = {"a": np.array([0.2, 0.4]), "b": np.array([0.9] * 8)}
    share, low, high = aggregate.profile(scores, np.array([0.0, 0.3, 0.5, 1.0]))
    assert share.tolist() == [1.0, 0.75, 0.5, 0.0]
    assert (low <= share).all()
    assert (share <= high).all()


def test_returns_become_scores_between_the_lowest_and_the_highest_where_all_methods_have_been():
    values = {
        "x": {"a": np.array([10.0, 20]), "b": np.zeros(2), "c": np.ones(1)},
        "y": {"a": np.array([30.0]), "b": np.zeros(2)},
    }
    found = aggregate.normalised(values)
    assert {method: sorted(scores) for method, scores in found.items()} == {"x": ["a", "b"], "y": ["a", "b"]}
    assert found["x"]["a"].tolist() == [0.0, 0.5]
    assert found["y"]["a"].tolist() == [1.0]
    assert found["y"]["b"].tolist() == [1.0, 1.0]  # all are the highest
