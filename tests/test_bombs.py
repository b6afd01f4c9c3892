"""Data files that would fill the memory, or read others' files: refused in one line, within a second."""

import io
import json
import pickle
import pickletools

import h5py
import numpy as np
import pytest

from rlexp.datasets import formats, store
from rlexp.util import unpickle
from rlexp.util.errors import UserError

N = 20
FINE = {
    "observations": np.ones((N, 3), np.float32),
    "actions": np.ones((N, 2), np.float32),
    "rewards": np.ones(N, np.float32),
    "terminals": np.arange(N) % 10 == 9,
    "timeouts": np.zeros(N, bool),
}


def refused(path, said):
    with pytest.raises(UserError) as caught:
        formats.read(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert said in text, text


def external_link(h5, place):
    with h5py.File(place / "other.hdf5", "w") as other:
        other["observations"] = FINE["observations"]
    h5["observations"] = h5py.ExternalLink(str(place / "other.hdf5"), "/observations")


def external_storage(h5, place):
    secret = place / "secret"
    secret.write_bytes(b"x" * 4 * N * 3)
    h5.create_dataset("observations", (N, 3), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def virtual(h5, place):
    with h5py.File(place / "other.hdf5", "w") as other:
        other["observations"] = FINE["observations"]
    layout = h5py.VirtualLayout((N, 3), "f4")
    layout[:] = h5py.VirtualSource(place / "other.hdf5", "observations", (N, 3))
    h5.create_virtual_dataset("observations", layout)


def unwritten(h5, place):
    h5.create_dataset("observations", (10**9, 300), "f4", chunks=(1000, 300), compression="gzip")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (external_link, "is in another file"),
        (external_storage, "lies in another file"),
        (virtual, "lies in another file"),
        (unwritten, "declares an array of 1,200,000,000,000 bytes"),
    ],
)
def test_an_hdf5_file_is_read_from_itself_alone(how, said, tmp_path):
    file = tmp_path / "a.hdf5"
    with h5py.File(file, "w") as h5:
        for key, array in FINE.items():
            if key != "observations":
                h5[key] = array
        how(h5, tmp_path)
    refused(file, said)


@pytest.mark.parametrize("how", [external_link, external_storage])
def test_stored_data_sets_too(how, tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    folder = tmp_path / "mine-v0" / "data"
    folder.mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps({"data_format": "hdf5", "total_steps": N, "total_episodes": 1}))
    with h5py.File(folder / "main_data.hdf5", "w") as h5:
        group = h5.create_group("episode_0")
        for key in ("actions", "rewards"):
            group[key] = FINE[key]
        group["terminations"] = FINE["terminals"]
        how(group, tmp_path)
    with pytest.raises(UserError, match="another file"):
        store.read("mine-v0")


def test_compressed_arrays_of_one_number_are_read(tmp_path):
    """They are as dense as gzip gets."""
    with h5py.File(tmp_path / "a.hdf5", "w") as h5:
        for key, array in FINE.items():
            many = np.concatenate([array] * 5000)
            h5.create_dataset(key, data=many, compression="gzip", compression_opts=9, chunks=many.shape)
    assert len(formats.read(tmp_path / "a.hdf5")) == 5000 * N


def doubled():
    found = [0.5]
    for _ in range(60):
        found = [found, found]
    return [{**FINE, "observations": found}]


def one_episode_often():
    return [{**FINE, "observations": [[0.5] * 100] * 100_000}]


def holds_itself():
    found = []
    found.append(found)
    return found


@pytest.mark.parametrize("make", [doubled, one_episode_often, holds_itself])
def test_lists_that_stand_for_more_than_there_is_are_refused(make, tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(make()))
    refused(tmp_path / "a.pkl", "list")


@pytest.mark.parametrize("target", ["_codecs encode", "numpy ndarray", "builtins list"])
def test_pickles_set_nothing_on_functions_and_classes(target, tmp_path):
    module, name = target.split()
    content = f"c{module}\n{name}\n".encode() + b"(S'mark'\nI1\ndb."
    assert pickletools.genops(io.BytesIO(content))
    (tmp_path / "a.pkl").write_bytes(content)
    refused(tmp_path / "a.pkl", "sets attributes of what is no array")
    for admitted in unpickle._ADMITTED.values():
        assert not hasattr(admitted, "mark")


def test_pickles_do_not_copy_without_end(tmp_path):
    """`list` of a list, again and again."""
    content = b"c" + b"builtins\nlist\nq\xfd0" + pickle.dumps([0] * 100_000, 2)[2:-1] + b"q\xfe"
    content += b"0" + b"h\xfdh\xfe\x85R0" * 10_000 + b"N."
    (tmp_path / "a.pkl").write_bytes(content)
    refused(tmp_path / "a.pkl", "copies the same things")
