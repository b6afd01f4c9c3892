"""Engines: whatever runs the jobs, each job's messages arrive whole and in order, and one that fails is alone."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from rlexp.cli.launch import execute
from rlexp.engines.base import one_by_one
from rlexp.engines.processes import Processes
from rlexp.engines.serial import Serial
from rlexp.experiment import plan, status
from rlexp.experiment.compose import compose
from rlexp.experiment.config import make_engine
from rlexp.experiment.resume import resume
from rlexp.experiment.train import Training
from rlexp.report.records import read_record
from rlexp.util.errors import UserError
from rlexp.util.params import Params, param
from tests.helpers import QUIET, command, metrics

ENGINES = [Serial(Serial.Config()), Processes(Processes.Config(workers=2))]


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
    assert told(Processes(Processes.Config(workers=1)), [bad, good]) == {
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
        Processes(Processes.Config(workers=workers))


SEARCH = ["algo=cmaes", "env=sphere", "seeds=[0,1]", "train.budget=4", *QUIET]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"workers": "abc"}, "engine.workers: 'abc' is not a whole number or null"),
        ({"workers": 2, "threads": 0}, "engine.threads: must be ≥ 1"),
        ({"wokers": 2}, "engine.wokers: unknown option; did you mean 'engine.workers'"),
    ],
)
def test_options_of_engines_are_typed(options, said):
    with pytest.raises(UserError, match=re.escape(said)):
        make_engine({"_target_": "rlexp.engines.processes.Processes", **options})


class Faulty(Serial):
    """An engine of somebody's, with mistakes in it."""

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        after: int = param("messages that it still hands on; -1: does not even begin")

    def __init__(self, config):
        self.left = config.after
        if self.left < 0:
            len(self.left)

    def run(self, next_job, handle):
        def some(job, message):
            self.left -= 1
            if self.left < 0:
                raise ZeroDivisionError("an engine's own")
            handle(job, message)

        super().run(next_job, some)


def test_an_engine_that_cannot_begin_is_one_line():
    with pytest.raises(UserError, match=r"engine Faulty cannot begin: .*test_engines.py, line \d+: TypeError: object"):
        make_engine({"_target_": "tests.test_engines.Faulty", "after": -1})


@pytest.mark.parametrize("after", [0, 3, 9])
def test_an_engine_that_fails_is_one_line_and_the_record_is_whole(after, tmp_path, capsys):
    work = plan.single(compose([*SEARCH, f"runs={tmp_path}"]))
    assert execute(work, Faulty(Faulty.Config(after=after))) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: engine Faulty has failed: ")
    assert "ZeroDivisionError: an engine's own; continue with: " in said
    assert said.count("\n") == 1
    record = read_record(work.path)
    states = [facts["status"] for facts in record["seeds"].values()]
    done = states.count("done")
    assert (record["final"]["n"], record["final"]["failed"], record["final"]["unfinished"]) == (done, 0, 2 - done)
    assert (record["finished"] is None) == (done < 2)
    assert "Traceback" in (work.path / "train.log").read_text()
    assert (work.path / "summary.md").is_file()
    assert execute(resume(work.path, []), Serial(Serial.Config())) == 0


def test_the_counters_of_an_interrupted_seed_are_of_one_moment(tmp_path, monkeypatch):
    iterate = Training._iterate
    calls = []

    def stop_after_the_row(training):
        events = list(iterate(training))
        calls.append(events)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return iter(events)

    monkeypatch.setattr(Training, "_iterate", stop_after_the_row)
    work = plan.single(compose([*SEARCH, f"runs={tmp_path}"]))
    with pytest.raises(KeyboardInterrupt):
        execute(work, Serial(Serial.Config()))
    last = metrics(work.path / "seed_0")[-1]
    facts = status.read(work.path / "seed_0")
    assert {name: facts[name] for name in ("step", "env_steps", "updates")} == {
        name: last[name] for name in ("step", "env_steps", "updates")
    }
    assert (facts["status"], facts["message"]) == ("interrupted", "interrupted at step 3; goes on from step 3")
    assert status.read(work.path / "seed_1")["message"] == "not begun"


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
