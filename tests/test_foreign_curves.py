"""Curves that are not ours: Stable-Baselines3's, CleanRL's, W&B's and anybody's, whole, broken and hostile."""

import csv
import shutil
import struct

import numpy as np
import pytest

from rlexp.report import foreign
from rlexp.util.errors import UserError
from tests.helpers import ROOT

SB3 = ROOT / "tests" / "foreign" / "sb3"


def column(file, name):
    """What Python's csv finds in a column, without empty cells."""
    with open(file, newline="") as table:
        rows = csv.DictReader(line for line in table if not line.startswith("#"))
        return [float(row[name]) for row in rows if row[name]]


def written(folder, text, name="curve.csv"):
    file = folder / name
    file.write_text(text)
    return file


def test_stable_baselines_folder_has_its_evaluations():
    found = foreign.read(SB3)
    assert (found.kind, found.evaluation, found.clock) == ("evaluations.npz", True, "env_steps")
    assert list(found.lines) == ["0", "1"]
    with np.load(SB3 / "seed_1" / "evaluations.npz") as arrays:
        assert found.lines["1"][0].tolist() == arrays["timesteps"].tolist()
        assert found.lines["1"][1] == pytest.approx(arrays["results"].mean(1))


def test_progress_csv_and_event_files_of_the_same_run_agree():
    name = "rollout/ep_rew_mean"
    table = foreign.read(SB3 / "seed_0" / "progress.csv", value=name)
    (events,) = (SB3 / "seed_0").glob("events*")
    tags = foreign.read(events, value=name)
    assert (table.kind, tags.kind) == ("progress.csv", "TensorBoard")
    assert table.evaluation is False
    assert tags.evaluation is False
    assert table.clock == tags.clock == "env_steps"
    assert table.lines["0"][1].tolist() == column(SB3 / "seed_0" / "progress.csv", name)
    assert tags.lines["0"][0].tolist() == table.lines["0"][0].tolist()
    assert tags.lines["0"][1] == pytest.approx(table.lines["0"][1], rel=1e-6)
    assert foreign.read(SB3 / "seed_0" / "progress.csv").value == "eval/mean_reward"


def test_monitors_of_one_folder_are_one_run(tmp_path):
    files = sorted((SB3 / "seed_0" / "monitor").glob("*.csv"))
    with pytest.raises(UserError, match=r"of one of 2 environments side by side.*name the folder"):
        foreign.read(files[0])
    (tmp_path / "seed_0").mkdir()
    one = foreign.read(shutil.copy(files[0], tmp_path / "seed_0"))
    assert (one.kind, one.env, one.evaluation) == ("monitor.csv", "CartPole-v1", False)
    assert one.lines["0"][0].tolist() == np.cumsum(column(files[0], "l")).tolist()
    assert one.lines["0"][1].tolist() == column(files[0], "r")
    both = foreign.read(SB3 / "seed_0" / "monitor")
    assert both.lines["0"][0][-1] == sum(sum(column(file, "l")) for file in files)
    assert sorted(both.lines["0"][1]) == sorted(column(files[0], "r") + column(files[1], "r"))
    seeds = foreign.read(SB3 / "seed_0" / "monitor", SB3 / "seed_1" / "monitor")
    assert list(seeds.lines) == ["0", "1"]


def writer(folder):
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def test_cleanrl_folder(tmp_path):
    """The tags, and the names of folders, of CleanRL's scripts; two environments end at step 300 together."""
    for seed in (1, 7):
        log = writer(tmp_path / "runs" / f"Hopper-v4__ppo_continuous_action__{seed}__1700000000")
        log.add_text("hyperparameters", "|param|value|")
        for step, value in ((100, 10.0), (300, 20.0), (300, 30.0), (400, float("nan"))):
            log.add_scalar("charts/episodic_return", value + seed, step)
            log.add_scalar("charts/SPS", 900, step)
        log.close()
    found = foreign.read(tmp_path / "runs")
    assert (found.value, found.step, found.env) == ("charts/episodic_return", "step", "Hopper-v4")
    assert (found.evaluation, found.clock, found.left_out) == (False, "env_steps", 2)
    assert list(found.lines) == ["1", "7"]
    assert [part.tolist() for part in found.lines["7"]] == [[100, 300], [17, 32]]


def test_resumed_event_folder_has_no_step_twice(tmp_path):
    for steps, value in ((range(5), 1.0), (range(3, 8), 2.0)):
        log = writer(tmp_path)
        for step in steps:
            log.add_scalar("only", value, step)
        log.close()
        for file in tmp_path.glob("*.0"):
            file.rename(tmp_path / f"events.out.tfevents.{int(value)}")
    found = foreign.read(tmp_path)
    (line,) = found.lines.values()
    assert line[1].tolist() == [1, 1, 1, 2, 2, 2, 2, 2]
    assert (found.value, found.evaluation, found.clock) == ("only", None, None)


