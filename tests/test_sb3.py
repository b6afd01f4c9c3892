"""Agents of Stable-Baselines3: real files with what `predict` answered, and hostile ones."""

import base64
import json
import os
import pickle
import shutil
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest
import torch

import rlexp
from rlexp.cli.main import main
from rlexp.datasets import shards
from rlexp.datasets.recipes import Share
from rlexp.datasets.shards import ShardJob
from rlexp.experiment.assumed import notes
from rlexp.experiment.probe import probe
from rlexp.policies.files import digest, save_policy
from rlexp.util.errors import UserError
from tests.helpers import ROOT, built

HERE = ROOT / "tests" / "foreign"
ENVS = {"ppo": "swimmer", "a2c": "cartpole", "sac": "Pendulum-v1", "td3": "swimmer"}


def agent(name: str, folder: Path) -> Path:
    """A copy of the agent's zip, beside its VecNormalize where it has one."""
    shutil.copy(HERE / f"{name}.zip", folder / f"{name}.zip")
    statistics = HERE / f"{name}_vecnormalize.pkl"
    if statistics.exists():
        shutil.copy(statistics, folder / "vecnormalize.pkl")
    return folder / f"{name}.zip"


@pytest.mark.parametrize("name", ENVS)
def test_actions_are_those_of_predict(tmp_path, name):
    saved = rlexp.load_policy(agent(name, tmp_path), env=ENVS[name])
    with np.load(HERE / f"{name}.npz") as answered:
        obs, expected = answered["obs"], answered["action"]
    found = saved.policy.act(obs)
    if name == "a2c":
        assert found.tolist() == expected.tolist()
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert saved.assumed is None
    normalised = (HERE / f"{name}_vecnormalize.pkl").exists()
    assert any("observation statistics of" in note for note in saved.notes) == normalised
    saved.policy.explore = True
    assert saved.policy.samples == (name != "td3")
    save_policy(tmp_path / "ours.safetensors", saved.policy, saved.env, saved.card)
    again = rlexp.load_policy(tmp_path / "ours.safetensors")
    again.policy.explore = False
    assert np.array_equal(again.policy.act(obs), found)


def test_its_statistics_may_be_named_and_belong_to_it(tmp_path):
    file = shutil.copy(HERE / "ppo.zip", tmp_path / "p.zip")
    raw = rlexp.load_policy(file, env="swimmer")
    assert raw.notes == []
    before = digest(str(file))["digest"]
    named = rlexp.load_policy(file, env="swimmer", vecnormalize=str(HERE / "ppo_vecnormalize.pkl"))
    assert named.policy.normaliser is not None
    shutil.copy(HERE / "ppo_vecnormalize.pkl", tmp_path / "vecnormalize.pkl")
    assert digest(str(file))["digest"] != before


def test_it_is_evaluated(tmp_path, capsys):
    assert main(["eval", str(agent("ppo", tmp_path)), "--env", "swimmer", "--episodes", "1"]) == 0
    assert "Swimmer-v5, mean actions, n = 1" in capsys.readouterr().out


def test_it_is_an_expert_and_a_start(tmp_path):
    file = agent("a2c", tmp_path)
    words = ["env=cartpole", "train.eval_episodes=1"]
    assert notes(built("algo=dagger", *words, f"expert.policy={file}")) == []
    assert notes(built("algo=vpg", *words, f"policy.init={file}", "policy.hidden=[8,6]")) == []


@pytest.mark.parametrize("name", ["td3", "sac"])
def test_a_start_that_is_squashed_needs_bounds(tmp_path, name):
    words = ["algo=ppo", "env=swimmer", "algo.normalise_obs=false"]
    if name == "sac":
        words = ["algo=ppo", "env=gym", "env.id=Pendulum-v1"]
    run = built(*words, f"policy.init={agent(name, tmp_path)}")
    with pytest.raises(UserError, match=r"policy.init=.*squashes its actions to bounds.*policy\.bounded=true"):
        probe(run)


def test_it_makes_data(tmp_path):
    saved = rlexp.load_policy(agent("a2c", tmp_path), env="cartpole")
    save_policy(tmp_path / "p.safetensors", saved.policy, saved.env, saved.card)
    share = Share(tmp_path / "p.safetensors", None, 2, False)
    data = shards.play_shard(ShardJob(saved.env, share, (0, 0, 0), 2, 1000))
    assert len(data.length_E) == 2


# --- files that mean harm


