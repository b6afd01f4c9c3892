"""The rule that says whether a run is like its reference: by hand, and how often it errs."""

import importlib

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats as scipy_stats

from rlexp.report import lines as lines_file
from rlexp.report import verdict
from rlexp.report.style import draw_prediction
from rlexp.report.verdict import align, decide, equal_rows, seeds_that_would_tell
from tests.helpers import ROOT

STEPS = np.arange(0, 101, 5.0)


def rising(*ends, start=0.0):
    """Straight lines from `start` to each of `ends`, one a seed, 21 evaluations."""
    return np.array([start + (end - start) * STEPS / 100 for end in ends])


def lines(values_SN, steps=STEPS):
    return {str(seed): (steps, row) for seed, row in enumerate(values_SN)}


def test_differences_spreads_and_half_widths_are_those_of_a_two_sample_t_test():
    run, reference = rising(90, 110, 95), rising(100, 104, 96, 108, 92)
    found = decide(run, reference)
    end = found.measures[0]
    test = scipy_stats.ttest_ind(run[:, -2:].mean(axis=1), reference[:, -2:].mean(axis=1))
    interval = test.confidence_interval(0.90)
    assert end.difference == pytest.approx((interval.low + interval.high) / 2)
    assert end.half_width == pytest.approx((interval.high - interval.low) / 2)
    assert end.span == pytest.approx(reference[:, -2:].mean())
    assert found.measures[1].difference == pytest.approx(run[:, 1:].mean() - reference[:, 1:].mean())


def test_seeds_that_agree_match():
    assert decide(rising(100, 101, 99), rising(100, 102, 98)).word == "matches"
    assert decide(rising(100), rising(100, 102, 98)).word == "matches"


@pytest.mark.parametrize(("end", "word"), [(60, "worse"), (140, "better")])
def test_other_curves_differ_and_one_seed_is_unusual(end, word):
    reference = rising(100, 102, 98, 101)
    found = decide(rising(end, end + 2, end - 1), reference)
    assert (found.word, found.direction, found.decided_by.name) == (word, word, "end")
    alone = decide(rising(end), reference)
    assert (alone.word, alone.direction) == ("unusual", word)


def test_a_slower_run_that_ends_alike_is_worse_by_its_mean():
    slow = np.array([np.minimum(100, row) for row in rising(100, 101, 99) * (STEPS / 100) ** 2])
    slow[:, -2:] = 100
    quick = np.array([np.minimum(100, 4 * row) for row in rising(100, 101, 99)])
    found = decide(slow, quick)
    assert (found.word, found.decided_by.name) == ("worse", "mean")


def test_differences_below_two_percent_are_none():
    assert decide(rising(101.5, 101.5, 101.5), rising(100, 100, 100)).word == "matches"


def test_seeds_that_agree_exactly_are_held_to_agree_by_chance():
    assert decide(rising(100, 100), rising(100, 100)).measures[0].s == pytest.approx(1, rel=0.1)  # 1 % of span


def test_what_is_too_wide_cannot_be_told_and_it_is_said_how_many_seeds_would():
    found = decide(rising(80, 120, 95), rising(100, 120, 80))
    assert found.word == "cannot_tell"
    n, m = seeds_that_would_tell(found)
    assert n > 3
    assert all(one.matches(n, m) for one in found.measures) or any(one.differs(n, m) for one in found.measures)
    before = (n - 1, m if m == found.m else m - 1)
    assert not all(one.matches(*before) for one in found.measures)


def test_two_single_seeds_tell_nothing():
    found = decide(rising(10), rising(100))
    assert found.word == "cannot_tell"
    assert found.decided_by.half_width is None
    assert seeds_that_would_tell(found) is None


def test_separated_seeds_differ_only_where_chance_seldom_orders_them_so():
    low, high = [50, 60, 70], [75, 90, 110]  # 3 x 3: 4/20 is no rarity
    assert not decide(rising(*low), rising(*high)).measures[0].separated
    assert decide(rising(*low), rising(*high, 80, 85, 100)).measures[0].separated  # 4/84


def test_of_two_different_sums_the_end_decides():
    quick_then_lower = np.array([np.minimum(60.0, 8 * row) for row in rising(100, 101, 99)])
    found = decide(quick_then_lower, rising(100, 101, 99))
    assert [one.difference > 0 for one in found.measures] == [False, True]
    assert (found.word, found.decided_by.name) == ("worse", "end")


