"""What hangs is ended with a line that says where, and nothing else is."""

import re
import time

import pytest

from rlexp.cli.launch import execute
from rlexp.engines.processes import Processes
from rlexp.engines.serial import Serial
from rlexp.experiment import plan, status
from rlexp.experiment.compose import compose
from rlexp.experiment.probe import probe
from rlexp.util import checkpoint, watchdog
from rlexp.util.errors import UserError
from rlexp.util.watchdog import Hung, Watch, alive
from tests.helpers import built
from tests.peculiar import Sleeps

TINY = (
    *("algo=ppo", "env=gym", "train.budget=256", "train.save_every=16", "train.eval_episodes=1", "video=none"),
    *("algo.num_envs=1", "algo.num_steps=16", "algo.batch_size=16", "algo.update_epochs=1", "policy.hidden=[8]"),
    *("logger=none", "train.patience=2", "train.eval_every=256"),
)


def words(name, *more):
    return [*TINY, f"env.id=tests.peculiar:Odd/{name}-v0", *more]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SleepsAtOnce", r"reset\(\) of '.*' has not returned for 2 s .*line \d+ of peculiar.py, in reset\(\)"),
        ("LoopsAtOnce", r"step\(\) of '.*' has not returned for 2 s .* of peculiar.py, in step\(\)"),
        ("NeverMade", r"making '.*' has not returned for 2 s .* of peculiar.py, in __init__\(\)"),
    ],
)
def test_what_hangs_at_once_is_refused_before_training(name, said):
    with pytest.raises(UserError, match=said):
        probe(built(*words(name)))


def begun(tmp_path, *more):
    Sleeps.steps = 0
    mark = f"+env.kwargs.mark={tmp_path}/mark"
    return plan.single(compose([*words("Sleeps", mark, *more), f"runs={tmp_path}/runs"]))


def check_first_has_hung(work):
    hung, fine = (status.read(work.path / f"seed_{seed}") for seed in (0, 1))
    if hung["status"] == "done":  # of two that begin together
        hung, fine = fine, hung
    assert (hung["status"], fine["status"]) == ("failed", "done")
    assert "step() of 'tests.peculiar:Odd/Sleeps-v0' has not returned for 2 s" in hung["message"]
    assert "peculiar.py, in step()" in hung["message"]
    assert hung["message"] in work.path.joinpath("train.log").read_text()


def test_a_seed_that_hangs_has_failed_and_the_others_go_on(tmp_path):
    work = begun(tmp_path, "seeds=[0,1]")
    assert execute(work, Serial(Serial.Config())) == 1
    check_first_has_hung(work)
    assert checkpoint.load_newest(work.path / "seed_0" / "checkpoints") is not None


@pytest.mark.slow
@pytest.mark.parametrize("deaf", ["false", "true"])
def test_so_it_is_in_processes_even_where_no_signal_helps(deaf, tmp_path):
    work = begun(tmp_path, "seeds=[0,1]", f"+env.kwargs.deaf={deaf}")
    assert execute(work, Processes(Processes.Config(workers=2))) == 1
    check_first_has_hung(work)


def filmed(tmp_path, *more):
    short = ("seeds=[0]", "video=default", "video.seconds=2", "train.budget=32", "train.eval_every=32")
    return plan.single(compose([*words("RenderSleeps", *short, *more), f"runs={tmp_path}"]))


@pytest.mark.parametrize("patience", ["60", "null"])
def test_a_renderer_that_hangs_costs_the_seconds_of_its_films(patience, tmp_path):
    work = filmed(tmp_path, f"train.patience={patience}")
    begun = time.monotonic()
    assert execute(work, Serial(Serial.Config())) == 0
    assert time.monotonic() - begun < 20
    said = (work.path / "train.log").read_text()
    assert re.search(r"no video: the renderer has not returned for [12][.\d]* s \(video.seconds\); it is at line", said)
    assert not list(work.path.glob("seed_0/videos/*"))


@pytest.mark.slow
def test_so_it_does_where_no_signal_helps_and_its_process_ends(tmp_path):
    work = filmed(tmp_path, "+env.kwargs.deaf=true")
    assert execute(work, Processes(Processes.Config(workers=1))) == 0
    facts = status.read(work.path / "seed_0")
    assert (facts["status"], facts["step"]) == ("done", 32)
    assert facts["message"].startswith("no video: the renderer has not returned")
    assert facts["final"]["return_mean"] > 0


def test_signs_of_life_and_what_is_done_with_the_items_are_waited_for():
    def items():
        for i in range(3):
            for _ in range(4):
                time.sleep(0.05)
                alive("work")
            yield i

    with Watch(0.15) as watch:
        for _ in watch.each(items()):
            time.sleep(0.3)


def test_null_waits_for_ever():
    with Watch(None):
        time.sleep(0.05)


def test_a_process_that_cannot_be_interrupted_ends_itself(monkeypatch):
    said = []

    monkeypatch.setattr(watchdog.os, "_exit", said.append)
    monkeypatch.setattr(watchdog.signal, "pthread_kill", lambda *_: None)
    with Watch(0.1, said.append):
        alive("the simulator")
        time.sleep(0.5)
    assert said[0].startswith("the simulator has not returned for 0.1 s")
    assert said[1] == 1


def test_hung_is_caught_by_nobody_who_tries_again():
    assert not issubclass(Hung, Exception)
