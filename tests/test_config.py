"""Whatever can be typed wrong gives one line that helps, exit code 2, and writes nothing."""

import contextlib
import logging
import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from rlexp.cli.launch import main
from rlexp.experiment import hydra_errors, plan
from rlexp.experiment.compose import compose
from rlexp.experiment.folder import Folder
from rlexp.experiment.probe import Probed
from rlexp.util.errors import UserError
from tests.helpers import STUDIES, built, command

WRONG = [  # what is typed, what the line must hold
    ("lr=1e-3", "did you mean 'algo.lr'"),
    ("algo.learning=3", "algo.learning: unknown option"),
    ("+algo.lrr=3", "did you mean 'algo.lr'"),
    ("+sedes=3", "did you mean 'seeds'"),
    ("algo=pppo", "did you mean 'ppo'"),
    ("env=hoper", "did you mean 'hopper'"),
    ("+experiment=nope", "no such experiment"),
    ("+study=lineworld_leson", "did you mean 'lineworld_lesson'"),
    ("study=lineworld_lesson", "write +study=..., with a plus"),
    ("experiment=cmaes_cartpole", "write +experiment=..., with a plus"),
    (
        "algo=sac env=hopper policy.init=swimmer-start",
        "SAC has no use for it; leave it null",
    ),
    ("algo=sac env=hopper policy=residual", "policy.residual=true: SAC has no use for it; leave it false"),
    ("algo=cmaes policy.log_std=-1", "policy.log_std=-1.0: CMAES has no use for it; leave it 0.0"),
    ("env=gym env.id=CliffWalking-v1", "goes on after 50,000 steps; give it an end with env.max_episode_steps="),
    ("video=true", "video=true: no such video (there are default, none"),
    ("algo=[ppo,vpg]", "algo=[ppo,vpg]: no such algo"),
    ("env=null", "env=null: no such env"),
    ("algo=1", "algo=1: no such algo"),
    ("algo=ppo,vpg", "algo=ppo,vpg: several values are a sweep; write -m algo=ppo,vpg"),
    ("reference=true", "reference: True is no name of a gallery entry"),
    ("algo=bc env=hopper buffer.dataset=walker2d/expert", "was recorded in Walker2d, env=hopper is Hopper"),
    ("algo=cmaes env=sphere train.eval_sampled=true", "actions of this CMAES are its mean ones: there is no spread"),
    ("algo=dt env=hopper policy.hidden=[512]", "policy.hidden=[512]: DT has a network of its own"),
    ("algo=diffusion env=hopper policy=residual", "Diffusion has a network of its own"),
    (
        "algo=rlhf env=cartpole200 algo.fragment_length=201",
        "algo.fragment_length=201: an episode of 'CartPole-v1' has at most 200",
    ),
    (
        "algo=rlhf algo.kept_episodes=2 algo.novice_epochs=1",
        "algo.kept_episodes=2: as few as 2 episodes may be compared",
    ),
    (
        "algo=rlhf algo.num_envs=2 algo.steps_per_epoch=1 algo.relabel_every=1 algo.novice_epochs=4",
        "algo.num_envs=2: as few as 2 episodes may be compared",
    ),
    ("logger=tensorbord", "no such logger; did you mean 'tensorboard'"),
    ("logger=[tensorboard,tensorbord]", "logger=tensorbord: no such logger; did you mean 'tensorboard'"),
    ("logger=true", "logger=true: no such logger"),
    ("logger.tensorboard.flush=3", "did you mean 'logger.tensorboard.flush_every'"),
    ("logger.tensorboard.flush_every=0", "logger.tensorboard.flush_every: must be ≥ 1"),
    ("logger.tensorboard=null", "logger.tensorboard: is no logger"),
    ("logger.tensorboard._target_=rlexp.loggers.tb.TB", "there is no module 'rlexp.loggers.tb'"),
    ("logger.tensorboard._target_=rlexp.loggers.tensorboard.Tensorboard", "did you mean 'TensorBoard'"),
    ("train.tensorboard=3", "train.tensorboard=3: is now written logger=tensorboard or logger=none"),
    ("train.tensorboard=true logger=none", "give one of them, not both"),
    ("runs=läufe", "write 'runs=\"läufe\"'"),
    ("runs=a#b", "write 'runs=\"a#b\"'"),
    ("runs=a=b", "write 'runs=\"a=b\"'"),
    ("ppo hopper", "did you mean 'algo=ppo env=hopper'?"),
    ("algo = ppo", "algo = ppo: write it without spaces, algo=ppo"),
    ("algo= ppo", "algo= ppo: write it without spaces, algo=ppo"),
    ("algo =ppo", "algo =ppo: write it without spaces, algo=ppo"),
    ("train.eval_episodes=1e9", "train.eval_episodes: must be ≤ 100000"),
    ("algo.num_envs=1e7", "algo.num_envs: must be ≤ 100000"),
    ("algo.num_steps=1e12", "algo.num_steps=1000000000000: does not fit into memory"),
    ("policy.hidden=[100000,100000,100000]", "does not fit into memory"),
    ("policy.hidden=[100000000]", "policy.hidden: must be ≤ 100000"),
    ("algo=dt env=hopper algo.num_layers=1000000", "algo.num_layers: must be ≤ 1000"),
    ("algo.lr=${nosuch}", "algo.lr: Interpolation key 'nosuch' not found"),
    ("train.budget=1e300", "train.budget: must be at most 1e+15, not a number of 301 digits"),
    ("train.save_every=1" + "0" * 400, "train.save_every: must be at most 1e+15, not a number of 401 digits"),
    ("train.threads=100000", "train.threads: must be ≤ 1024"),
    ("algo.batch_size=1e12", "algo.batch_size=1000000000000: does not fit into memory"),
    ("algo=rlhf env=lineworld algo.num_pairs=1e13", "algo.num_pairs=10000000000000: does not fit into memory"),
    ("algo=cmaes env=sphere algo.population_size=1e12", "algo.population_size=1000000000000: does not fit"),
    ("policy.hidden=[[8]]", "policy.hidden: must be a number, not [8]"),
    ("algo=vpg algo.steps_per_epoch=1e13", "algo.steps_per_epoch=10000000000000: does not fit into memory"),
    ("env=lineworld env.kwargs.dims=1000000000000", "cannot make 'rlexp/GridWorld-v0'"),
    ("env=lineworld env.kwargs.dims=1e12", "cannot make 'rlexp/GridWorld-v0'"),
    ("seeds=[" + "1" * 400 + "]", "has 400 digits"),
    ("workers=true", "workers: True is not"),
    ("video.size=1e8", "video.size: must be ≤ 4096"),
    ("nonsense", "nonsense: is no option (options are key=value)"),
    ("seeds=range(0)", "has 0 seeds"),
    ("seeds=range(x)", "is no range; e.g. 'seeds=range(3)'"),
    ("-m algo.lr=interval(1e-4,1e-2)", "has no end of values"),
    ("-m env=glob(*wrold)", "env=glob(*wrold): fits none of"),
    ("algo.lr=abc", "algo.lr: 'abc' is not a number"),
    ("algo.lr=nan", "algo.lr: must be a finite number, not nan"),
    ("algo.lr=-1", "algo.lr: must be > 0"),
    ("algo.gamma=1.5", "algo.gamma: must be ≤ 1"),
    ("algo.update_epochs=2.5", "algo.update_epochs: 2.5 is not a whole number"),
    ("algo.normalise_obs=3", "is not true or false"),
    ("algo.lr_schedule=linaer", "algo.lr_schedule: must be one of constant, linear"),
    ("train.eval_every=0", "train.eval_every: must be ≥ 1"),
    ("resume=", "name a run folder"),
    ("algo._target_=rlexp.algos.pppo.PPO", "there is no module"),
    ("algo._target_=rlexp.algos.ppo.PPPO", "has no Algorithm called"),
    ("algo.anneal_steps=10 algo.lr_schedule=linear", "algo.anneal_steps: is 10"),
    ("train.budget=-5", "train.budget: must be ≥ 1"),
    ("train.device=cuda", "train.device=cuda"),
    ("algo=vpg train.compile=true", "train.compile=true: VPG has no batches of one size"),
    ("runs=null", "runs: None is not a folder's name"),
    ("runs=[a]", "is not a folder's name"),
    ("seeds=1.5", "seeds: 1.5 is not a whole number"),
    ("seeds=[0,0]", "repeats a seed"),
    ("seeds=[]", "is empty"),
    ("seeds=[0", "quote values"),
    ("workers=0", "workers: 0"),
    ("env=gym", "env.id: a value is missing"),
    ("train.budget=???", "train.budget: a value is missing"),
    ("env.name=", "env.name: is empty"),
    ("seeds={a:1}", "seeds: '{a:1}' is no value that it can have"),
    ("env=gym env.id=LunarLander-v9", "did you mean 'LunarLander-v3'"),
    ("env=gym env.id=nowhere:Env-v0", "cannot make"),
    ("+env.kwargs.colour=red", "unexpected keyword argument"),
    ("env.backend=envpool env=lineworld", "env.backend=envpool"),
    ("policy.activation=tahn", "policy.activation: must be one of"),
    ("policy.hidden=[64,x]", "is not a list of whole numbers"),
    ("policy.init=nowhere", "nowhere: no such"),
    ("buffer.dataset=medium", "uses no data"),
    ("buffer.top_percent=5", "buffer.top_percent=5: PPO uses no data"),
    ("algo=dt algo.contxt=3", "did you mean 'algo.context_length'"),
    ("algo=dt algo.target_return=inf", "algo.target_return: must be a finite number, not inf"),
    ("algo=sac env=hopper algo.buffer_size=1e13", "does not fit into memory"),
    ("expert.policy=x", "uses no expert"),
    ("reference=nope", "nope"),
    ("resume=runs/nope", "no run folder"),
    ("--multirum", "unknown flag; did you mean '--multirun'"),
    ("-m algo=vpg,ppo algo.lr=-1", "algo.lr: must be > 0"),
    ("-m algo=vpg,ppo resume=x", "write it without -m"),
    ("algo.lr=-1 -m algo=vpg,ppo", "algo.lr: must be > 0"),
    ("++resume=x", "takes no flag and no plus"),
    ("--cfg nothing", "invalid choice"),
    ("ppo", "ppo: is no option; did you mean 'algo=ppo'"),
    ("--cfg job ppo", "did you mean 'algo=ppo'"),
    ("algo=vpg --cfg job hopper", "hopper"),
    ("--cfg job resume=x", "--cfg: resume= takes no flags"),
    ("train.budget=inf", "train.budget: "),
    ("~policy", "policy: is missing"),
    ("~train", "has no value"),
    ("~seeds", "seeds: is missing"),
    ("env=hopper +env.kwargs.xml_file=nope.xml", "cannot make 'Hopper-v5'"),
    ("env.kwargs.map_name=8x8", "write +env.kwargs.map_name=..., with a plus"),
    ("env=hopper env.expert_return=-20.272305", "env.expert_return: is random_return too"),
    (
        "+study=swimmer_dpo algo.bta=0.5",
        "arm offline of study=swimmer_dpo: algo.bta: unknown option; did you mean 'algo.beta'",
    ),
    ("algo=sac env=hopper algo.buffer_size=1 algo.num_envs=2", "algo.buffer_size: must be ≥ algo.num_envs=2"),
    ("algo=dagger env=hopper algo.beta_decay=0.5", "algo.beta_decay: has no effect"),
    ("algo=rlhf algo.update_epochs=3", "algo.update_epochs: is 3"),
    ("algo=rlhf algo.reward=constant algo.relabel_every=10", "algo.relabel_every: has no effect"),
]


