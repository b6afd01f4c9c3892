"""Every algorithm in conf/algo: a new one is tested by being there."""

import json
import math
import shutil

import numpy as np
import pytest

from rlexp.envs.make import describe
from rlexp.experiment.probe import probe
from rlexp.experiment.task import make_task
from rlexp.policies.files import load_policy, save_policy
from rlexp.util import checkpoint, seeding
from tests.helpers import ALGOS, ENVS, EXPERIMENTS, ROOT, built, metrics, toy, train

GOLDEN = ROOT / "tests" / "golden"


@pytest.mark.parametrize("env", ENVS)
@pytest.mark.parametrize("algo", ALGOS)
def test_composes_or_says_why_not(algo, env):
    overrides = [f"algo={algo}", f"env={env}"] + ["env.id=CartPole-v1"] * (env == "gym")
    run = built(*overrides)
    assert run.name.startswith(algo)
    assert run.train.save_every >= run.train.budget // 20, "a save cuts episodes: it must stay coarse"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_composes_and_can_start(experiment):
    probe(built(f"+experiment={experiment}"))


@pytest.mark.parametrize("algo", ALGOS)
def test_deterministic_and_seeds_differ(algo, tmp_path):
    run = toy(algo)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(run, tmp_path / name, seed, stop_after=3)
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")


@pytest.mark.parametrize("algo", ALGOS)
def test_learns_and_resumes_exactly(algo, tmp_path):
    run = toy(algo)
    events = train(run, tmp_path / "whole")
    whole = metrics(tmp_path / "whole")

    first, last = whole[0], whole[-1]
    n = run.train.eval_episodes
    spread = math.sqrt((first["eval/return_std"] ** 2 + last["eval/return_std"] ** 2) / n)
    assert last["eval/return_mean"] > first["eval/return_mean"] + 3 * spread, "it has learned nothing"

    train(run, tmp_path / "cut", stop_after=len(events) // 2)
    half = len(metrics(tmp_path / "cut"))
    assert half < len(whole)
    resumed = train(run, tmp_path / "cut")
    assert 1 < resumed[0].data["step"] < run.train.budget, "it must have continued from a checkpoint"
    assert metrics(tmp_path / "cut") == whole, "does `state` name all that changes, and is `restart` overridden?"

    for place in ("final", "best"):
        a, b = (
            checkpoint.load(tmp_path / x / "checkpoints" / f"{place}.safetensors", "policy")["state"]
            for x in ("whole", "cut")
        )
        assert json.dumps(a, default=lambda t: t.tolist()) == json.dumps(b, default=lambda t: t.tolist())


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
def test_policy_file_acts_like_the_policy(algo, tmp_path):
    """Everything that acting needs, normaliser statistics included, is in the file; evaluating changes nothing."""
    run = toy(algo)
    learner = run.algo_class(run.algo, make_task(run, describe(run.env), 0))
    learner.step()
    before, chance = whole(learner.state_dict()), whole(seeding.globals_state())
    for explore in (False, True):
        policy = learner.policy(explore=explore)
        save_policy(tmp_path / "p.safetensors", policy, run.env, {})
        again = load_policy(tmp_path / "p.safetensors")
        assert again.env == run.env
        assert again.policy.explore == explore
        from rlexp.rollout.evaluation import evaluate

        a, b = (evaluate(p, run.env, seeding.stream(3, "eval"), 5) for p in (policy, again.policy))
        assert [e.reward_T.tolist() for e in a.episodes] == [e.reward_T.tolist() for e in b.episodes]
        obs_BO = np.random.default_rng(0).uniform(0, 1, (2, learner.task.spec.obs_dim))
        actions = []
        for precision in (np.float32, np.float64):  # Gymnasium gives either
            again.policy.start(2, np.random.default_rng(0))
            actions.append(again.policy.act(obs_BO.astype(precision)))
        assert np.array_equal(*actions)
    assert whole(learner.state_dict()) == before
    assert whole(seeding.globals_state()) == chance, "no dropout mask depends on how often it is evaluated"


def whole(state):
    tensors = {}
    return json.dumps(checkpoint._pack(state, "", tensors)), {name: t.tolist() for name, t in tensors.items()}


@pytest.mark.parametrize("algo", ALGOS)
def test_golden_first_updates(algo, tmp_path):
    """A change that should not move numbers does not. To move them on purpose: python -m tests.golden, and say why."""
    from tests.golden import first_updates

    assert (GOLDEN / f"{algo}.json").exists(), f"write it with python -m tests.golden {algo}"
    stored = json.loads((GOLDEN / f"{algo}.json").read_text())
    for ours, golden in zip(first_updates(algo, tmp_path), stored, strict=True):
        assert ours == pytest.approx(golden, rel=1e-4, abs=1e-6)
