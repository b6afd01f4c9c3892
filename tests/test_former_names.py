"""Former names of config keys: in stored runs, gallery cards, studies and on the command line."""

import dataclasses
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import rlexp
from rlexp.experiment import former_names, plan
from rlexp.experiment.former_names import algorithms_of, translated
from rlexp.util import paths
from rlexp.util.errors import UserError
from rlexp.util.former_keys import FORMER, algorithm_of, renamed
from tests.helpers import ALGOS, QUIET, ROOT, built, command, metrics

OLD_PPO = {"_target_": "rlexp.algos.ppo.PPO", "envs": 4, "steps": 64, "clip": 0.1, "lr": 1e-3}
NEW_PPO = {"_target_": "rlexp.algos.ppo.PPO", "num_envs": 4, "num_steps": 64, "clip_coef": 0.1, "lr": 1e-3}


@pytest.fixture(autouse=True)
def nothing_said_yet():
    former_names._say.cache_clear()


def keys(algo: str, since: bool = True) -> set[str]:
    """Names of an algorithm's options; without `since`, of those that every stored run has."""
    fields = dataclasses.fields(built(f"algo={algo}", *ENV.get(algo, [])).algo)
    return {field.name for field in fields if since or field.default is dataclasses.MISSING}


ENV = {"sac": ["env=swimmer"], "diffusion": ["env=swimmer"]}


@pytest.mark.parametrize("algo", ALGOS)
def test_the_table_leads_to_names_that_exist_and_from_none_that_does(algo):
    table = FORMER[algo]
    assert set(table.values()) <= keys(algo)
    assert not set(table) & keys(algo)
    assert len(set(table.values())) == len(table)


def test_a_stored_group_is_read_by_its_algorithm():
    assert renamed(OLD_PPO) == NEW_PPO == renamed(NEW_PPO)
    assert renamed({"_target_": "rlexp.algos.cmaes.CMAES", "episodes": 3})["num_episodes"] == 3
    foreign = {"_target_": "other.ppo.PPO", "envs": 4}
    assert renamed(foreign) == foreign, "keys of other packages are their own"


@pytest.mark.parametrize("file", sorted((ROOT / "gallery").glob("*.json")), ids=lambda file: file.stem)
def test_every_gallery_card_is_a_config_of_today(file):
    config = json.loads(file.read_text()).get("config")
    if config is None:
        pytest.skip("another project's curve")
    algo = algorithm_of(config["algo"]["_target_"])
    assert keys(algo, since=False) <= set(renamed(config["algo"])) - {"_target_"} <= keys(algo)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("algo.envs=16", "algo.num_envs=16"),
        ("algo=vpg env=lineworld algo.episodes=4", "algo=vpg env=lineworld algo.num_envs=4"),
        ("algo=cmaes +algo.episodes=4", "algo=cmaes +algo.num_episodes=4"),
        ("+experiment=sac_toy algo.warmup=9", "+experiment=sac_toy algo.learning_starts=9"),
        ("algo=dt algo.warmup=9", "algo=dt algo.warmup=9"),
        ("-m algo=ppo,vpg algo.minibatch=32,64", "-m algo=ppo,vpg algo.batch_size=32,64"),
        ("+study=lineworld_lesson algo.epochs=2", "+study=lineworld_lesson algo.update_epochs=2"),
        ("--cfg job algo=ppo algo.horizon=10", "--cfg job algo=ppo algo.anneal_steps=10"),
        ("algo=nobody algo.envs=2 env.envs=3", "algo=nobody algo.envs=2 env.envs=3"),
        ("algo=ppo 'env.kwargs.x=\n'", "algo=ppo 'env.kwargs.x=\n'"),
    ],
)
def test_a_command_line_is_translated(typed, read, capsys):
    assert translated(typed.split(" ")) == read.split(" ")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == (typed != read)
    assert all(" is now called algo." in line for line in said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("algo.envs=16 algo.num_envs=8", r"algo\.envs: is the former name of algo\.num_envs; give one of them"),
        (
            "-m algo=vpg,cmaes algo.episodes=4",
            r"algo\.episodes: is now called algo\.num_episodes of cmaes, algo\.num_envs of vpg",
        ),
    ],
)
def test_what_could_mean_two_things_is_refused(words, said):
    with pytest.raises(UserError, match=said):
        translated(words.split())


