"""The contract of an algorithm, as tests: whoever plugs one in runs the same ones that rlexp's own have to pass.

    from rlexp.testing import check_algorithm

    def test_mine():
        check_algorithm("mine")        # the name of its yaml: python main.py algo=mine

What fails raises AssertionError with a line that says what the contract asks for. Each check trains for seconds, on the
line world, or as the config `experiment/<algo>_toy.yaml` says, if there is one.
"""

import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.envs.make import describe
from rlexp.experiment.compose import add_config_dir
from rlexp.experiment.config import RunConfig, build
from rlexp.experiment.events import Event
from rlexp.experiment.hydra_errors import composed, no_such
from rlexp.experiment.probe import probe
from rlexp.experiment.task import make_task
from rlexp.experiment.train import run_seed
from rlexp.loggers.jsonl import read
from rlexp.policies.base import Policy
from rlexp.policies.files import load_policy, save_policy
from rlexp.rollout.evaluation import evaluate
from rlexp.util import checkpoint, configs, seeding
from rlexp.util.errors import UserError

BUDGETS = {"env_steps": 20_000, "updates": 20}  # on the line world, by the algorithm's clock
QUIET = ("video=none", "logger=none")


def check_algorithm(name: str, *overrides: str, config_dir: str | Path | None = None) -> None:
    """Check that the algorithm `algo=name`, rlexp's or a plugin's, keeps the contract of `rlexp.algos.base.Algorithm`.

    It composes with every environment or says why not; refuses options that it has not and values out of range; is
    deterministic, and differs between seeds; learns its toy; resumes exactly after a stop; evaluation and saving change
    nothing of it; its policies survive being saved. `overrides` are further options of its toy runs, such as
    'algo.lr=0.1'; `config_dir` holds configs of your own, as --config-dir. Takes about a minute. Raises AssertionError
    where the contract is broken, UserError where there is no such algorithm or option."""
    with configs.forgetting():
        if config_dir is not None:
            add_config_dir(str(config_dir))
        if name not in configs.choices("algo"):
            raise UserError(no_such("algo", name))
        for check in CHECKS:
            with tempfile.TemporaryDirectory() as folder:
                check(name, Path(folder), *overrides)


def toy(name: str, *overrides: str) -> RunConfig:
    """A short and quiet run of an algorithm on the line world; or its own experiment <name>_toy, where there is one."""
    if f"{name}_toy" in configs.choices("experiment"):
        return build(composed([f"+experiment={name}_toy", *QUIET, *overrides]))
    budget = BUDGETS[build(composed([f"algo={name}"])).algo_class.clock]
    words = [f"algo={name}", "env=lineworld", f"train.budget={budget}", "train.eval_episodes=50"]
    return build(composed([*words, *QUIET, *overrides]))


def train(run: RunConfig, folder: Path, seed: int = 0, stop_after: int | None = None) -> list[Event]:
    """Run one seed, or until `stop_after` events have told a step and no more, as if it had been killed."""
    events = []
    generator = run_seed(run, seed, folder)
    for event in generator:
        events.append(event)
        if sum("step" in one.data for one in events) == stop_after:
            generator.close()  # type: ignore[attr-defined]
            break
    return events


def metrics(folder: Path) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl without times."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read(folder / "metrics.jsonl")]


def check_composes(name: str, folder: Path, *overrides: str) -> None:
    """It composes with every environment, or says in one line why not; its toy can start."""
    for env in configs.choices("env"):
        given = ["env.id=CartPole-v1"] if env == "gym" else []
        said, run = "", None
        try:
            run = build(composed([f"algo={name}", f"env={env}", *given]))
        except UserError as error:
            said = str(error)
        assert "\n" not in said, f"env={env}: an error is one line, not {said}"
        if run is not None:
            coarse = run.train.save_every >= run.train.budget // 20
            assert coarse, f"env={env}: a save cuts episodes: train.save_every must be at least budget / 20"
    probe(toy(name, *overrides))


def check_refuses(name: str, folder: Path, *overrides: str) -> None:
    """Unknown options, and values out of the declared ranges, are refused when the config is built."""
    run = toy(name, *overrides)
    wrong = [{"no_such_option": 1}]
    for f in fields(run.algo):
        assert "bounds" in f.metadata, f"{f.name}: declare each hyperparameter with param(...)"
        bounds = f.metadata["bounds"]
        for sign, beyond in ((">", 0), ("≥", -1), ("<", 0), ("≤", 1)):
            if bounds.get(sign) is not None:
                wrong.append({f.name: bounds[sign] + beyond})
    for options in wrong:
        try:
            build({**run.plain, "algo": {**run.plain["algo"], **options}})
        except UserError:
            continue
        raise AssertionError(f"algo={name}: {options} is out of range or unknown, and is taken")


