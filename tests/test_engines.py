"""Engines: whatever runs the jobs, each job's messages arrive whole and in order, and one that fails is alone."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from rlexp.engines.base import one_by_one
from rlexp.engines.processes import Processes
from rlexp.engines.serial import Serial
from rlexp.util.errors import UserError
from tests.helpers import QUIET, command, metrics

ENGINES = [Serial(), Processes(2)]


@dataclass(frozen=True)
class Count:
    """Tells 0, 1, …, `most` − 1, or fails at `fails`."""

    most: int
    fails: int = -1
    how: str = "raise"

    def run(self) -> Iterator[int]:
        for i in range(self.most):
            if i == self.fails and self.how == "raise":
                raise ValueError(f"at {i}")
            if i == self.fails and self.how == "exit":
                raise SystemExit(3)
            if i == self.fails:
                os.kill(os.getpid(), 9)
            yield i

    def failed(self, error: BaseException) -> str:
        return f"{type(error).__name__}: {error}"


def told(engine, jobs):
    found = {job: [] for job in jobs}
    engine.run(one_by_one(jobs), lambda job, message: found[job].append(message))
    return found


@pytest.mark.parametrize("engine", ENGINES, ids=["serial", "processes"])
def test_every_message_of_every_job_arrives_in_order(engine):
    jobs = [Count(n) for n in range(5)]
    assert told(engine, jobs) == {job: list(range(job.most)) for job in jobs}


@pytest.mark.parametrize("engine", ENGINES, ids=["serial", "processes"])
@pytest.mark.parametrize(("how", "said"), [("raise", "ValueError: at 2"), ("exit", "SystemExit: 3")])
def test_a_job_that_fails_says_so_last_and_the_others_go_on(engine, how, said):
    bad, good = Count(4, 2, how), Count(3)
    assert told(engine, [bad, good]) == {bad: [0, 1, said], good: [0, 1, 2]}


def test_a_process_that_dies_is_one_failed_job():
    bad, good = Count(4, 2, "die"), Count(3)
    assert told(Processes(1), [bad, good]) == {
        bad: [0, 1, "WorkerDied: worker process ended with code -9"],
        good: [0, 1, 2],
    }


@pytest.mark.parametrize("engine", ENGINES, ids=["serial", "processes"])
def test_jobs_may_come_of_what_earlier_ones_said(engine):
    waiting = [Count(1)]
    done = []

    def handle(job, message):
        done.append(job.most)
        if job.most < 4 and message == 0:
            waiting.append(Count(job.most + 1))

    engine.run(lambda: waiting.pop() if waiting else None, handle)
    assert max(done) == 4


@pytest.mark.parametrize("engine", ENGINES, ids=["serial", "processes"])
def test_what_the_handler_raises_ends_all(engine):
    def handle(job, message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.run(one_by_one([Count(3), Count(3)]), handle)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "two"])
def test_workers_are_a_whole_number(workers):
    with pytest.raises(UserError, match=r"workers: .* is not a whole number ≥ 1"):
        Processes(workers)


def test_main_with_an_engine_is_main_mp_and_the_seeds_files_are_the_truth(tmp_path):
    words = ["env=lineworld", "train.budget=4096", "seeds=[0,1]", *QUIET]
    runs = []
    for script, more in (("main.py", ["engine=processes"]), ("main_mp.py", []), ("main.py", [])):
        done = command(script, *words, *more, f"runs={script}{len(more)}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        runs += tmp_path.glob(f"{script}{len(more)}/*/*")
    for seed in ("seed_0", "seed_1"):
        assert metrics(runs[0] / seed) == metrics(runs[1] / seed) == metrics(runs[2] / seed)
    run = runs[0]
    facts = json.loads((run / "seed_1" / "status.json").read_text())
    assert (facts["status"], facts["step"], len(facts["attempts"])) == ("done", 4096, 1)
    assert facts["attempts"][0]["pid"] != json.loads((run / "seed_0" / "status.json").read_text())["attempts"][0]["pid"]

    before = {name: (run / name).read_bytes() for name in ("curve.csv", "summary.md", "run.json")}
    for name in ("curve.csv", "summary.md", "curves.png"):
        (run / name).unlink()
    record = json.loads(before["run.json"])
    (run / "run.json").write_text(json.dumps({**record, "seeds": {}, "final": {}}))
    from rlexp.cli import main

    assert main.main(["refresh", str(run)]) == 0
    assert {name: (run / name).read_bytes() for name in before} == before
    assert (run / "curves.png").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["engine=procesess"], "did you mean 'processes'"),
        (["engine=processes", "workers=0"], "workers: 0 is not a whole number"),
        (["engine.wokers=2", "engine=processes"], "engine.wokers"),
        (["refresh"], ""),
    ],
)
def test_mistakes_are_one_line(words, said, tmp_path, capsys):
    if words == ["refresh"]:
        from rlexp.cli import main

        assert main.main(["refresh", str(tmp_path)]) == 2
        assert capsys.readouterr().err == f"error: {tmp_path}: no run or study folder\n"
        return
    done = command("main.py", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert said in done.stderr
    assert not list(tmp_path.iterdir())
