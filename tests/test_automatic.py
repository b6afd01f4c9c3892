"""train.compile=auto, env.backend=auto: decided by length and machine, stored decided, said in a line."""

import importlib.util
import shutil

import pytest

from rlexp.algos.ppo import PPO
from rlexp.experiment import automatic
from rlexp.experiment.automatic import POOLED_FROM
from rlexp.util.errors import UserError
from tests.helpers import ALGOS, built

LONG = f"train.budget={10 * POOLED_FROM}"
SHORT = f"train.budget={POOLED_FROM - 1}"


@pytest.fixture(autouse=True)
def everything_is_there(monkeypatch):
    """A compiler, Python's headers and EnvPool with these environments."""
    monkeypatch.setattr(automatic, "has_compiler", lambda: True)
    monkeypatch.setattr(automatic, "has_headers", lambda: True)
    monkeypatch.setattr(automatic, "pooled", lambda: {"Hopper-v5", "BipedalWalker-v3", "CartPole-v1"})


def chosen(*words):
    run = built(*words)
    assert run.plain["train"]["compile"] is run.train.compile
    assert run.plain["env"]["backend"] == run.env.backend
    return run.train.compile, run.env.backend


@pytest.mark.parametrize(
    ("words", "compiles", "backend"),
    [
        (["algo=ppo", "env=hopper", LONG], True, "envpool"),
        (["algo=ppo", "env=bipedal", LONG], True, "envpool"),
        (["algo=ppo", "env=hopper", SHORT], False, "gymnasium"),
        (["algo=ppo", "env=cartpole", LONG], True, "gymnasium"),
        (["algo=ppo", "env=walker2d", LONG], True, "gymnasium"),
        (["algo=ppo", "env=hopper", LONG, "+env.kwargs.frame_skip=2"], True, "gymnasium"),
        (["algo=ppo", "env=lineworld", LONG], True, "gymnasium"),
        (["algo=sac", "env=hopper", LONG], True, "gymnasium"),
        (["algo=vpg", "env=hopper", LONG], False, "gymnasium"),
        (["algo=ppo", "env=hopper", LONG, "train.compile=false"], False, "envpool"),
        (["algo=ppo", "env=hopper", LONG, "env.backend=gymnasium"], True, "gymnasium"),
    ],
)
def test_it_is_decided_by_length_and_environment(words, compiles, backend):
    assert chosen(*words) == (compiles, backend)


def test_without_a_compiler_or_envpool_it_says_what_would_be_faster(monkeypatch):
    monkeypatch.setattr(automatic, "has_headers", lambda: False)
    monkeypatch.setattr(automatic, "pooled", lambda: None)
    run = built("algo=ppo", "env=hopper", LONG)
    assert (run.train.compile, run.env.backend) == (False, "gymnasium")
    assert "train.compile=false (would be faster, but there is no C++ compiler" in run.decided
    assert "env.backend=gymnasium (EnvPool would be faster: the extra 'fast')" in run.decided


def test_a_gpu_replays_recordings_instead():
    run = built("algo=ppo", "env=cartpole", LONG)
    assert automatic.compiles(PPO, run.algo, 10**9, "cuda") == (False, "")


def test_what_was_decided_is_said_and_what_was_typed_is_not():
    said = built("algo=ppo", "env=hopper", LONG).decided
    assert said.startswith(
        "train.compile=true (156,250 updates; it pays from 20,000); env.backend=envpool (1,000,000 ste"
    )
    assert built("algo=ppo", "env=hopper", LONG, "train.compile=true", "env.backend=envpool").decided == ""


def test_a_wrong_budget_is_still_the_budget_that_is_wrong():
    with pytest.raises(UserError, match=r"train\.budget"):
        built("algo=ppo", "env=hopper", "train.budget=none")


@pytest.mark.parametrize("algo", ALGOS)
def test_what_compiling_pays_for_can_be_compiled(algo):
    algo_class = built(f"algo={algo}", "env=hopper" if algo in ("sac", "diffusion") else "env=lineworld").algo_class
    assert algo_class.compiles or algo_class.compiling_pays is None


def test_what_envpool_has_is_asked_of_envpool(monkeypatch):
    monkeypatch.undo()
    known = automatic.pooled()
    if importlib.util.find_spec("envpool") is None:
        assert known is None
    else:
        assert {"Hopper-v5", "BipedalWalker-v3"} <= set(known)


def test_a_compiler_is_found_by_its_name(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "which", lambda name: name == "my-c++")
    assert not automatic.has_compiler()
    monkeypatch.setenv("CXX", "my-c++")
    assert automatic.has_compiler()
