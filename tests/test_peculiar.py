"""Environments that are not what they should be, or are what few are: one line before training, or it works."""

import json
import re
import sys

import numpy as np
import pytest

from rlexp.envs.faults import EnvironmentFault, require_finite
from rlexp.envs.make import describe, make
from rlexp.envs.trial import try_out
from rlexp.experiment import overrides, plan
from rlexp.experiment.compose import compose
from rlexp.experiment.probe import probe
from rlexp.experiment.train import run_seed
from rlexp.report.encode import CannotRender
from rlexp.report.film import film
from rlexp.report.scene import picture
from rlexp.rollout.evaluation import Episode
from rlexp.util import seeding
from rlexp.util.errors import UserError
from tests.helpers import built, metrics, train

TINY = (
    *("algo=ppo", "env=gym", "seeds=[0]", "train.budget=64", "train.eval_episodes=2", "video=none", "logger=none"),
    *("algo.num_envs=2", "algo.num_steps=32", "algo.batch_size=32", "algo.update_epochs=1", "policy.hidden=[8]"),
)


def config(name, *words):
    return built(*TINY, f"env.id=tests.peculiar:Odd/{name}-v0", *words)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ResetWithoutInfo", "reset() of '.*' gave an array of shape (4,) .*two values"),
        ("OneNumber", "the number 0.5, declared is Box of shape (4,)"),
        ("FiveNumbers", "an array of shape (5,) (float32), declared is Box of shape (4,)"),
        ("MissingKey", "['x'], declared are the keys ['x', 'y']"),
        ("FourValues", "step() of '.*' gave 4 values; .*five"),
        ("RewardInArray", "reward of '.*' is an array of shape (1,)"),
        ("NoReward", "reward of '.*' is NoneType"),
        ("FlagInArray", "terminated of '.*' is an array of shape (1,)"),
        ("InfoIsNone", "info of '.*' is NoneType"),
        ("ResetRefused", "fails in reset(): ConnectionRefusedError: .*nobody listens (peculiar.py, line "),
        ("ResetRaises", "fails in reset(): RuntimeError: no licence (peculiar.py, line "),
        ("StepRaises", "fails in step(): ValueError: lost its state (peculiar.py, line "),
        ("ResetExits", "fails in reset(): SystemExit: 0 (peculiar.py, line "),
        ("StepExits", "fails in step(): GeneratorExit (peculiar.py, line "),
        ("StepRaisesUnspeakably", "fails in step(): Unspeakable (peculiar.py, line "),
        ("StepPanics", "fails in step(): Panic: index out of bounds (peculiar.py, line "),
        ("MakingFails", "cannot make .*: KeyError: 'level' (peculiar.py, line "),
        ("MakingExits", "cannot make .*: SystemExit: 0 (peculiar.py, line "),
        ("OwnSpace", "a space of its own, Sentence"),
        ("OwnSpaceInside", "a space of its own, Sentence"),
        ("WholeNumbers", "are a Box of int64"),
        ("BeyondFloat32", "holds 1e+300 at step 0"),
        ("NanRewardAtOnce", "the reward of the environment '.*' is NaN at step 3"),
        ("NanObservationAtOnce", "the observation of the environment '.*' is NaN at step 3"),
    ],
)
def test_is_refused_in_one_line_before_training(name, said):
    pattern = said.replace("(", r"\(").replace(")", r"\)").replace("[", r"\[").replace("]", r"\]").replace("+", r"\+")
    with pytest.raises(UserError, match=pattern) as caught:
        probe(config(name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NanObservation", "observation of the environment 'tests.peculiar:Odd/NanObservation-v0' is NaN"),
        ("NanReward", "reward of the environment 'tests.peculiar:Odd/NanReward-v0' is NaN"),
        ("InfiniteReward", "reward of the environment 'tests.peculiar:Odd/InfiniteReward-v0' is inf"),
        ("MinusInfiniteReward", "reward of the environment 'tests.peculiar:Odd/MinusInfiniteReward-v0' is -inf"),
        ("StepRaisesLate", "fails in step(): ValueError: worn out (peculiar.py, line "),
    ],
)
def test_what_training_meets_is_said_of_the_environment(tmp_path, name, said):
    run = config(name)
    with pytest.raises(EnvironmentFault) as caught:
        list(run_seed(run, 0, tmp_path))
    assert said in str(caught.value)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # strict JSON


def test_nan_in_an_observation_that_nobody_acts_on_is_let_pass(tmp_path):
    run = config("NanAtTheEnd")
    probe(run)
    train(run, tmp_path)
    assert metrics(tmp_path)[-1]["eval/return_mean"] == 10


