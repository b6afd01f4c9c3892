"""`rlexp tune`: spaces, trials on an engine, ends that come early, and going on after a kill."""

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from rlexp.cli import main
from rlexp.engines.serial import Serial
from rlexp.experiment import rungs, space, tuning
from rlexp.experiment.events import Event
from rlexp.experiment.tuning import Plan, Tuner
from rlexp.report import tuning as report
from rlexp.util.configs import choices
from rlexp.util.errors import UserError
from tests.helpers import ALGOS, ELSEWHERE, ROOT, built, metrics, train

optuna = pytest.importorskip("optuna", reason="pip install 'rlexp[tune]'")

WORDS = ["algo=cmaes", "env=sphere", "train.budget=4", "train.save_every=2", "video=none", "logger={}"]


def plan(**changes):
    usual = {"name": "cmaes", "words": WORDS, "trials": 3, "seeds": [0, 1], "fresh": [7, 8], "prune_at": 0.0}
    return Plan(**{**usual, **changes})


def tuner_in(folder, of, at_once=1):
    study = tuning.study_in(folder, of)
    found = space.space(space.read(of.name), tuning.run_of(of, []), of.name)
    return Tuner(folder, of, study, found, at_once, lambda line: None)


def trials(folder):
    return tuning.study_in(folder, plan()).get_trials()


@pytest.mark.parametrize("name", choices("tune"))
def test_spaces_of_ours_lie_within_what_is_declared(name):
    experiment = {"dt": "dt_toy", "bc": "bc_toy", "dagger": "dagger_toy", "diffusion": "diffusion_toy"}.get(name)
    words = [f"+experiment={experiment}"] if experiment else [f"algo={name}", *(["env=hopper"] * (name == "sac"))]
    found = space.space(space.read(name), built(*words), name)
    assert found
    assert name in ALGOS


def test_what_is_typed_is_not_searched():
    assert set(tuning.searched(plan(words=[*WORDS, "algo.eps=0.3"]))) == set(tuning.searched(plan())) - {"algo.eps"}


def test_a_bound_that_is_left_out_is_the_declared_one():
    run = built("algo=ppo")
    found = space.space({"algo.gae_lambda": {"low": 0.8}, "policy.hidden": {"choices": [[64, 64], [8]]}}, run, "mine")
    assert (found["algo.gae_lambda"].low, found["algo.gae_lambda"].high) == (0.8, 1)
    assert found["policy.hidden"].choices == ("[64,64]", "[8]")
    whole = space.space({"algo.num_steps": {"low": 16, "high": 64, "log": True}}, run, "mine")["algo.num_steps"]
    assert isinstance(whole, optuna.distributions.IntDistribution)


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"algo.gama": {"low": 0}}, "algo.gama: there is no such option; did you mean 'gamma'?"),
        ({"lr": {"low": 0}}, "lr: is no option of a group"),
        ({"algo.gamma": {"low": -1}}, "algo.gamma: must be ≥ 0, not -1"),
        ({"algo.lr": {"low": 1e-5}}, "algo.lr: high: is no number; none is declared either"),
        ({"algo.lr": {"low": 1, "high": 0.1}}, "algo.lr: "),
        ({"algo.lr": {"low": 0.1, "hi": 1}}, "algo.lr: hi: unknown"),
        ({"algo.gamma": {"choices": [0.9, 1.5]}}, "algo.gamma: must be ≤ 1, not 1.5"),
        ({"algo.lr": 3}, "algo.lr: 3 is no {low:, high:} or {choices:}"),
    ],
)
def test_mistakes_in_a_space_are_named(node, said):
    with pytest.raises(UserError) as raised:
        space.space(node, built("algo=ppo"), "mine")
    assert said in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("rungs", [1, 2])
def test_an_interrupted_search_goes_on_where_it_was(tmp_path, rungs):
    of = plan(trials=2, rungs=rungs)
    whole = tmp_path / "whole"
    cut = tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    one = tuner_in(whole, of)
    Serial(Serial.Config()).run(one.next_job, one.handle)

    class Killed(Exception):
        pass

    left = 2
    while True:
        going = tuner_in(cut, of)
        told = 0

        def handle(job, event, going=going):
            nonlocal told, left
            going.handle(job, event)
            told += 1
            if told > 6 and left:
                left -= 1
                raise Killed

        try:
            Serial(Serial.Config()).run(going.next_job, handle)
            break
        except Killed:
            going.leave()
    assert left == 0
    assert len(trials(cut)) == 2
    assert [one.params for one in trials(cut)] == [one.params for one in trials(whole)]
    assert [one.value for one in trials(cut)] == [one.value for one in trials(whole)]
    for number in range(2):
        for seed in (0, 1):
            place = f"{number:04d}/seed_{seed}"
            assert metrics(cut / place) == metrics(whole / place)