def record(event):
    data = event.SerializeToString()
    return struct.pack("<Q", len(data)) + b"0000" + data + b"0000"


def test_tensors_of_tensorflow(tmp_path):
    """tf.summary.scalar writes tensors without dimensions; one that claims a size is no scalar, and makes none."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    event = Event(step=5, summary=Summary(value=[Summary.Value(tag="return"), Summary.Value(tag="huge")]))
    scalar, huge = event.summary.value
    scalar.tensor.dtype = 1
    scalar.tensor.tensor_content = np.float32(2.5).tobytes()
    huge.tensor.dtype = 1
    huge.tensor.float_val.append(1.0)
    huge.tensor.tensor_shape.dim.add(size=10**14)
    (tmp_path / "events.out.tfevents.0").write_bytes(record(event))
    found = foreign.read(tmp_path)
    assert found.value == "return"
    ((x, y),) = found.lines.values()
    assert (x.tolist(), y.tolist()) == ([5], [2.5])


@pytest.mark.parametrize("what", ["cut", "garbage behind", "length beyond the end"])
def test_event_files_are_read_up_to_where_they_break(tmp_path, what):
    (events,) = (SB3 / "seed_0").glob("events*")
    data = events.read_bytes()
    whole = foreign.read(events, value="rollout/ep_rew_mean").lines["0"]
    broken = {
        "cut": data[:-700],
        "garbage behind": data + struct.pack("<Q", 50) + b"0000" + b"\xff" * 54,
        "length beyond the end": data + struct.pack("<Q", 2**60) + b"x" * 100,
    }
    file = tmp_path / "events.out.tfevents.0"
    file.write_bytes(broken[what])
    ((x, y),) = foreign.read(file, value="rollout/ep_rew_mean").lines.values()
    assert x.tolist() == whole[0][: len(x)].tolist()
    assert y.tolist() == whole[1][: len(y)].tolist()
    assert 0 < len(x) <= len(whole[0])
    assert (what == "cut") == (len(x) < len(whole[0]))


WANDB = """"Step","dashing-sweep-2 - eval/return_mean","dashing-sweep-2 - eval/return_mean__MIN",\
"dashing-sweep-2 - eval/return_mean__MAX","calm - sea-1 - eval/return_mean","calm - sea-1 - _step"
"0","10","10","10","12","0"
"500","20","20","20","","500"
"1000","30","30","30","32",""
"""


def test_wandb_chart_export(tmp_path):
    found = foreign.read(written(tmp_path, WANDB))
    assert (found.kind, found.step, found.value) == ("W&B export", "Step", "eval/return_mean")
    assert found.lines["dashing-sweep-2"][1].tolist() == [10, 20, 30]
    assert found.lines["calm - sea-1"][0].tolist() == [0, 1000]
    assert found.evaluation is True


def test_wandb_history(tmp_path):
    """pandas writes the rows' numbers without a name; `global_step` is meant, W&B's own `_step` counts calls."""
    text = ",_step,_runtime,global_step,charts/episodic_return\n0,0,1.5,256,20\n1,1,2.5,,\n2,2,3,512,25\n"
    found = foreign.read(written(tmp_path, text))
    assert (found.step, found.value, found.clock) == ("global_step", "charts/episodic_return", "env_steps")
    ((x, y),) = found.lines.values()
    assert (x.tolist(), y.tolist()) == ([256, 512], [20, 25])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("step,seed,value\n0,0,1\n10,0,2\n0,1,3\n10,1,4\n", {}),
        ("\ufeffStep;Seed;Value\n0;0.0;1\n10;0.0;2\n0;1.0;3\n10;1.0;4\n", {}),
        ("Steps\tscore\tseed\r\n0\t1\t0\r\n10\t2\t0\r\n10\t4\t1\r\n0\t3\t1\r\n", {}),
        ("a,b,c\n0,0,1\n10,0,2\n0,1,3\n10,1,4\n", {"step": "a", "seed": "b", "value": "c"}),
        ("t,who,x,y\n0,0,1,9\n10,0,2,9\n0,1,3,9\n10,1,4,9\n", {"step": "T", "seed": "who", "value": "x"}),
        ("# mine\nstep,seed,value\n0,0,1\n10,0,2\n5,0,nan\n5,0,1e999\n0,1,3\n10,1,4\n20,1", {}),
    ],
)
def test_plain_tables(tmp_path, text, words):
    found = foreign.read(written(tmp_path, text), **words)
    lines = {seed: [part.tolist() for part in line] for seed, line in found.lines.items()}
    assert lines == {"0": [[0, 10], [1, 2]], "1": [[0, 10], [3, 4]]}
    assert found.kind == "csv"
    assert found.clock is None


def test_several_files_are_seeds(tmp_path):
    files = [written(tmp_path, f"step,value\n0,{seed}\n", f"mine_{seed}_x.csv") for seed in (3, 5)]
    assert set(foreign.read(*files).lines) == {"mine_3_x", "mine_5_x"}
    files = [written(tmp_path, f"step,value\n0,{seed}\n", f"seed{seed}.csv") for seed in (3, 5)]
    assert {seed: line[1].tolist() for seed, line in foreign.read(*files).lines.items()} == {"3": [3], "5": [5]}


def test_own_reference_is_read_as_anybodys():
    found = foreign.read(ROOT / "gallery" / "ppo_cartpole.csv")
    assert (found.step, found.value, len(found.lines)) == ("env_steps", "return_mean", 10)


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("", {}, "is empty"),
        ("step,value\n", {}, "no rows"),
        ("\n\n", {}, "is empty"),
        ("1,2\n3,4\n", {}, "first line is numbers"),
        ("a,b\n1,2\n", {}, "which column is the step? Say step=NAME; it has a, b"),
        ("step,a,b\n1,2,3\n", {}, "which one is the value? Say value=NAME; there are a, b"),
        ("step,word\n1,x\n", {}, "no column or tag of numbers"),
        (
            "step,value\n1,2\n",
            {"value": "valu"},
            "curve.csv: value=valu: there is nothing of that name; did you mean 'value'?",
        ),
        ("step,value\n1,2\n", {"step": "x"}, "step=x: there is nothing of that name; there are step, value"),
        ("step,value\n1,2\n", {"seed": "who"}, "seed=who: there is nothing"),
        ("step,value\n1,2\n2,abc\n", {}, "which is no number"),
        ("step,value\n1,nan\n2,inf\n", {}, "'value' has no finite value"),
        ("step,value\n0,1\n5,2\n0,1\n", {}, "'step' falls in line 4"),
        ("step,value,algo\n0,1,ppo\n0,2,sac\n", {}, "by 'algo' (ppo, sac); keep the rows of one"),
        ("step,value\n0,x\n", {}, "line 2: 'value' is 'x', which is no number"),
        ("step;value\n0;1,5\n", {}, "line 2: 'value' is '1,5', which is no number"),
        ("r,l,t\n1,-5,3\n", {}, "an episode's length, in column l, is negative"),
        ("step,value,value\n0,1,2\n", {}, "has 2 columns 'value'"),
        ("step,value\n0,1,2\n", {}, "line 2 has 3 cells"),
        ("r,l,t\n1,x,3\n", {}, "which is no number"),
    ],
)
def test_tables_that_are_none(tmp_path, text, words, said):
    with pytest.raises(UserError) as error:
        foreign.read(written(tmp_path, text), **words)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["curve.csv", "monitor.csv", "progress.csv", "evaluations.npz", "events.out.tfevents.1"]
)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00step",
        b"step,value\n0,\xe9\n",
        b"PK\x03\x04 broken",
        b"\x00" * 1000,
        b'"' * 200_000,
        b"#" + b"[" * 100_000 + b"\nr,l,t\n1,x,3\n",
        b"step,value\n0," + b"9" * 100_000 + b"\n",
        np.random.default_rng(0).bytes(5000),
    ],
    ids=["empty", "utf-16", "latin-1", "zip", "zeros", "quotes", "deep", "digits", "noise"],
)
def test_hostile_files_are_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    for place in (tmp_path / name, tmp_path):
        with pytest.raises(UserError) as error:
            foreign.read(place)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1000


def test_what_is_not_there_or_no_curve(tmp_path):
    written(tmp_path, "step,value\n0,1\n")
    with pytest.raises(UserError, match=r"no such file or folder; did you mean 'curve\.csv'"):
        foreign.read(tmp_path / "curv.csv")
    with pytest.raises(UserError, match="is no file of curves; known are"):
        foreign.read(ROOT / "main.py")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="holds no curves"):
        foreign.read(empty)
    assert foreign.is_foreign(SB3)
    assert foreign.is_foreign(tmp_path)
    assert not foreign.is_foreign(empty)
    (tmp_path / "run.json").write_text("{}")
    assert not foreign.is_foreign(tmp_path)


def test_files_that_disagree_about_the_value(tmp_path):
    files = [written(tmp_path, f"step,{name}\n0,1\n", f"{name}.csv") for name in ("a", "b")]
    with pytest.raises(UserError, match=r"which one is the value\? Say value=NAME; the files have a, b"):
        foreign.read(*files)