def check_deterministic(name: str, folder: Path, *overrides: str) -> None:
    """The same seed gives the same metrics, another seed others."""
    run = toy(name, *overrides)
    for run_name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(run, folder / run_name, seed, stop_after=3)
    same = metrics(folder / "a") == metrics(folder / "b")
    assert same, "two runs of one seed differ: all chance must come from task.rng, task.generator or torch's own"
    assert metrics(folder / "a") != metrics(folder / "c"), "two seeds give the same metrics"


def check_learns_and_resumes(name: str, folder: Path, *overrides: str) -> None:
    """Its toy's return grows by three standard errors; stopped in the middle and resumed, all metrics and policies are
    those of the run that went through."""
    run = toy(name, *overrides)
    train(run, folder / "whole")
    whole = metrics(folder / "whole")

    first, last = whole[0], whole[-1]
    n = run.train.eval_episodes
    spread = math.sqrt((first["eval/return_std"] ** 2 + last["eval/return_std"] ** 2) / n)
    before, after = first["eval/return_mean"], last["eval/return_mean"]
    assert after > before + 3 * spread, f"it has learned nothing: {before:.3g} became {after:.3g}"

    train(run, folder / "cut", stop_after=len(whole) // 2)
    assert len(metrics(folder / "cut")) < len(whole), "its toy is too short to be cut in the middle"
    resumed = train(run, folder / "cut")
    continued = 1 < resumed[0].data["step"] < run.train.budget
    assert continued, "it did not continue from a checkpoint"
    equal = metrics(folder / "cut") == whole
    assert equal, "resumed, it differs: does `state` name all that changes, and is `restart` overridden?"
    for place in ("final", "best"):
        states = [_policy_state(folder / run_name, place) for run_name in ("whole", "cut")]
        assert states[0] == states[1], f"resumed, its {place} policy differs"


def check_policy_files(name: str, folder: Path, *overrides: str) -> None:
    """Everything that acting needs, normaliser statistics included, is in the file; evaluating changes nothing."""
    run = toy(name, *overrides)
    spec = describe(run.env)
    learner = run.algo_class(run.algo, make_task(run, spec, 0))
    learner.step()
    before = everything(learner.state_dict())
    chance = everything(seeding.globals_state())
    for explore in (False, True):
        _check_policy_file(run, learner.policy(explore=explore), explore, spec.obs_dim, folder / "p.safetensors")
    assert everything(learner.state_dict()) == before, "evaluating or saving a policy has changed the algorithm"
    same = everything(seeding.globals_state()) == chance
    assert same, "evaluating or saving a policy has drawn from global generators"


def _check_policy_file(run: RunConfig, policy: Policy, explore: bool, obs_dim: int, file: Path) -> None:
    save_policy(file, policy, run.env, {})
    again = load_policy(file)
    assert again.env == run.env
    assert again.policy.explore == explore, "`explore` is not in the policy's file"
    played = [evaluate(p, run.env, seeding.stream(3, "eval"), 5).episodes for p in (policy, again.policy)]
    rewards = [[episode.reward_T.tolist() for episode in episodes] for episodes in played]
    assert rewards[0] == rewards[1], "the saved policy acts differently: is something missing in spec or state_dict?"
    obs_BO = np.random.default_rng(0).uniform(0, 1, (2, obs_dim))
    actions = []
    for precision in (np.float32, np.float64):  # Gymnasium gives either
        again.policy.start(2, np.random.default_rng(0))
        actions.append(again.policy.act(obs_BO.astype(precision)))
    assert np.array_equal(actions[0], actions[1]), "actions depend on whether observations are float32 or float64"


def everything(state: Any) -> Any:
    """A state as something that can be compared."""
    tensors: dict[str, Any] = {}
    packed = json.dumps(checkpoint._pack(state, "", tensors))
    return packed, {key: tensor.tolist() for key, tensor in tensors.items()}


def _policy_state(folder: Path, which: str) -> str:
    state = checkpoint.load(folder / "checkpoints" / f"{which}.safetensors", "policy")["state"]
    return json.dumps(state, default=lambda tensor: tensor.tolist())


CHECKS: tuple[Callable[..., None], ...] = (
    check_composes,
    check_refuses,
    check_deterministic,
    check_learns_and_resumes,
    check_policy_files,
)