def test_both_names_in_a_config_are_refused():
    with pytest.raises(UserError, match=r"algo\.envs: is the former name of algo\.num_envs"):
        renamed({**OLD_PPO, "num_envs": 8})
    with pytest.raises(UserError, match="give one of them, not both"):
        built("algo=ppo", "+algo.envs=3")


def test_a_user_s_own_yaml_with_former_names_is_read(tmp_path, monkeypatch):
    """A choice of group `algo` says by its `_target_` whose names it uses."""
    (tmp_path / "algo").mkdir()
    (tmp_path / "algo" / "mine.yaml").write_text("_target_: rlexp.algos.ppo.PPO  # as ever\nenvs: 4\n")
    monkeypatch.setattr(paths, "CONF", tmp_path)
    assert algorithms_of(["algo=mine"]) == {"ppo"}


def test_arms_of_a_study_with_former_names_are_read(tmp_path, capsys):
    arms = {"few": ["algo=vpg", "algo.episodes=2"], "search": ["algo=cmaes", "algo.episodes=2"]}
    common = ["env=lineworld", "train.budget=4", *QUIET]
    study = {"title": "t", "metric": "eval/return_mean", "seeds": [0], "common": common, "arms": arms}
    composed = OmegaConf.create({"study": study, "runs": str(tmp_path)})
    work = plan.study(composed, "mine", ["algo.episodes=3"])
    few, search = (run.algo for _, run in work.runs)
    assert (few.num_envs, search.num_episodes) == (3, 3), "a later word wins, by whichever name"
    assert capsys.readouterr().err.count("is now called") == 2


# The group as config.yaml held it at commit 0562445.
OLD_RUN = """\
algo:
  _target_: rlexp.algos.ppo.PPO
  envs: 4
  steps: 64
  epochs: 10
  minibatch: 64
  lr: 0.0003
  gamma: 0.99
  gae_lambda: 0.95
  clip: 0.2
  value_clip: null
  value_coef: 0.5
  entropy_coef: 0.0
  max_grad_norm: 0.5
  target_kl: null
  normalise_advantage: true
  normalise_obs: false
  normalise_reward: false
  lr_schedule: constant
  clip_schedule: constant
  horizon: 4096
"""


@pytest.mark.slow
def test_a_run_of_former_times_is_resumed_exactly(tmp_path):
    words = ["env=lineworld", "train.save_every=1024", "train.eval_every=1024", "seeds=[0]", *QUIET]
    words += ["algo.envs=4", "algo.steps=64", "algo.horizon=4096"]
    whole = command("main.py", *words, "train.budget=4096", "runs=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert "algo.envs is now called algo.num_envs\n" in whole.stderr

    assert command("main.py", *words, "train.budget=2048", "runs=old", cwd=tmp_path).returncode == 0
    run = only_run(tmp_path, "old")
    config = OmegaConf.load(run / "config.yaml")
    config.algo = OmegaConf.create(OLD_RUN).algo
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config))
    refused = command("main.py", f"resume={run}", "algo.epochs=3", cwd=tmp_path)
    assert refused.returncode == 2
    assert "algo.update_epochs: was 10" in refused.stderr
    resumed = command("main.py", f"resume={run}", "train.budget=4096", "algo.envs=4", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert metrics(run / "seed_0") == metrics(only_run(tmp_path, "whole") / "seed_0")
    assert OmegaConf.load(run / "config.yaml").algo.num_envs == 4, "from now on it has the names of today"


def test_a_notebook_may_use_former_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"algo\.num_steps: must be ≥ 1"):
        rlexp.train("env=lineworld", **{"algo.steps": 0})
    assert "algo.steps is now called algo.num_steps" in capsys.readouterr().err


def only_run(place: Path, runs: str) -> Path:
    return next(place.glob(f"{runs}/*/*_ppo_lineworld"))
