"""Numbers in sentences."""

import math

import pytest

from rlexp.report.words import with_interval
from rlexp.util import stats


@pytest.mark.parametrize(
    ("mean", "half", "said"),
    [
        (2675.3, 2312.0, "2675 ± 2300"),
        (70.154, 4.9961, "70.2 ± 5.0"),
        (199.06, 0.8712, "199.06 ± 0.87"),
        (0.0681, 0.00031, "0.06810 ± 0.00031"),
        (3e-7, 1e-8, "3e-07 ± 1e-08"),
        (500.0, 0.0, "all 500"),
        (302.4126, math.nan, "302.4"),
    ],
)
def test_a_mean_is_as_exact_as_its_interval(mean: float, half: float, said: str) -> None:
    assert with_interval(mean, half) == said


def test_equal_values_have_no_interval_of_rounding():
    assert with_interval(*stats.t_interval([0.1, 0.1, 0.1])) == "all 0.1"  # their computed deviation is 2e-17
