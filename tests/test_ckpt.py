"""The checkpoint format: exact, whole or not at all, and nothing in it is ever executed."""

import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from rlexp.policies.files import load_policy
from rlexp.util import checkpoint
from rlexp.util.errors import UserError

FLOATS = [0.1, 1 / 3, -0.0, 5e-324, 1.7976931348623157e308, math.pi, math.inf, -math.inf]
TENSORS = {
    "float32": torch.tensor([[1.5, -2.25], [math.nan, math.inf]]),
    "float64": torch.tensor([0.1], dtype=torch.float64),
    "scalar": torch.tensor(3, dtype=torch.int64),
    "bool": torch.tensor([True, False]),
    "bytes": torch.arange(256, dtype=torch.uint8),
    "half": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    "transposed": torch.arange(6).reshape(2, 3).T,
    "expanded": torch.tensor([4.0]).expand(3),
    "empty": torch.empty(0, 3),
    "grad": torch.nn.Parameter(torch.ones(2)),
}
ARRAYS = {
    "float64": np.array([0.1, np.nan]),
    "words": np.arange(4, dtype=np.uint32),
    "scalar": np.array(2.5),
    "bool": np.array([[True], [False]]),
    "reversed": np.arange(5)[::-1],
    "empty": np.empty((0, 2), np.float32),
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "c.safetensors"


def one_line(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert text.strip()
    assert "\n" not in text
    return text


def test_plain_data_round_trips_exactly(file):
    tree = {
        "numbers": [0, -1, 2**63, 2**130, -(2**200)],
        "floats": FLOATS,
        "words": ["", "ü\n\"'", "$tensor"],
        "rest": [None, True, False],
        "nested": {"a": {"b": [[{"c": []}, {}]]}},
    }
    checkpoint.save(file, tree)
    again = checkpoint.load(file)
    assert again == tree
    assert [math.copysign(1, x) for x in again["floats"]] == [math.copysign(1, x) for x in FLOATS]
    assert [type(x) for x in again["rest"]] == [type(None), bool, bool]
    checkpoint.save(file, {"nan": math.nan})
    assert math.isnan(checkpoint.load(file)["nan"])


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_round_trip_exactly(file, name):
    tensor = TENSORS[name]
    checkpoint.save(file, {"list": [{"x": tensor}]})
    again = checkpoint.load(file)["list"][0]["x"]
    assert isinstance(again, torch.Tensor)
    assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
    assert torch.equal(again.nan_to_num(7), tensor.detach().nan_to_num(7))
    assert not again.requires_grad


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_round_trip_exactly(file, name):
    checkpoint.save(file, {"x": ARRAYS[name]})
    again = checkpoint.load(file)["x"]
    assert isinstance(again, np.ndarray)
    assert (again.dtype, again.shape) == (ARRAYS[name].dtype, ARRAYS[name].shape)
    np.testing.assert_array_equal(again, ARRAYS[name])


def test_numpy_numbers_become_numbers_and_views_of_one_tensor_are_stored_apart(file):
    theta = torch.arange(4.0)
    views = [theta[:2], theta[1:]]
    checkpoint.save(file, {"n": np.int64(3), "x": np.float64(0.1), "b": np.bool_(True), "views": views})
    again = checkpoint.load(file)
    assert (again["n"], again["x"], again["b"]) == (3, 0.1, True)
    assert [type(again[key]) for key in "nxb"] == [int, float, bool]
    assert [view.tolist() for view in again["views"]] == [[0, 1], [1, 2, 3]]


def test_names_with_slashes_do_not_collide(file):
    checkpoint.save(file, {"a": {"b": torch.zeros(1)}, "a/b": torch.ones(1)})
    again = checkpoint.load(file)
    assert (float(again["a"]["b"]), float(again["a/b"])) == (0, 1)


def test_what_cannot_be_stored_exactly_is_refused(file):
    with pytest.raises(TypeError, match="object at /a/0"):
        checkpoint.save(file, {"a": [object()]})
    assert not file.exists()


def test_one_branch_can_be_read_alone(file):
    checkpoint.save(file, {"policy": {"x": torch.ones(2)}, "algo": {"y": torch.zeros(3)}})
    assert checkpoint.load(file, "policy")["x"].tolist() == [1, 1]
    with pytest.raises(UserError) as error:
        checkpoint.load(file, "run")
    one_line(error)


@pytest.mark.parametrize("failure", ["write", "rename"])
def test_failed_write_leaves_the_old_file_and_nothing_else(file, monkeypatch, failure):
    checkpoint.save(file, {"x": 1})

    def half_written(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def refused(*_):
        raise PermissionError("no")

    if failure == "write":
        monkeypatch.setattr(checkpoint, "save_file", half_written)
    else:
        monkeypatch.setattr(checkpoint.os, "replace", refused)
    with pytest.raises(OSError, match=r"No space left|no"):
        checkpoint.save(file, {"x": 2})
    assert checkpoint.load(file) == {"x": 1}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits")
def test_a_real_file_size_limit_leaves_the_old_file_and_nothing_else(file):
    checkpoint.save(file, {"x": 1})
    program = f"""
import pathlib, resource, signal, torch
from rlexp.util import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    checkpoint.save(pathlib.Path({str(file)!r}), {{"x": torch.zeros(100_000)}})
except OSError:
    print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused\n", done.stderr
    assert checkpoint.load(file) == {"x": 1}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_text_files_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    checkpoint.write_text(tmp_path / "latest", "old")
    monkeypatch.setattr(checkpoint.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        checkpoint.write_text(tmp_path / "latest", "new")
    assert (tmp_path / "latest").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]


def broken(file: Path, how: str) -> None:
    """Make `file` unreadable as a checkpoint in one of many ways."""
    checkpoint.save(file, {"policy": {"x": torch.zeros(1000)}})
    whole = file.read_bytes()
    if how == "missing":
        file.unlink()
    elif how == "folder":
        file.unlink()
        file.mkdir()
    elif how == "foreign":
        save_file({"x": torch.zeros(1)}, file)
    elif how == "other version":
        save_file({}, file, metadata={"format": "other 1", "tree": '{"policy": {}}'})
    elif how == "not json":
        save_file({}, file, metadata={"format": checkpoint.FORMAT, "tree": "{"})
    elif how == "no tree":
        save_file({}, file, metadata={"format": checkpoint.FORMAT})
    elif how == "tensor missing":
        save_file({}, file, metadata={"format": checkpoint.FORMAT, "tree": json.dumps({"policy": {"$tensor": "/x"}})})
    else:
        content = {"empty": b"", "cut header": whole[:50], "cut data": whole[:-1], "text": b"hello\nworld\n" * 9}
        file.write_bytes(content[how])


@pytest.mark.parametrize(
    "how",
    [
        "missing",
        "folder",
        "empty",
        "text",
        "cut header",
        "cut data",
        "foreign",
        "other version",
        "not json",
        "no tree",
        "tensor missing",
    ],
)
def test_unreadable_files_are_one_line_that_names_the_file(file, how):
    broken(file, how)
    for read in (lambda: checkpoint.load(file), lambda: checkpoint.load(file, "policy"), lambda: load_policy(file)):
        with pytest.raises(UserError) as error:
            read()
        assert file.name in one_line(error)


class Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["pickle", "torch", "old torch"])
def test_a_malicious_pickle_is_refused_and_executes_nothing(file, how):
    bomb = Bomb(file.parent / "exploded")
    if how == "pickle":
        file.write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, file, _use_new_zipfile_serialization=how == "torch")
    for read in (checkpoint.load, load_policy):
        with pytest.raises(UserError) as error:
            read(file)
        one_line(error)
    assert not bomb.path.exists()
    pickle.loads(pickle.dumps(bomb))
    assert bomb.path.exists(), "the test itself: this pickle does explode"


@pytest.mark.parametrize("kind", ["os", "../x", "..os", "os.path", "rlexp.algos.ppo", "ppo", "", "this"])
def test_a_policy_of_unknown_kind_is_refused_and_nothing_outside_the_package_is_imported(file, kind):
    checkpoint.save(file, {"policy": {"kind": kind, "spec": {}, "state": {}, "env": {}, "card": {}}})
    with pytest.raises(UserError) as error:
        load_policy(file)
    assert f"'{kind}'" in one_line(error)
    assert "this" not in sys.modules


def test_the_last_few_are_kept_and_latest_points_to_the_newest(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    for step in (900, 1_000, 20_000, 1_000_000):
        checkpoint.save_step(tmp_path, step, {"step": step}, keep=2)
        assert checkpoint.load(checkpoint.latest(tmp_path)) == {"step": step}
    kept = sorted(checkpoint.load(path)["step"] for path in tmp_path.glob("step_*"))
    assert kept == [20_000, 1_000_000]
    assert len(list(tmp_path.iterdir())) == 3, "two checkpoints, the pointer, and no temporary file"


def test_a_failed_save_leaves_latest_at_the_checkpoint_before(tmp_path, monkeypatch):
    checkpoint.save_step(tmp_path, 1, {"step": 1}, keep=1)
    monkeypatch.setattr(checkpoint, "save_file", lambda *_, **__: (_ for _ in ()).throw(SafetensorError("full")))
    with pytest.raises(OSError, match="full"):
        checkpoint.save_step(tmp_path, 2, {"step": 2}, keep=1)
    assert checkpoint.load(checkpoint.latest(tmp_path)) == {"step": 1}
