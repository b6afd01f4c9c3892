"""The pool of worker processes: every job's messages arrive, one job's end is no other's, nothing is left running."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import time

import pytest

from rlexp.util.errors import UserError
from rlexp.util.processes import WorkerDied, run_jobs


def work(job):
    yield f"begins {job}"
    if job == "error":
        raise ValueError("broken")
    if job == "mistake":
        raise UserError("lr: is wrong")
    if job == "exit":
        raise SystemExit(0)
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "unpicklable":
        yield lambda: None
    if job == "wait":
        time.sleep(600)
    if job == "pid":
        yield os.getpid()


def outcomes(jobs, workers):
    """Each job's messages, as (kind, value)."""
    got = {}
    given = iter(jobs)
    for message in run_jobs(work, lambda: next(given, None), workers):
        got.setdefault(message.job, []).append((message.kind, message.value))
    return got


def test_every_message_of_every_job_in_its_order():
    got = outcomes(["a", "b", "c", "d", "e"], 2)
    assert got == {job: [("yielded", f"begins {job}"), ("finished", None)] for job in "abcde"}


def test_a_job_that_fails_or_dies_leaves_the_others_alone():
    got = outcomes(["die", "error", "exit", "mistake", "unpicklable", "fine", "good"], 2)
    assert {job: said[-1][0] for job, said in got.items()} == {
        "die": "failed",
        "error": "failed",
        "exit": "failed",
        "mistake": "failed",
        "unpicklable": "failed",
        "fine": "finished",
        "good": "finished",
    }
    assert isinstance(got["die"][-1][1], WorkerDied)
    assert got["die"][-1][1].exitcode == -9
    assert isinstance(got["mistake"][-1][1], UserError)
    assert str(got["mistake"][-1][1]) == "lr: is wrong"
    assert "ValueError: broken" in str(got["error"][-1][1])
    assert "SystemExit" in str(got["exit"][-1][1])
    assert not multiprocessing.active_children()


def test_jobs_may_come_later_and_workers_are_used_again():
    """`next_job` is asked again after None; one worker plays all that it can."""
    pids = []
    waiting = ["pid"]

    def next_job():
        return waiting.pop() if waiting else None

    for message in run_jobs(work, next_job, 4):
        if isinstance(message.value, int):
            pids.append(message.value)
        elif message.kind == "finished" and len(pids) < 3:
            waiting.append("pid")
    assert len(pids) == 3
    assert len(set(pids)) == 1


def test_a_worker_that_died_between_two_jobs_costs_no_job():
    jobs = ["pid", "fine"]
    said = []
    for message in run_jobs(work, lambda: jobs.pop(0) if jobs and not said[1:] else None, 1):
        said.append((message.job, message.kind))
        if (message.job, message.kind) == ("pid", "finished"):
            worker = multiprocessing.active_children()[0]
            worker.kill()
            worker.join()
            said.clear()
    assert said == [("fine", "yielded"), ("fine", "finished")]


def test_no_more_workers_than_jobs():
    jobs = ["a", "b"]
    most = 0
    for _ in run_jobs(work, lambda: jobs.pop() if jobs else None, 50):
        most = max(most, len(multiprocessing.active_children()))
    assert most <= 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_ends_every_worker(error):
    def interrupted():
        endless = itertools.repeat("wait")
        with contextlib.closing(run_jobs(work, lambda: next(endless), 2)) as messages:
            next(messages)
            next(messages)
            raise error

    with pytest.raises(error):
        interrupted()
    assert not multiprocessing.active_children()
