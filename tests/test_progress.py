"""What a run says while it trains: how far each seed is, and how long all of them will take."""

from pathlib import Path

import pytest

from rlexp.cli import progress
from rlexp.cli.progress import Board
from rlexp.experiment.events import Event
from rlexp.experiment.job import SeedJob


@pytest.fixture
def clock(monkeypatch):
    """Seconds since the beginning, to be set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def board(seeds=3, budget=100):
    jobs = [SeedJob(Path("/run"), seed) for seed in range(seeds)]
    return jobs, Board(jobs, {Path("/run"): budget}, "updates", arms=False)


def test_the_time_left_is_of_all_seeds(clock, capsys):
    jobs, shown = board()
    for step in (0, 10, 20):
        clock[0] = step / 10  # ten updates a second
        shown.update(jobs[0], Event(0, "evaluation", data={"step": step, "return_mean": 1.0}))
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("seed 0 (1 of 3)")
    assert "0:00:08 left" in line
    assert "all 3: 0:00:28 left" in line
    shown.update(jobs[0], Event(0, "done", data={"step": 100, "final": {"return_mean": 1.0}}))
    assert "all 3: 0:00:20 left" in capsys.readouterr().out  # at the rate that the first had
    assert shown._total()[:2] == ["1 of 3 done", "33%"]


def test_seeds_side_by_side_are_as_fast_together(clock):
    jobs, shown = board(seeds=2)
    for step in (0, 10):
        clock[0] = step / 10
        for job in jobs:
            shown.rows[("", job.seed)].take(Event(job.seed, "progress", data={"step": step}))
    assert shown._all_left() == "0:00:09"


def test_what_failed_takes_no_more_time_and_one_seed_has_no_total(clock, capsys):
    jobs, shown = board(seeds=1)
    shown.update(jobs[0], Event(0, "failed", "out of luck"))
    line = capsys.readouterr().out
    assert "of 1" not in line
    assert shown._all_left() == ""
    shown.rate = 1.0
    assert shown._all_left() == ""


def test_what_goes_on_while_the_clock_stands_still_has_a_rate(clock, capsys):
    jobs, shown = board(seeds=1)
    for now, done in ((0, 16), (40, 96)):
        clock[0] = now
        stage = ["episodes collected", done, 256]
        shown.update(jobs[0], Event(0, "progress", data={"step": 0, "stage": stage}))
    assert "episodes collected: 96 of 256, 2.0/s, 0:01:20 left" in capsys.readouterr().out
    shown.rows[("", 0)].take(Event(0, "progress", data={"step": 1}))
    assert shown.rows[("", 0)].note == ""


def test_the_live_table_ends_with_the_total(clock):
    _, shown = board()
    assert shown._table().row_count == 4
    assert board(seeds=1)[1]._table().row_count == 1
