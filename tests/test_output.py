"""Output that fails ends nothing; neither does what one seed raises, whatever that is."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from rlexp.algos.cmaes import CMAES
from rlexp.cli import launch
from rlexp.engines.base import messages
from rlexp.experiment.events import failure
from rlexp.experiment.probe import probe
from rlexp.experiment.train import require_finite
from rlexp.util.errors import UserError
from rlexp.util.output import Steady, say_of_thread
from tests.helpers import QUIET, ROOT, built

WORDS = ["algo=cmaes", "env=sphere", "seeds=[0]", "train.budget=2", "train.eval_episodes=1", *QUIET]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/dev/full is Linux's")
def test_a_full_disk_under_the_output_changes_no_exit_code(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, str(ROOT / "main.py"), *WORDS], stdout=full, stderr=full, cwd=tmp_path, timeout=300
        )
    assert done.returncode == 0
    assert list(tmp_path.glob("runs/*/*/seed_0/checkpoints/final.safetensors"))


class Fails:
    """A terminal that is gone."""

    encoding = "utf-8"

    def write(self, text):
        raise OSError(5, "Input/output error")

    flush = fileno = lambda self: self.write("")


def test_streams_that_fail_are_silent(tmp_path):
    stream = Steady(Fails())
    assert stream.write("abc") == 3
    stream.flush()
    assert stream.encoding == "utf-8"
    with open(tmp_path / "a", "w", encoding="cp1252") as file:
        Steady(file).write("━ \udc80 é")
    assert (tmp_path / "a").read_text(encoding="cp1252") == "\\u2501 \\udc80 é"
    file = open(tmp_path / "b", "w")
    file.close()
    Steady(file).write("nobody reads it")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_a_stream_that_fails_keeps_no_file_open():
    stream = Steady(Fails())
    stream.write("abc")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        stream.write("abc")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_thread_that_fails_is_one_line(capsys):
    error = OSError(28, "No space\nleft")
    say_of_thread(threading.ExceptHookArgs((OSError, error, None, threading.Thread(name="writer"))))
    assert capsys.readouterr().err == "warning: thread writer has failed: OSError: [Errno 28] No space left\n"


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no")


@dataclass
class Raising:
    error: BaseException

    def run(self):
        yield "begun"
        raise self.error

    def failed(self, error):
        return failure(3, error)


@pytest.mark.parametrize(
    "error", [SystemExit(0), GeneratorExit(), Unspeakable(), ValueError("\udc80"), MemoryError(), BaseException("x")]
)
def test_whatever_a_seed_raises_is_its_failure(error):
    first, last = messages(Raising(error))
    assert first == "begun"
    assert (last.kind, last.seed) == ("failed", 3)
    assert last.text.startswith(type(error).__name__)
    assert "\n" not in last.text
    (last.text + last.data["traceback"]).encode("utf-8")


@pytest.mark.parametrize("value", [None, "1", np.float32(1.0), torch.tensor(1.0)])
def test_a_metric_that_is_no_number_is_named(value):
    with pytest.raises(TypeError, match=f"the metric data/mine is a {type(value).__name__}, not a float, at step 3"):
        require_finite({"data/fine": 1, "data/mine": value}, 3)


class Unmade(CMAES):
    """Somebody else's algorithm."""

    raises: BaseException = KeyError("popsize")

    def __init__(self, config, task):
        raise self.raises


def test_somebody_elses_algorithm_that_fails_when_it_is_made_is_one_line(monkeypatch):
    run = built("algo=cmaes", "env=sphere", *QUIET, "algo._target_=tests.test_output.Unmade")
    with pytest.raises(UserError, match=r"algo=unmade: fails when it is made: .*test_output.py, line \d+: KeyError"):
        probe(run)
    monkeypatch.setattr(Unmade, "raises", MemoryError())
    with pytest.raises(UserError, match="algo=unmade: does not fit into memory"):
        probe(run)


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit("bye"), GeneratorExit()])
def test_an_algorithm_that_exits_ends_no_program_in_silence(monkeypatch, capsys, error):
    monkeypatch.setattr(Unmade, "raises", error)
    monkeypatch.setattr("sys.argv", ["main.py", *WORDS, "algo._target_=tests.test_output.Unmade"])
    assert launch.main() == 2
    said = capsys.readouterr().err
    assert "error: code that rlexp called ends the program: " in said
    assert f"{type(error).__name__}" in said
    assert said.count("\n") == 1


def test_ctrl_c_is_no_seeds_failure():
    told = messages(Raising(KeyboardInterrupt()))
    next(told)
    with pytest.raises(KeyboardInterrupt):
        next(told)


def test_messages_that_nobody_wants_end_the_job():
    ended = []

    class Endless(Raising):
        def run(self):
            try:
                while True:
                    yield "again"
            finally:
                ended.append(True)

    told = messages(Endless(ValueError()))
    next(told)
    told.close()
    assert ended == [True]
