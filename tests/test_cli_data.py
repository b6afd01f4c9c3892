"""`rlexp data`."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from rlexp.buffers.dataset import Dataset
from rlexp.cli import main
from rlexp.datasets import formats, generate, store
from rlexp.datasets.load import load
from rlexp.envs.make import describe
from rlexp.util.errors import UserError
from tests.datasets import ANY, HOPPER, LINE, asked
from tests.test_dataset import episodes, same
from tests.test_foreign import actor
from tests.test_formats import flat, write


def run(capsys, *words):
    code = main.main(["data", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_command_make_list_info(place, capsys):
    assert run(capsys, "make", "lineworld/medium-expert", "lineworld/medium-replay", "--processes", 1)[0] == 0
    _, out, _ = run(capsys, "list", "--json")
    listed = {data["name"]: data for data in json.loads(out)}
    assert [name for name, data in listed.items() if not data["here"]] == ["lineworld/lost"]
    assert (listed["lineworld/medium"]["steps"], listed["lineworld/expert"]["episodes"]) == (130, 7)
    assert "lineworld/lost" in run(capsys, "list")[1]
    _, out, _ = run(capsys, "info", "lineworld/medium", "lineworld/medium-replay", "--json")
    data = store.read("rlexp/lineworld/medium-v0")
    medium, replay = json.loads(out)
    assert medium["return_mean"] == pytest.approx(data.return_E.mean())
    assert medium["return_std"] == pytest.approx(data.return_E.std(ddof=1))
    assert (medium["length_min"], medium["length_max"], medium["terminated"]) == (10, 20, pytest.approx(6 / 7))
    assert medium["made_by"] == "good (sampled actions)"
    assert "policy_000000" in replay["made_by"]
    _, out, _ = run(capsys, "info", "lineworld/expert")
    assert "140 steps, 7 episodes" in out
    assert "better (mean actions)" in out


def test_data_of_another_programs_policy(tmp_path, place, capsys):
    torch.save(actor(8, 2), tmp_path / "swim.pt")
    words = ("make", "swimmer/x", "--episodes", 1, "--processes", 1, "--policy", tmp_path / "swim.pt")
    code, _, err = run(capsys, *words, "--sampled")
    assert (code, err.count("\n")) == (2, 1)
    assert "swim.pt: has no spread to sample from" in err
    assert not store.exists("rlexp/swimmer/x-v0")
    words = ("make", "cartpole/x", "--episodes", 1, "--processes", 1, "--policy", tmp_path / "pole.pt")
    torch.save(actor(4, 2), tmp_path / "pole.pt")
    code, out, _ = run(capsys, *words)
    assert (code, "tanh is assumed (--activation says another)" in out) == (0, True)


def test_data_of_any_policy(place, capsys):
    good = place / "policies" / "good.safetensors"
    few = ("--processes", 1, "--policy", good)
    assert run(capsys, "make", "lineworld/mine", "--episodes", 3, "--sampled", *few)[0] == 0
    assert len(store.read("rlexp/lineworld/mine-v0").length_E) == 3
    assert "good (sampled actions)" in run(capsys, "info", "lineworld/mine")[1]
    assert asked("mine").name == "lineworld/mine"
    for words, said in (
        (["lineworld/mine", *few], "lineworld/mine: is there already; --replace, or another name"),
        (["cartpole/mine", *few], "good.safetensors acts in rlexp/GridWorld-v0, not in CartPole-v1"),
        (["lineworld/medium", *few], "lineworld/medium: is the name of one of this project's own"),
        (["lineworld", *few], "--policy: makes one data set, ENV/ANY-NAME; not lineworld"),
        (["lineworld/x", "--steps", 0, *few], "--steps: must be from 1 to 1,000,000,000, not 0"),
        (["lineworld/x", "--episodes", 0, *few], "--episodes: must be from 1 to 1,000,000, not 0"),
        (["lineworld/x", "--activation", "relu", *few], "is rlexp's own and says its activation itself"),
        (["lineworld/medium", "--sampled"], "--sampled: is about --policy POLICY; a recipe says its own"),
    ):
        code, _, err = run(capsys, "make", *words)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err


def test_command_draws(place, capsys):
    from PIL import Image

    for kind in ("medium", "expert"):
        generate.make("lineworld", kind, 1)
    file = place / "two.png"
    assert run(capsys, "info", "lineworld/medium", "lineworld/expert", "--plot", file)[0] == 0
    two = Image.open(file).size
    run(capsys, "info", "lineworld/medium", "--plot", file)
    assert Image.open(file).size != two
    assert run(capsys, "info", "lineworld/medium", "--plot", "x.gif")[2].startswith(
        "error: --plot: x.gif must end in .png"
    )


def test_command_import_and_export(place, capsys):
    data = episodes([20, 9], discrete=True)
    data = Dataset("x", data.obs_NO[:, :2], data.action % 3, data.reward_N, data.length_E, data.terminated_E,
                   data.final_obs_EO[:, :2])  # fmt: skip
    file = write(place / "mine.npz", flat(data))
    assert run(capsys, "import", file, "mine", "--env", "lineworld")[0] == 0
    assert same(asked("mine"), data)
    assert "lineworld/mine" in run(capsys, "list")[1]
    assert run(capsys, "import", file, "mine", "--env", "lineworld")[2].endswith(
        "lineworld/mine: is there already; --replace, or another name\n"
    )
    assert run(capsys, "import", file, "lineworld/mine", "--env", "lineworld", "--replace")[0] == 0
    assert run(capsys, "export", "lineworld/mine", place / "out.hdf5")[0] == 0
    assert same(formats.read(place / "out.hdf5"), data)
    assert "is there already" in run(capsys, "export", "lineworld/mine", place / "out.hdf5")[2]
    _, out, _ = run(capsys, "info", file, "--env", "hopper", "--json")
    assert json.loads(out)[0]["score"] == pytest.approx(HOPPER.score(data.return_E.mean()))


def test_info_of_an_environment_says_what_is_missing(place, capsys):
    _, _, err = run(capsys, "info", "lineworld")
    assert err.startswith("error: lineworld/medium, ")
    assert err.endswith("not made yet; rlexp data make lineworld\n")
    generate.make("lineworld", "medium", 1)
    code, out, err = run(capsys, "info", "lineworld")
    assert (code, "lineworld/medium\n" in out, "not made yet: lineworld/" in err) == (0, True, True)


def test_data_without_rewards(place, capsys):
    data = replace(episodes([20, 9], discrete=True), reward_N=np.full(29, np.nan, np.float32))
    data = replace(data, obs_NO=data.obs_NO[:, :2], action=data.action % 3, final_obs_EO=data.final_obs_EO[:, :2])
    file = write(place / "mine.npz", flat(data))
    assert run(capsys, "import", file, "mine", "--env", "lineworld")[0] == 0
    assert not asked("mine").rewarded
    assert "return   not recorded" in run(capsys, "info", "lineworld/mine")[1]
    facts = json.loads(run(capsys, "info", "lineworld/mine", "--json")[1], parse_constant=pytest.fail)
    assert "return_mean" not in facts[0]
    assert "has no rewards" in run(capsys, "info", "lineworld/mine", "--plot", place / "x.png")[2]
    with pytest.raises(UserError, match=r"buffer.top_percent=50: lineworld/mine: has no rewards"):
        load(replace(ANY, dataset="mine", top_percent=50), LINE, describe(LINE))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["info", "lineworld/medium"], "lineworld/medium: is not on this machine; rlexp data make lineworld/medium"),
        (["info", "minari:x-v0"], "minari:x-v0: is not on this machine"),
        (["info", "lineworld/medum"], "lineworld/medum: lineworld has no data set 'medum'; did you mean 'medium'?"),
        (["info", "x.npz"], "x.npz: no such file"),
        (["info", "hoper"], "hoper: no data set; name one like hopper/medium, lineworld, or a file"),
        (["make", "lineworld/medium", "--processes", "0"], "--processes: must be ≥ 1, not 0"),
        (["make", "lineworld/lost"], "lineworld/lost cannot be made: its policy 'nowhere' is not there"),
        (["make", "minari:x-v0"], "minari:x-v0: has no recipe"),
        (["import", "x.npz", "mine", "--env", "lineword"], "no environment 'lineword'; did you mean 'lineworld'?"),
        (["import", "x.npz", "medium", "--env", "lineworld"], "lineworld/medium: is the name of one of this project's"),
        (["import", "x.npz", "hopper/mine", "--env", "lineworld"], "hopper/mine: --env lineworld calls it"),
        (["import", "x.npz", "mi.ne", "--env", "lineworld"], "'rlexp/lineworld/mi.ne-v0' is no name of a data set"),
        (["export", "lineworld/medium", "x.csv"], "x.csv: must end in .hdf5"),
    ],
)  # fmt: skip
def test_command_errors_are_one_line(place, capsys, words, message):
    code, _, err = run(capsys, *words)
    assert code == 2
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert "Traceback" not in err
