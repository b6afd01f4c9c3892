"""engine=ray: the numbers of engine=serial, whatever dies, on a cluster of this machine's own or of several nodes."""

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rlexp.engines import ray as engine
from rlexp.engines.base import one_by_one
from rlexp.engines.ray import Mailbox, Ray
from rlexp.engines.serial import Serial
from rlexp.experiment import status
from rlexp.experiment.compose import compose
from rlexp.experiment.config import make_engine
from rlexp.experiment.job import SeedJob
from rlexp.experiment.recorder import Recorder
from rlexp.experiment.resume import engine_of
from rlexp.util.errors import UserError
from tests.helpers import ALGOS, QUIET, ROOT, Raising, command, metrics, run_on, toy, work_in

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="pip install 'rlexp[ray]'")


@dataclass(frozen=True)
class Killed(SeedJob):
    """A seed whose process is killed when it has made its first evaluation and a checkpoint."""

    times: int = 1

    def run(self):
        for event in super().run():
            yield event
            attempts = status.read(self.folder)["attempts"]
            if event.kind == "evaluation" and len(attempts) <= self.times and self.reached() != "the beginning":
                os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Doomed(SeedJob):
    """A seed whose process is killed at once, always."""

    def run(self):
        os.kill(os.getpid(), signal.SIGKILL)
        yield


@needs_ray
def test_numbers_are_those_of_serial_when_processes_die_and_failures_are_of_one_seed(tmp_path):
    import ray

    config = toy("cmaes", "env=sphere", "train.budget=12", "train.eval_episodes=2", "seeds=[0,1,2]")
    serial = work_in(tmp_path / "serial", config)
    run_on(Serial(Serial.Config()), serial, serial.jobs()[:2])
    work = work_in(tmp_path / "ray", config)
    place = work.path.resolve()
    jobs = [SeedJob(place, 0), Killed(place, 1), Raising(place, 2)]
    told = run_on(Ray(Ray.Config(workers=1)), work, jobs)
    assert not ray.is_initialized()

    for seed in ("seed_0", "seed_1"):
        assert metrics(place / seed) == metrics(serial.path / seed)
        rows = json.loads((place / seed / "status.json").read_text())
        assert rows["final"] == json.loads((serial.path / seed / "status.json").read_text())["final"]
    first, second = status.read(place / "seed_1")["attempts"]
    assert first["pid"] != second["pid"]
    assert (first["step"], second["step"] > 0) == (0, True)
    of_seed_0 = [event.kind for seed, event in told if seed == 0]
    assert of_seed_0 == ["progress", *["progress", "evaluation"] * 12, "done"]
    last = dict(told)
    assert (last[2].kind, last[2].text) == ("failed", "ValueError: of its own")
    assert [status.read(place / f"seed_{seed}")["status"] for seed in range(3)] == ["done", "done", "failed"]
    assert not list(place.glob(".probe*"))


@needs_ray
@pytest.mark.slow
def test_a_seed_whose_processes_die_without_progress_is_given_up(tmp_path):
    work = work_in(tmp_path / "run", toy("cmaes", "env=sphere", "train.budget=4", "seeds=[0]"))
    told = run_on(Ray(Ray.Config(workers=1)), work, [Doomed(work.path.resolve(), 0)])
    said = "GivenUp: its process died 3 times after the beginning: out of memory?"
    assert [(event.kind, event.text) for _, event in told] == [("failed", said)]
    assert status.read(work.path / "seed_0")["status"] == "failed"


def test_the_mailbox_counts_deaths_without_progress_and_drops_letters_of_earlier_attempts():
    box = Mailbox()
    assert [box.begin(0, "step 1")[1] for _ in range(3)] == [0, 1, 2]
    attempt, deaths = box.begin(0, "step 2")
    assert (attempt, deaths) == (4, 0)
    box.put(0, 3, ["late"])
    box.put(0, 4, ["a", "b"])
    assert box.take() == [(0, "a"), (0, "b")]
    assert box.take() == []
    assert box.begin(1, "") == (1, 0)