def test_a_falling_reference_has_a_span_too():
    assert decide(rising(60, 61, 59, start=100), rising(60, 62, 58, start=100)).word == "matches"


def test_lines_are_compared_at_the_references_steps_as_far_as_both_are():
    steps, run, reference = align(lines(rising(100)[:, :11], STEPS[:11]), lines(rising(100, 50)))
    assert steps.tolist() == STEPS[:11].tolist()
    assert (run[0] == reference[0]).all()
    fine = np.arange(0, 101, 0.5)
    _, run, reference = align({"a": (fine, fine)}, lines(rising(100)))
    assert np.allclose(run, reference)  # its own values at these steps
    between = np.arange(0.25, 102, 0.5)
    _, run, reference = align({"a": (between, between)}, lines(rising(100)))
    assert (reference - run)[0, 1:] == pytest.approx(2.5)  # means over (s - 5, s]
    coarse = np.array([0.0, 50.0, 100.0])
    _, run, reference = align({"a": (coarse, coarse)}, lines(rising(100)))
    assert np.allclose(run, reference)


def test_lines_without_a_common_step_have_none():
    assert align({"0": (STEPS + 1000, STEPS)}, lines(rising(100)))[1].shape == (1, 0)


def test_equal_rows_are_counted_by_seed_and_step():
    reference = lines(rising(100, 90))
    assert equal_rows(lines(rising(100, 90)), reference) == (42, 42, 2)
    assert equal_rows(lines(rising(100)[:, :5], STEPS[:5]), reference) == (5, 5, 1)
    changed = rising(100)
    changed[:, 7:] += 1
    assert equal_rows(lines(changed), reference) == (7, 21, 1)
    assert equal_rows({"5": (STEPS, STEPS)}, reference) == (0, 0, 0)


def test_a_prediction_band_holds_one_more_value_as_often_as_it_says():
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=(6, 20_000))
    axes = Figure().subplots()
    place = np.arange(20_000.0)
    draw_prediction(axes, [(place, row) for row in drawn[:5]], "k", zorder=1)
    x, mean, half = lines_file.mean_band([(place, row) for row in drawn[:5]])
    (band,) = axes.collections
    (outline,) = band.get_paths()
    low, high = outline.vertices[:, 1].min(), outline.vertices[:, 1].max()
    assert (low, high) == pytest.approx(((mean - half * 6**0.5).min(), (mean + half * 6**0.5).max()))
    new = drawn[5][x.astype(int)]
    assert np.mean(np.abs(new - mean) <= half * 6**0.5) == pytest.approx(0.95, abs=0.03)


@pytest.fixture
def rates(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("verdict")


def cell(benchmark, trials, sizes, monkeypatch):
    monkeypatch.setattr(benchmark, "SIZES", (sizes,))
    (found,) = benchmark.table(benchmark.usable(), trials).values()
    return {row: 100 * every.mean() for row, every in found.items()}


def test_error_rates_on_the_gallery(rates, monkeypatch):
    found = cell(rates, 15, (3, 5), monkeypatch)
    assert found["differs, though the same"] < 4
    assert found["finds 50 % lost"] > 80
    assert found["matches, though 10 % are lost"] < 4
    assert found["matches, though the same"] > 40


def cells(table, row):
    """The means of a row of the page's table, in percent."""
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {row} |"))
    return [float(cell.split()[0]) for cell in line.split("|")[2:-1]]


@pytest.mark.slow
def test_the_page_of_error_rates_is_what_the_rule_does(rates):
    page = rates.PAGE.read_text(encoding="utf-8")
    now = rates.markdown(rates.table(rates.usable(), 1000))
    for row in rates.ROWS:
        assert cells(now, row) == pytest.approx(cells(page, row), abs=3), row


def test_the_page_tells_the_rule_and_every_cell(rates):
    text = rates.PAGE.read_text(encoding="utf-8")
    assert verdict.__doc__.strip() in text
    assert all(f"| {row} |" in text for row in rates.ROWS)
    assert all(f" {n}×{m} |" in text for n, m in rates.SIZES)
