"""Every algorithm in conf/algo keeps the contract, as `rlexp.testing` checks it: a new one is tested by being there."""

import json
import shutil

import pytest

from rlexp.envs.make import describe
from rlexp.experiment.probe import probe
from rlexp.experiment.task import make_task
from rlexp.testing import CHECKS
from rlexp.util import seeding
from tests.helpers import ALGOS, EXPERIMENTS, ROOT, built, toy

GOLDEN = ROOT / "tests" / "golden"


@pytest.mark.parametrize("algo", ALGOS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(check, algo, tmp_path):
    check(algo, tmp_path)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_composes_and_can_start(experiment):
    config = built(f"+experiment={experiment}")
    makes_data = "data" in config.algo_class.needs and not experiment.endswith("_toy")
    if not makes_data:  # which takes minutes
        probe(config)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("algo", ALGOS)
def test_compiled_updates_agree_with_eager_ones(algo):
    """Without dropout, whose masks differ, and then with it, where an algorithm has any."""

    def step(*overrides):
        run = toy(algo, *overrides)
        seeding.seed_globals(seeding.stream(0, "init"))
        return run.algo_class(run.algo, make_task(run, describe(run.env), 0)).step().metrics

    if not toy(algo).algo_class.compiles:
        pytest.skip("its batches are of many sizes")
    drops = "dropout" in toy(algo).plain["algo"]
    none = ["algo.dropout=0"] * drops
    assert step(*none, "train.compile=true") == pytest.approx(step(*none), rel=1e-3, abs=1e-5)
    if drops:
        assert step("train.compile=true") == pytest.approx(step(), rel=0.1)


@pytest.mark.parametrize("algo", ALGOS)
def test_golden_first_updates(algo, tmp_path):
    """A change that should not move numbers does not. To move them on purpose: python -m tests.golden, and say why."""
    from tests.golden import first_updates

    assert (GOLDEN / f"{algo}.json").exists(), f"write it with python -m tests.golden {algo}"
    stored = json.loads((GOLDEN / f"{algo}.json").read_text())
    for ours, golden in zip(first_updates(algo, tmp_path), stored, strict=True):
        assert ours == pytest.approx(golden, rel=1e-4, abs=1e-6)