@pytest.mark.slow
def test_the_better_third_of_the_trials_goes_on_from_its_checkpoints_to_a_longer_budget(tmp_path):
    of = plan(words=[*WORDS, "train.budget=12"], trials=5, rungs=2)
    assert tuning.budgets(of, []) == [4, 12]
    one = tuner_in(tmp_path, of)
    Serial(Serial.Config()).run(one.next_job, one.handle)
    found = trials(tmp_path)
    on = [trial for trial in found if len(trial.intermediate_values) == 4]
    assert on[0] == found[0]
    assert len(on) < len(found)
    assert on == sorted(tuning.whole(found), key=lambda trial: trial.number)
    for trial in found:
        values = list(trial.intermediate_values.values())
        assert trial.value == sum(values[-2:]) / 2
        assert trial.user_attrs == ({} if trial in on else {"ended early": True})
    through = tuning.run_of(of, space.words(on[-1].params))
    train(through, tmp_path / "through")
    assert metrics(tmp_path / "through") == metrics(tmp_path / tuning.trial_name(on[-1]) / "seed_0")
    assert "5 trials: " in report.table(one.study, on, "return_mean", 2)[0]


@pytest.mark.parametrize(
    ("means", "on"), [([1], True), ([1, 2], False), ([1, 0, 0], True), ([1, 2, 2, 0, 0, 0], False)]
)
def test_who_goes_on(means, on):
    assert rungs.goes_on(1, means) == on


def test_a_trial_that_is_worse_on_the_same_seeds_ends_before_its_last(tmp_path):
    of = plan(seeds=[0, 1, 2, 3, 4], prune_at=0.2, trials=2)
    one = tuner_in(tmp_path, of)
    for trial, offset in ((0, 0.0), (1, -10.0)):
        for _ in range(5):
            job = one.next_job()
            if job is None or f"{trial:04d}" not in str(job.run_folder):
                break
            one.handle(job, Event(job.seed, "done", "", {"final": {"return_mean": offset + job.seed}}))
    first, second = trials(tmp_path)
    assert (first.value, len(first.intermediate_values)) == (2.0, 5)
    assert len(second.intermediate_values) in (3, 4)
    assert second.user_attrs == {"ended early": True}
    assert [one.number for one in tuning.whole([first, second])] == [0]
    assert one.next_job() is None


