"""engine=submitit: the numbers of engine=serial, whatever interrupts, by submitit's own local executor; and what Slurm
is asked for, by commands that stand in for its own."""

import importlib.util
import os
import signal
import time
from dataclasses import dataclass

import pytest

from rlexp.engines import submitit as engine
from rlexp.engines.base import Detached, GivenUp, one_by_one
from rlexp.engines.serial import Serial
from rlexp.engines.submitit import Attempt
from rlexp.experiment import status
from rlexp.experiment.config import make_engine
from rlexp.experiment.job import SeedJob
from rlexp.util.errors import UserError
from tests.helpers import ALGOS, Raising, metrics, run_on, toy, work_in

needs_submitit = pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="pip install 'rlexp[slurm]'")


def made(**options):
    return make_engine({"_target_": "rlexp.engines.submitit.Submitit", "setup": [], "extra": {}, **options})


@dataclass(frozen=True)
class Stopped(SeedJob):
    """A seed that Slurm stops `times` times, each time after a checkpoint further on."""

    times: int = 2

    def run(self):
        began = self.reached()
        for event in super().run():
            yield event
            attempts = status.read(self.folder)["attempts"]
            if event.kind == "evaluation" and len(attempts) <= self.times and self.reached() != began:
                os.kill(os.getpid(), signal.SIGUSR2)
                time.sleep(10)  # the signal's handler ends this


@dataclass(frozen=True)
class Dying(SeedJob):
    """A seed whose process is killed."""

    def run(self):
        yield next(super().run())
        os.kill(os.getpid(), signal.SIGKILL)


@needs_submitit
def test_numbers_are_those_of_serial_when_jobs_are_stopped_and_failures_are_of_one_seed(tmp_path):
    config = toy("cmaes", "env=sphere", "train.budget=12", "train.eval_episodes=2", "seeds=[0,1,2]")
    serial = work_in(tmp_path / "serial", config)
    run_on(Serial(Serial.Config()), serial, serial.jobs()[:1])
    work = work_in(tmp_path / "slurm", config)
    place = work.path.resolve()
    told = run_on(made(cluster="local", workers=3), work, [Stopped(place, 0), Raising(place, 1), Dying(place, 2)])

    assert metrics(place / "seed_0") == metrics(serial.path / "seed_0")
    facts = status.read(place / "seed_0")
    assert facts["final"] == status.read(serial.path / "seed_0")["final"]
    begun = [attempt["step"] for attempt in facts["attempts"]]
    assert len(begun) == 3
    assert begun == sorted(set(begun))
    last = dict(told)
    assert last[0].kind == "done"
    assert (last[1].kind, last[1].text) == ("failed", "ValueError: of its own")
    assert last[2].kind == "failed"
    assert "has ended without a result" in last[2].text
    assert [status.read(place / f"seed_{seed}")["status"] for seed in range(3)] == ["done", "failed", "failed"]


@needs_submitit
@pytest.mark.slow
@pytest.mark.parametrize("algo", ALGOS)
def test_each_algorithm_is_stopped_twice(algo, tmp_path):
    config = toy(algo, "seeds=[0]")
    serial = work_in(tmp_path / "serial", config)
    run_on(Serial(Serial.Config()), serial, serial.jobs())
    work = work_in(tmp_path / "slurm", config)
    run_on(made(cluster="local"), work, [Stopped(work.path.resolve(), 0)])
    assert len(status.read(work.path / "seed_0")["attempts"]) > 1
    assert metrics(work.path / "seed_0") == metrics(serial.path / "seed_0")


def test_a_job_that_comes_no_further_is_given_up(tmp_path):
    class Still:
        def run(self):
            yield "begun"

        def reached(self):
            return "step 4"

        def failed(self, error):
            return error

    attempt = Attempt(Still(), str(tmp_path))
    here = os.getcwd()
    try:
        assert [attempt() for _ in range(3)] == [["begun"]] * 3
        (error,) = attempt()
    finally:
        os.chdir(here)
    assert isinstance(error, GivenUp)
    assert str(error) == "stopped 3 times after step 4: is engine.minutes too short?"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands in place of Slurm's own, which keep what they are called with in files."""
    place = tmp_path / "bin"
    place.mkdir()
    for name in ("sbatch", "srun", "scancel", "sacct"):
        file = place / name
        file.write_text(f'#!/bin/sh\necho "$@" >> {place}/{name}.called\necho "Submitted batch job 12"\n')
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return place


@needs_submitit
def test_what_slurm_is_asked_for(slurm, tmp_path):
    work = work_in(tmp_path / "run", toy("cmaes", "env=sphere", "seeds=[0,1,2]"))
    options = {"partition": "long", "minutes": 90, "memory": 6, "threads": 2, "device": "cuda", "workers": 2}
    one = made(wait=False, extra={"nice": 100}, setup=["module load cuda"], **options)
    work.begin(one.prepare)
    with pytest.raises(Detached, match="Slurm's job 12"):
        one.run(one_by_one(work.jobs()), lambda job, event: None)
    work.leave()
    script = next((work.path / "submitit").glob("*.sh")).read_text()
    for line in (
        "partition=long",
        "time=90",
        "mem=6GB",
        "cpus-per-task=2",
        "gpus-per-node=1",
        "array=0-2%2",
        "nice=100",
    ):
        assert f"#SBATCH --{line}\n" in script
    assert "module load cuda" in script
    assert [status.read(work.path / f"seed_{seed}")["status"] for seed in range(3)] == ["waiting"] * 3
    assert not (slurm / "scancel.called").exists()


@needs_submitit
def test_jobs_of_slurm_are_cancelled_when_the_command_is(slurm, tmp_path, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    work = work_in(tmp_path / "run", toy("cmaes", "env=sphere", "seeds=[0,1]"))
    one = made()
    work.begin(one.prepare)
    monkeypatch.setattr(engine.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        one.run(one_by_one(work.jobs()), lambda job, event: None)
    assert (slurm / "scancel.called").read_text().split() == ["12_0", "12_1"]


@needs_submitit
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "no Slurm here, the command sbatch is not found; engine.cluster=local"),
        ({"cluster": "lokal"}, "engine.cluster: must be one of slurm, local"),
        ({"cluster": "local", "wait": False}, "engine.wait=false"),
        ({"minutes": 0}, "engine.minutes"),
        ({"workers": 0}, "workers: 0 is not a whole number"),
    ],
)
def test_wrong_options_are_said(options, said):
    with pytest.raises(UserError) as raised:
        made(**options)
    assert said in str(raised.value)


@needs_submitit
def test_what_slurm_refuses_is_said_before_anything_is_written(slurm, tmp_path):
    (slurm / "sbatch").write_text('#!/bin/sh\necho "sbatch: error: invalid partition specified: lomg" >&2\nexit 1\n')
    work = work_in(tmp_path / "run", toy("cmaes", "env=sphere"))
    with pytest.raises(UserError, match="engine=submitit: sbatch: error: invalid partition specified: lomg"):
        work.begin(made(partition="lomg").prepare)
    assert not work.path.exists()


def test_without_submitit_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'rlexp\[slurm\]'"):
        made()
