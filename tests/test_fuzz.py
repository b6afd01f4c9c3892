"""Whatever a file or an option holds: it works, or is one line. A few hundred inputs here, thousands with -m slow."""

import copy
import functools
import json
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlexp.datasets import formats
from rlexp.experiment.config import build, stored
from rlexp.policies.files import load_policy
from rlexp.report.records import read_record
from rlexp.util import checkpoint
from rlexp.util.errors import UserError
from tests.datasets import policy_file
from tests.helpers import built

FEW = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
MANY = settings(FEW, max_examples=3000, derandomize=False)

NUMBERS = st.one_of(st.integers(-3, 3), st.integers(), st.floats(), st.sampled_from([10**9, 10**18, 1e308, -0.0]))
WORDS = st.one_of(st.text(max_size=5), st.sampled_from(["", "..", "a/b", "${x}", "os:system", "null", "\x00"]))
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=5,
)


def one_line_or_works(call):
    said = "works"
    try:
        call()
    except UserError as error:
        said = str(error)
    assert said.strip()
    assert "\n" not in said


def places(node, way=()):
    """The way to every part of nested dicts and lists."""
    if isinstance(node, dict | list):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield (*way, key)
            yield from places(node[key], (*way, key))


def changed(tree, data):
    """`tree` with one part replaced, or left out."""
    tree = copy.deepcopy(tree)
    *way, last = data.draw(st.sampled_from(list(places(tree))))
    node = tree
    for key in way:
        node = node[key]
    if data.draw(st.booleans()):
        node[last] = data.draw(PLAIN)
    else:
        del node[last]
    return tree


def damaged(content, data):
    """Bytes with some replaced, left out, or the end cut off."""
    start = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.sampled_from([start, start + 1, start + 8, len(content)]))
    return content[:start] + data.draw(st.binary(max_size=8)) + content[end:]


def fuzz_policy_files(folder, data):
    file = policy_file(folder / "good.safetensors")
    bad = folder / "bad.safetensors"
    if data.draw(st.booleans()):
        bad.write_bytes(damaged(file.read_bytes(), data))
    else:
        checkpoint.save(bad, changed(checkpoint.load(file), data))
    one_line_or_works(lambda: load_policy(bad))


@functools.cache
def usual():
    """The config of a run."""
    return built("env=lineworld", "algo=vpg").plain


def fuzz_configs(folder, data):
    plain = changed(usual(), data)
    one_line_or_works(lambda: build(plain))
    (folder / "config.yaml").write_text(json.dumps(plain))
    one_line_or_works(lambda: stored(folder))


def fuzz_records(folder, data):
    seed = {"status": "done", "step": 3, "message": "", "final": {"return_mean": 1.0}}
    final = {"n": 1, "return_mean": {"mean": 1.0, "t95": None}}
    record = {"clock": "updates", "command": "x", "eval": {}, "seeds": {"0": seed}, "final": final}
    (folder / "run.json").write_text(json.dumps(changed(record, data)))
    one_line_or_works(lambda: read_record(folder))


FINE = {
    "observations": np.ones((6, 2), np.float32),
    "actions": np.zeros(6, np.int64),
    "rewards": np.ones(6, np.float32),
    "terminals": np.arange(6) % 3 == 2,
    "timeouts": np.zeros(6, bool),
}


def fuzz_data(folder, data):
    kind = data.draw(st.sampled_from(["npz", "pkl", "hdf5", "values"]))
    file = folder / f"bad.{'pkl' if kind == 'values' else kind}"
    if kind == "npz":
        np.savez(file, **FINE)
    elif kind == "pkl":
        file.write_bytes(pickle.dumps([FINE], data.draw(st.integers(0, 5))))
    elif kind == "hdf5":
        import h5py

        with h5py.File(file, "w") as h5:
            for key, array in FINE.items():
                h5[key] = array
    else:
        episode = {key: array.tolist() for key, array in FINE.items()}
        file.write_bytes(pickle.dumps(changed([episode], data)))
    if kind != "values":
        file.write_bytes(damaged(file.read_bytes(), data))
    one_line_or_works(lambda: formats.read(file).check_numbers())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", [FEW, pytest.param(MANY, marks=pytest.mark.slow)], ids=["few", "many"])
@pytest.mark.parametrize("fuzz", [fuzz_policy_files, fuzz_configs, fuzz_records, fuzz_data])
def test_one_line_or_works(fuzz, how, tmp_path_factory):
    @how
    @given(st.data())
    def run(data):
        fuzz(tmp_path_factory.mktemp("fuzz"), data)

    run()