def test_a_failed_seed_is_a_failed_trial_and_no_more(tmp_path):
    one = tuner_in(tmp_path, plan(trials=2))
    job = one.next_job()
    one.handle(job, Event(job.seed, "failed", "ValueError: broken", {}))
    (failed,) = trials(tmp_path)
    assert (failed.value, failed.user_attrs) == (None, {"failed": "seed 0: ValueError: broken"})
    assert one.next_job().run_folder.name == "0001"
    one.leave()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["algo=cmaes", "env=sphere", "--trials", "0"], "--trials, --fresh and --rungs are at least 1"),
        (["algo=cmaes", "env=sphere", "+tune=cmase"], "tune=cmase: there is none such; did you mean 'cmaes'?"),
        (["algo=cmaes", "env=sphere", "train.budget=20", "--rungs", "5"], "--rungs: 5 budgets up to 20 need saves"),
        (
            ["algo=dpo", "env=swimmer", "train.save_every=40", "--rungs", "2"],
            "--rungs: train.budget=120: algo.iterations",
        ),
        (["algo=cmaes", "env=spere"], "spere"),
        (["algo=ppo", "+tune=cmaes"], "tune=cmaes: algo.population_size: there is no such option"),
        (["algo=cmaes", "env=sphere", "seeds=[]"], "seeds: [] is empty"),
        (["algo=cmaes", "env=sphere", "resume=x"], "resume=x: rlexp tune --resume FOLDER goes on"),
        (["algo=cmaes", "env=sphere", "hydra.run.dir=x"], "hydra.run.dir=x: Hydra's"),
        (["algo=cmaes", "env=sphere", "engine=submitit"], "engine=submitit: "),
        (["--resume", "nowhere", "--fresh", "3"], "--fresh: a tuning keeps its options"),
        (["--resume", "nowhere"], "nowhere: no tuning's folder"),
        (["--resume", "nowhere", "algo=ppo"], "algo=ppo: a tuning keeps its options"),
    ],
)
def test_mistakes_cost_one_line_and_leave_nothing(words, line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["tune", *words]) == 2
    _, err = capsys.readouterr()
    assert line in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"words": ["algo=cmaes", "env=gym", "env.id=strange_one:Env-v0"]}, "names 'strange_one:Env-v0'"),
        ({"words": ["algo=cmaes", "env=sphere", "algo._target_=strange_one.A"]}, "names 'strange_one.A'"),
        ({"words": ["algo=cmaes", "env=sphere", "engine._target_=strange_one.E"]}, "names 'strange_one.E'"),
        ({"words": 5}, "words: is no list of str"),
        ({"seeds": ["a"]}, "seeds: is no list of int"),
        ({"trials": "many"}, "trials: is no number of trials"),
    ],
)
def test_a_strangers_tuning_has_no_module_imported_and_a_broken_one_is_one_line(
    changed, said, tmp_path, monkeypatch, capsys
):
    (tmp_path / "strange_one.py").write_text("from pathlib import Path\nPath('mark').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("RLEXP_TRUSTED", "")
    dataclasses.replace(plan(), **changed).write(tmp_path)
    assert main.main(["tune", "--resume", str(tmp_path)]) == 2
    _, err = capsys.readouterr()
    assert f"tune.yaml: {said}" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "mark").exists()


def test_a_tuning_at_work_is_not_resumed_beside_itself(tmp_path, capsys):
    plan().write(tmp_path)
    with FileLock(tmp_path / ".lock"):
        assert main.main(["tune", "--resume", str(tmp_path)]) == 2
    assert "another process is running in this folder" in capsys.readouterr().err
    assert not (tmp_path / "journal.log").exists()


def test_the_confirmation_is_continued_until_another_trial_is_the_best(tmp_path):
    params = {"algo.eps": 0.5}
    first = tuning.confirmation(tmp_path, plan(), params)
    first.begin()
    first.close(whole=False)
    kept = tmp_path / "confirm" / "tuned" / "kept"
    kept.touch()
    again = tuning.confirmation(tmp_path, plan(), params)
    assert again.is_study
    assert kept.exists()
    other = tuning.confirmation(tmp_path, plan(), {"algo.eps": 0.25})
    assert not kept.exists()
    assert other.runs[1][1].algo.eps == 0.25


@pytest.mark.slow
def test_the_command_is_killed_and_goes_on_to_table_picture_and_verdict(tmp_path):
    called = [sys.executable, "-m", "rlexp", "tune", *WORDS, "seeds=[0,1]", "--trials", "4", "--fresh", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(called, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    for line in first.stdout:
        if line.startswith("trial    1"):
            break
    time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    (folder,) = tmp_path.glob("runs/*/*")
    again = [sys.executable, "-m", "rlexp", "tune", "--resume", str(folder)]
    done = subprocess.run(again, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 trials: " in done.stdout
    assert "**Verdict:**" in (folder / "tuning.md").read_text()
    assert (folder / "tuning.png").is_file()
    assert "# @package _global_" in (folder / "tuned" / "cmaes_sphere.yaml").read_text()
    assert len(trials(folder)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("engine", ELSEWHERE)
def test_a_tuning_on_an_engine_of_several_machines(engine, tmp_path, monkeypatch, capsys):
    pytest.importorskip(engine, reason="pip install 'rlexp[ray,slurm]'")
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "train.budget=12"]
    asked = ["seeds=[0,1]", "--trials", "3", "--fresh", "2", "--rungs", "2"]
    assert main.main(["tune", *words, *ELSEWHERE[engine], *asked]) == 0
    assert "3 trials: " in capsys.readouterr().out
    (folder,) = tmp_path.glob("runs/*/*")
    assert "**Verdict:**" in (folder / "tuning.md").read_text()
    through = tuning.run_of(plan(words=words), space.words(trials(folder)[0].params))
    train(through, tmp_path / "through")
    assert metrics(tmp_path / "through") == metrics(folder / "0000" / "seed_0")