class Payload:
    """Unpickled, it would make a folder."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def zipped(path: Path, **members: bytes) -> Path:
    """A zip with the members of a real one, but for those given."""
    with ZipFile(HERE / "ppo.zip") as real:
        content = {name: real.read(name) for name in real.namelist()}
    content |= {name.replace("__", "."): data for name, data in members.items()}
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def test_what_is_pickled_in_data_is_left_alone(tmp_path):
    mark = tmp_path / "mark"
    pickled = base64.b64encode(pickle.dumps(Payload(mark))).decode()
    data = {"policy_kwargs": {":type:": "dict", ":serialized:": pickled}, "policy_class": {":serialized:": pickled}}
    file = zipped(tmp_path / "p.zip", data=json.dumps(data).encode())
    assert rlexp.load_policy(file, env="swimmer").assumed is None
    assert not mark.exists()


def test_what_would_run_code_is_one_line(tmp_path):
    mark = tmp_path / "mark"
    file = zipped(tmp_path / "p.zip", policy__pth=pickle.dumps(Payload(mark)))
    with pytest.raises(UserError, match="cannot be read as a state_dict"):
        rlexp.load_policy(file, env="swimmer")
    torch.save({"x": Payload(mark)}, tmp_path / "w.pth")
    file = zipped(tmp_path / "p.zip", policy__pth=(tmp_path / "w.pth").read_bytes())
    with pytest.raises(UserError, match="cannot be read as a state_dict"):
        rlexp.load_policy(file, env="swimmer")
    shutil.copy(HERE / "ppo.zip", tmp_path / "q.zip")
    (tmp_path / "vecnormalize.pkl").write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(UserError, match=r"vecnormalize.pkl: asks for (posix|nt).mkdir"):
        rlexp.load_policy(tmp_path / "q.zip", env="swimmer")
    assert not mark.exists()


def test_nothing_is_unpacked_to_disk(tmp_path):
    file = zipped(tmp_path / "p.zip", **{"../../../mark": b"x", "/mark": b"x"})
    before = sorted(tmp_path.rglob("*"))
    rlexp.load_policy(file, env="swimmer")
    assert sorted(tmp_path.rglob("*")) == before


RELU = {"activation_fn": "<class 'torch.nn.modules.activation.ReLU'>"}

# name -> (members of the zip, what the message says)
WRONG = {
    "bomb": ({"policy__pth": bytes(50_000_000)}, "policy.pth would be 50,000,000 bytes"),
    "data bomb": ({"data": b"[" * 2_000_000}, "data would be 2,000,000 bytes"),
    "deep": ({"data": b"[" * 20_000}, "its data cannot be read as JSON"),
    "no json": ({"data": b"\xff"}, "its data cannot be read as JSON"),
    "no tensors": ({"policy__pth": b"PK\x03\x04"}, "cannot be read"),
    "activation": (
        {"data": json.dumps({"policy_kwargs": {"activation_fn": "<class 'mine.Snake'>"}}).encode()},
        "its activation is <class 'mine.Snake'>",
    ),
    "features": (
        {"data": json.dumps({"policy_kwargs": {"features_extractor_class": "<class 'NatureCNN'>"}}).encode()},
        "features extractor",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_read_is_one_line(tmp_path, case):
    members, message = WRONG[case]
    with pytest.raises(UserError, match=message) as error:
        rlexp.load_policy(zipped(tmp_path / "p.zip", **members), env="swimmer")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(tmp_path))


def test_it_must_be_of_the_environment(tmp_path):
    with pytest.raises(
        UserError, match=r"policy_net.0.weight \(8, 8\), expected \(8, 11\): the environment has 11 obs"
    ):
        rlexp.load_policy(HERE / "ppo.zip", env="hopper")
    with pytest.raises(UserError, match=r"its mean has shape \(8,\), expected \(3,\)"):
        rlexp.load_policy(HERE / "sac.zip", env="Pendulum-v1", vecnormalize=str(HERE / "ppo_vecnormalize.pkl"))
    with pytest.raises(UserError, match="no such file"):
        rlexp.load_policy(HERE / "sac.zip", env="Pendulum-v1", vecnormalize="none.pkl")


def test_an_activation_is_read_where_it_stands_in_words(tmp_path):
    file = zipped(tmp_path / "p.zip", data=json.dumps({"policy_kwargs": RELU}).encode())
    assert rlexp.load_policy(file, env="swimmer").policy.actor.spec["activation"] == "relu"
    said = rlexp.load_policy(file, env="swimmer", activation="tanh")
    assert said.policy.actor.spec["activation"] == "tanh"
    assert "the zip says" in said.notes[0]