def test_actions_that_are_nan_are_no_fault_of_the_environment():
    bad, good = np.array([[np.nan]], np.float32), np.zeros((1, 1), np.float32)
    with pytest.raises(FloatingPointError, match="policy's action"):
        require_finite("X", bad, good[0], bad)
    require_finite("X", np.full((1, 1), 3e38, np.float32), good[0], good)  # its square is infinite, it is not
    with pytest.raises(EnvironmentFault, match="observation of the environment 'X' is NaN"):
        require_finite("X", bad, good[0], good)


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("OffCentre", [], "at 5, the edge, where their changes have no effect; policy.bounded=true"),
        ("OffCentre", ["policy.bounded=true"], None),
        ("WideBox", [], "standard deviation of 1 explores little of that"),
        ("WideBox", ["policy.log_std=6"], None),
        ("Pixels", [], "arrays of 6×6×3: taken as 108 numbers"),
        ("Pixels", [], "reach 255, .*algo.normalise_obs=true"),
        ("Clock", [], r"observation 0 is about 1.7e\+09 and changes by less than float32"),
        ("Plain", [], None),
    ],
)
def test_what_is_likely_to_be_lost_is_said_before_training(name, words, said):
    found = probe(config(name, *words)).cautions
    if said is None:
        assert not found
    else:
        assert len([text for text in found if re.search(said, text)]) == 1


def test_a_decision_transformer_says_which_steps_it_cannot_tell_apart():
    from tests.helpers import toy

    assert "algo.max_ep_len=20 tells them apart" in probe(toy("dt", "algo.max_ep_len=5")).cautions[0]
    assert probe(toy("dt")).cautions == []


def test_cautions_reach_whoever_starts_the_run(tmp_path):
    composed = compose([*TINY, "env.id=tests.peculiar:Odd/OffCentre-v0", f"runs={tmp_path}"])
    assert any("policy.bounded=true" in note for note in plan.single(composed).notes)


def test_bounds_are_rounded_inwards_and_actions_at_them_lie_in_the_box(tmp_path):
    run = config("DoubleBounds")
    low_A, high_A = describe(run.env).box
    assert low_A[0] >= -0.1
    assert high_A[0] <= 0.1
    assert high_A[0] == np.nextafter(np.float32(0.1), np.float32(0))
    space = make(run.env).action_space
    assert space.contains(low_A)
    assert space.contains(high_A)
    train(run, tmp_path)


def test_bounds_that_float32_has_stay_as_they_are():
    box = np.array(describe(built("env=swimmer").env).box)
    assert box.tolist() == [[-1, -1], [1, 1]]
    assert np.isinf(describe(built("env=sphere").env).box).all()


def test_success_is_left_out_until_it_is_known(tmp_path):
    train(config("SuccessUnknown"), tmp_path)
    assert metrics(tmp_path)[-1]["eval/success_rate"] == 1


def test_an_environment_that_cannot_be_closed_can_be_trained_in(tmp_path):
    run = config("CloseRaises")
    probe(run)
    train(run, tmp_path)


def test_a_trial_changes_nothing_that_training_draws(tmp_path):
    run = config("Plain")
    train(run, tmp_path / "a")
    probe(run)
    train(run, tmp_path / "b")
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")


def test_a_slow_simulator_is_tried_out_for_a_second(monkeypatch):
    from rlexp.envs import trial

    monkeypatch.setattr(trial, "SECONDS", 0.0)
    assert len(try_out(config("Plain").env).obs_NO) == 3


@pytest.mark.parametrize("name", ["Rgba", "Shares", "ColoursFirst"])
def test_pictures_whose_meaning_is_clear_are_shown_as_they_were_meant(name):
    frame = picture(config(name).env)
    assert frame.shape == (64, 64, 3)
    assert frame.dtype == np.uint8
    assert (frame == [255, 0, 0]).all()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Negative", r"an array of shape \(64, 64, 3\) \(float64\) from -1 to -1"),
        ("Growing", "two sizes"),
        ("RenderExits", "^SystemExit: 3"),
        ("RenderPanics", "^Panic: no adapter"),
    ],
)
def test_others_are_no_film(tmp_path, name, said):
    episode = Episode(0, np.zeros(10, int), np.ones(10, np.float32), None)
    with pytest.raises(CannotRender, match=said):
        film(config(name).env, episode, tmp_path / "film.mp4", seconds=5, size=64)
    assert list(tmp_path.iterdir()) == []


def test_an_environment_that_exits_when_it_is_closed_ends_nothing():
    probe(config("CloseExits"))