@pytest.mark.parametrize(("typed", "said"), WRONG, ids=[typed for typed, _ in WRONG])
def test_one_line_exit_2_nothing_written(typed, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py", *typed.split()])
    GlobalHydra.instance().clear()
    code = main()
    out, err = capsys.readouterr()
    assert code == 2
    assert said in err
    assert err.count("\n") == 1, err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_interrupted_before_it_begins_leaves_nothing(tmp_path, monkeypatch, capsys):
    def stopped(self, origin):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py"])
    monkeypatch.setattr(Folder, "begin", stopped)
    assert main() == 130
    assert not list(tmp_path.glob("runs/*/*"))


def test_as_a_user_sees_it(tmp_path):
    done = command("main.py", "algo.lr=-1", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: algo.lr: must be > 0, not -1.0 (Adam learning rate)\n"


def test_whole_floats_are_whole_numbers():
    assert built("train.budget=1e4").train.budget == 10_000


def test_tuned_values_come_before_the_command_line():
    assert built("env=hopper").train.budget == 1_000_000
    assert built("env=hopper", "train.budget=5000").train.budget == 5000


def test_intervals_follow_the_budget():
    train = built("train.budget=100000").train
    assert (train.eval_every, train.save_every) == (5000, 10_000)


def test_the_schedule_has_a_length_of_its_own():
    assert built("env=cartpole", "train.budget=5000").algo.anneal_steps == 5000
    with pytest.raises(UserError, match="anneal_steps"):
        built("env=cartpole", "train.budget=5000", "algo.anneal_steps=100")


def planned(study: str, place, *overrides: str):
    return plan.study(compose([f"+study={study}", f"runs={place}"]), study, list(overrides))


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_can_begin(study, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "probe", lambda *_: Probed({}, []))  # data is made there, which takes long
    work = planned(study, tmp_path)
    assert len(work.runs) > 1
    assert all(folder.path.parent == work.path and folder.path.is_dir() for folder, _ in work.runs)


def test_an_arm_that_yaml_takes_for_a_bool_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(plan.OmegaConf, "to_container", lambda *a, **k: {"title": "", "metric": "", "arms": {True: []}})
    with pytest.raises(UserError, match="an arm is named True"):
        planned("lineworld_lesson", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["serial", "processes"])
@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("algo=vpg --cfg job", "steps_per_epoch"),
        ("--cfg job algo=vpg -p algo", "steps_per_epoch"),
        ("algo=vpg --cfg job --resolve env=lineworld ~seeds", "lineworld"),
        ("algo=vpg --help", "python main.py algo=ppo env=hopper"),
        ("--help resume=x", "python main.py algo=ppo env=hopper"),
        ("--info config algo=vpg", "rlexp.algos.vpg.VPG"),
        ("--info defaults algo=vpg", "algo/vpg"),
        ("algo=vpg --info searchpath env=lineworld", "conf"),
        ("--cfg job +study=lineworld_lesson", "advantage_fast"),
    ],
)
def test_flags_stand_anywhere(typed, said, engine, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["main.py", *typed.split()])
    monkeypatch.setattr(logging, "raiseExceptions", False)  # Hydra's handler has an earlier test's stderr
    GlobalHydra.instance().clear()
    with contextlib.suppress(SystemExit):
        assert main(engine) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert said in out
    assert list(tmp_path.iterdir()) == []


def test_help_and_config_import_no_torch(tmp_path):
    for flag in ("--help", "--cfg=job"):
        done = command("main.py", flag.split("=")[0], *flag.split("=")[1:], cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
        assert done.returncode == 0
        assert "ppo" in done.stdout
        assert "torch" not in {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert list(tmp_path.iterdir()) == []


def test_explains_hydra_errors_it_has_not_seen():
    assert hydra_errors.hydra_error(RuntimeError("first\n\nsecond\nthird")) == "first; second"