@needs_ray
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"address": "ray://head:10001"}, "engine.address: 'ray://head:10001' is neither host:port"),
        ({"address": "6379"}, "engine.address: '6379' is neither"),
        ({"workers": 0}, "workers: 0 is not a whole number"),
        ({"gpus": -1}, "engine.gpus"),
        ({"patience": "long"}, "engine.patience"),
    ],
)
def test_wrong_options_are_said(options, said):
    with pytest.raises(UserError) as raised:
        make_engine({"_target_": "rlexp.engines.ray.Ray", **options})
    assert said in str(raised.value)


@needs_ray
def test_nobody_at_the_address_is_said_before_anything_is_written(tmp_path):
    work = work_in(tmp_path / "run", toy("cmaes", "env=sphere", "train.budget=4"))
    with pytest.raises(UserError, match=r"engine.address: nobody answers at 127.0.0.1:1 \(Connection refused\)"):
        work.begin(Ray(Ray.Config(address="127.0.0.1:1")).prepare)
    assert not work.path.exists()


@needs_ray
def test_the_readmes_commands_compose():
    section = (ROOT / "README.md").read_text().split("\n## More than one machine\n")[1].split("\n## ")[0]
    lines = [shlex.split(line, comments=True)[2:] for line in section.splitlines() if "engine=ray" in line]
    assert len(lines) == 3
    for words in lines:
        resumed = [word for word in words if word.startswith("resume=")]
        if resumed:
            made, rest = engine_of(words, {"threads": 2, "device": "cpu"})
            assert (rest, made.threads) == (resumed, 2)
        else:
            made = make_engine(OmegaConf.to_container(compose(words).engine, resolve=True))
        assert made.address == ("auto" if "engine.address=auto" in words else None)


def test_without_ray_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'rlexp\[ray\]'"):
        Ray(Ray.Config())


@pytest.fixture(scope="module")
def cluster():
    """Two nodes on this machine, with one place each; tests may remove the second, or add others."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    made.shutdown()


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("algo", ALGOS)
def test_a_node_is_removed_in_the_middle(algo, cluster, tmp_path):
    config = toy(algo, "seeds=[0,1]")
    serial = work_in(tmp_path / "serial", config)
    events = run_on(Serial(Serial.Config()), serial, serial.jobs())
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    work = work_in(tmp_path / "ray", config)
    told = []
    recorder = Recorder(work.folders())

    def handle(job, event):
        recorder(job, event)
        told.append((job.seed, event))
        if len(told) == len(events) // 3 and len(cluster.worker_nodes) == 1:
            cluster.remove_node(second, allow_graceful=False)

    engine = Ray(Ray.Config(address=cluster.address))
    work.begin(engine.prepare)
    engine.run(one_by_one(work.jobs()), handle)
    work.close(whole=True)
    assert not cluster.worker_nodes, "it went on to its end before a node could be removed"
    assert sum(len(status.read(work.path / f"seed_{seed}")["attempts"]) for seed in (0, 1)) == 3
    for seed in ("seed_0", "seed_1"):
        assert metrics(work.path / seed) == metrics(serial.path / seed)


@needs_ray
@pytest.mark.slow
def test_a_killed_driver_leaves_no_processes_and_its_run_goes_on(tmp_path):
    words = ["algo=cmaes", "env=sphere", "train.budget=400", "train.eval_every=20", "seeds=[0]", *QUIET]
    assert command("main.py", *words, "runs=whole", cwd=tmp_path).returncode == 0
    (whole,) = tmp_path.glob("whole/*/*")
    called = [sys.executable, str(ROOT / "main.py"), *words, "engine=ray", "runs=cut"]
    driver = subprocess.Popen(called, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    for line in driver.stdout:
        if "return" in line and "1/" not in line:
            break
    driver.kill()
    driver.wait()
    (cut,) = tmp_path.glob("cut/*/*")
    pid = status.read(cut / "seed_0")["attempts"][0]["pid"]
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "the worker of a killed driver lives on"
        time.sleep(0.2)
    done = command("main.py", f"resume={cut}", "engine=ray", "workers=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert metrics(cut / "seed_0") == metrics(whole / "seed_0")
    assert len(status.read(cut / "seed_0")["attempts"]) == 2