def test_frames_in_other_forms():
    from rlexp.report.frames import as_picture

    grey = np.full((4, 5), 128, np.uint8)
    assert as_picture(grey).shape == (4, 5, 3)
    assert as_picture([grey, grey + 1])[0, 0].tolist() == [129] * 3  # frames since the last call
    assert as_picture(np.full((4, 5, 3), 200.0))[0, 0].tolist() == [200] * 3
    half = np.zeros((2, 2, 4), np.uint8)
    half[..., 3] = 51
    assert as_picture(half)[0, 0].tolist() == [204] * 3  # a fifth of black before white
    for wrong in (None, "ansi", np.zeros((3, 4, 5, 3)), np.full((4, 4, 3), np.nan), np.zeros((0, 4, 3)), np.zeros(3)):
        with pytest.raises(CannotRender, match="rendering gave"):
            as_picture(wrong)


def test_evaluation_names_the_environment_too():
    from rlexp.rollout.evaluation import play

    env = config("MinusInfiniteReward").env
    with pytest.raises(EnvironmentFault, match="is -inf"):
        play(env, seeding.env_seeds(seeding.stream(0, "eval"), 2), lambda obs: np.zeros(2, int), lambda reward: None)


def test_a_copy_of_a_seed_folder_is_no_seed(tmp_path):
    from rlexp.util.paths import seed_folders

    for name in ("seed_0", "seed_10", "seed_2", "seed_0_backup", "seed_", "seed_x"):
        (tmp_path / name).mkdir()
    names = [folder.name for folder in seed_folders(tmp_path)]
    assert names == ["seed_0", "seed_2", "seed_10"]  # there is no record: whatever is numbered
    (tmp_path / "run.json").write_text('{"seeds": {"0": {}, "10": {}}}')
    assert [folder.name for folder in seed_folders(tmp_path)] == ["seed_0", "seed_10"]


def test_a_seed_folder_is_not_resumed_but_its_run(tmp_path):
    from rlexp.experiment.resume import resume

    (tmp_path / "config.yaml").write_text("seeds: [0]\n")
    (tmp_path / "seed_0" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match=f"is a seed's folder; resume={tmp_path} continues the run"):
        resume(tmp_path / "seed_0", [])


def test_the_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    from rlexp.policies.files import find_policy

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    words = overrides.at_home([*TINY, "env.id=tests.peculiar:Odd/Plain-v0", "runs=~/x"])
    assert words[-1] == f"runs={tmp_path}/x"
    assert overrides.at_home(["a=~", "b=x~", "~seeds"]) == [f"a={tmp_path}", "b=x~", "~seeds"]
    work = plan.single(compose([*words[:-1], "runs='~/x'"]))  # as a notebook writes it
    assert work.path.is_relative_to(tmp_path / "x")
    (tmp_path / "p.safetensors").touch()
    assert find_policy("~/p.safetensors") == [tmp_path / "p.safetensors"]


def test_one_seed_where_three_may_have_been_meant_is_said():
    assert plan.alone(3) == ["seed 3 alone is trained; 'seeds=range(3)' would be 3 of them, from 0"]
    assert plan.alone([3]) == plan.alone(0) == plan.alone(1) == []


def test_seeds_may_be_a_range():
    assert overrides.in_lists(["seeds=range(3)", "seeds=range(2,4)", "algo=ppo"]) == [
        "seeds=[0,1,2]",
        "seeds=[2,3]",
        "algo=ppo",
    ]


def test_a_module_in_the_current_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in sys.path if entry])
    code = "import gymnasium\ngymnasium.register('Here-v3', 'tests.peculiar:Plain', max_episode_steps=7)\n"
    (tmp_path / "lies_here.py").write_text(code)
    env = built(*TINY, "env.id=lies_here:Here-v3").env
    assert env.time_limit == 7
    assert env.task == "Here"


def test_an_id_without_a_version_has_the_time_limit_of_the_newest():
    assert built(*TINY, "env.id=CartPole").env.time_limit == 500


def test_json_has_null_for_what_is_no_number():
    from rlexp.util import strict_json

    assert json.loads(strict_json.dumps({"a": [np.inf, 1.5], "b": float("nan")})) == {"a": [None, 1.5], "b": None}


def test_names_are_drawn_as_they_were_typed():
    import io

    import matplotlib
    from matplotlib.figure import Figure

    from rlexp.report.style import STYLE

    with matplotlib.rc_context(STYLE):
        figure = Figure()
        axes = figure.subplots()
        axes.plot([1, 2], label="a$_$b")
        axes.legend()
        figure.savefig(io.BytesIO())
