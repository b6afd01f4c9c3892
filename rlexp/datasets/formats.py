"""Other people's files of recorded episodes, as `Dataset`s. Reading one executes nothing.

    .hdf5, .h5   D4RL: flat arrays; `terminals` and `timeouts` end an episode, and are kept apart
                 robomimic: data/demo_<i>, with a group of observations
    .npz         D4RL's arrays; or imitation's, whose `obs` have one more an episode
    .pkl         a list of episodes, each a dict of arrays: Decision Transformer's, Berkeley's
    states_<x>.pkl beside actions_<x>.pkl: arrays (E, T, O) and (E, T, A), padded with zeros; no rewards

What arrays are called in which of them stands in keys.py. What an episode's last action led to (`final_obs_EO`) is in
`next_observations`, where there is any; else it is NaN, as rewards are that were not recorded.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.buffers.dataset import Dataset
from rlexp.datasets import arrays, keys, pickles
from rlexp.datasets.arrays import Wrong
from rlexp.datasets.hdf5 import check_array, check_links
from rlexp.util.errors import UserError, did_you_mean, nearest

FLAT = ("observations", "actions", "rewards", "terminals", "timeouts")
OPTIONAL = ("next_observations",)
SUFFIXES = (".hdf5", ".h5", ".npz", ".pkl", ".pickle")  # of the files that are read, in any case


def read(path: Path, limit: int | None = None) -> Dataset:
    """The episodes in a file. Raises UserError, which names the file, for one that is none or is broken.

    limit: of the steps of an episode, where the file does not say which ended by a time limit
    """
    path = path.expanduser()
    if not path.is_file():
        there = [file.name for file in path.parent.glob("*")]
        raise UserError(f"{path}: no such file{did_you_mean(nearest(path.name, there))}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: unknown kind of file '{path.suffix}'; known are {', '.join(SUFFIXES)}")
    try:
        if suffix in (".hdf5", ".h5"):
            return _hdf5(path, limit)
        if suffix == ".npz":
            return _npz(path, limit)
        return pickles.read(path)
    except Wrong as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # whatever a library makes of broken bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: cannot be read, it is cut short, broken or of another kind ({reason})") from None


def write_d4rl(path: Path, data: Dataset) -> None:
    """Write `data` as D4RL has it, whole or not at all, with `next_observations`."""
    import h5py

    last_E = data.start_E + data.length_E - 1
    terminals = np.zeros(len(data), bool)
    timeouts = np.zeros(len(data), bool)
    terminals[last_E] = data.terminated_E
    timeouts[last_E] = ~data.terminated_E
    columns = (data.obs_NO, data.action, data.reward_N, terminals, timeouts, data.next_obs_NO())
    part = path.with_name(f".part_{path.name}")
    try:
        with h5py.File(part, "w") as h5:
            for name, array in zip(FLAT + OPTIONAL, columns, strict=True):
                h5.create_dataset(name, data=array, compression="gzip", compression_opts=4, shuffle=True)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _hdf5(path: Path, limit: int | None) -> Dataset:
    import h5py

    with h5py.File(path) as h5:
        check_links(h5)
        if isinstance(h5.get("data"), h5py.Group):
            return _robomimic(path.name, h5["data"])
        found = keys.find(h5, FLAT[:4])
        return arrays.flat(path.name, {ours: _load(h5[theirs]) for ours, theirs in found.items()}, limit)


def _load(array: Any) -> np.ndarray:
    """An hdf5 array, read as what it becomes: no float64 copy of it is ever there."""
    import h5py

    if not isinstance(array, h5py.Dataset):
        raise Wrong(f"'{array.name}' is no array")
    check_array(array.id)
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    return array[()]


def _robomimic(name: str, demos: Any) -> Dataset:
    """Groups demo_0, demo_1, … Their `states` are the simulator's; what is seen is in `obs`."""
    numbered = [demo for demo in demos if demo.startswith("demo_") and demo[5:].isdigit()]
    if not numbered:
        raise Wrong("has a group 'data' without demo_0, demo_1, …")
    ordered = sorted(numbered, key=lambda demo: int(demo[5:]))
    return arrays.joined(name, [_demo(name, demo, demos[demo]) for demo in ordered])


def _demo(name: str, demo: str, group: Any) -> Dataset:
    if not hasattr(group, "keys"):
        raise Wrong(f"{demo}: is an array, where a group of them is expected")
    found = keys.find(group, ("actions",), f"{demo}: ", strict=False)
    if found.get("observations") != "obs":
        raise Wrong(f"{demo}: has no 'obs', so nobody has seen it yet; robomimic's dataset_states_to_obs.py adds that")
    action = arrays.actions(_load(group[found["actions"]]))
    n = len(action)
    if not n:
        raise Wrong(f"{demo}: has no steps")
    columns = {
        "observations": _side_by_side(group["obs"], demo),
        "actions": action,
        "rewards": arrays.unknown(n),
        "terminals": np.zeros(n, bool),
        "timeouts": np.zeros(n, bool),
    }
    for ours in ("rewards", "terminals"):
        if ours in found:
            columns[ours] = _load(group[found[ours]])
    if "next_observations" in found:
        columns["next_observations"] = _side_by_side(group[found["next_observations"]], demo)
    terminal_N = arrays.numbers(columns["terminals"], "terminals") != 0
    terminal_N[:-1] = False  # `dones` that mean success stay 1 while it lasts
    return arrays.flat(name, {**columns, "terminals": terminal_N})


def _side_by_side(group: Any, demo: str) -> np.ndarray:
    """Several observations as one vector, in the order of their names, as Gymnasium flattens a Dict."""
    import h5py

    if not isinstance(group, h5py.Group):
        return arrays.vectors(_load(group))
    parts = []
    for key in sorted(group):
        array = _load(group[key])
        if array.ndim > 2:
            raise Wrong(f"{demo}: 'obs/{key}' is {array.shape[1:]} a step; only vectors are read, no images")
        parts.append(arrays.float32(array.reshape(len(array), -1)))
    if not parts:
        raise Wrong(f"{demo}: has no observations")
    if len({len(part) for part in parts}) > 1:
        raise Wrong(f"{demo}: its observations are of different lengths")
    return np.concatenate(parts, 1)


def _npz(path: Path, limit: int | None) -> Dataset:
    with np.load(path, allow_pickle=False) as file:
        if "indices" in file.files:
            return _imitation(path.name, file)
        found = keys.find(file.files, FLAT[:4])
        return arrays.flat(path.name, {ours: file[theirs] for ours, theirs in found.items()}, limit)


def _imitation(name: str, file: Mapping[str, np.ndarray]) -> Dataset:
    """`indices` are the first steps of all episodes but the first; `terminal` is one for each."""
    found = keys.find([key for key in file if key != "indices"], ("observations", "actions", "terminals"))
    action = arrays.actions(file[found["actions"]])
    indices = np.asarray(file["indices"]).reshape(-1)
    if indices.size and indices.dtype.kind not in "iu":
        raise Wrong(f"its indices are {indices.dtype}, where whole numbers are expected")
    start_E = np.append(np.int64(0), indices.astype(np.int64))
    length_E = np.diff(start_E, append=len(action))
    obs = arrays.vectors(file[found["observations"]])
    terminated_E = np.asarray(file[found["terminals"]]).reshape(-1) != 0
    e = len(length_E)
    if length_E.min() < 1 or len(obs) != len(action) + e or len(terminated_E) != e:
        raise Wrong(
            f"has {len(action):,} actions, {len(obs):,} observations and {len(terminated_E):,} ends of episodes, where "
            f"its indices say {e:,} episodes with one more observation each"
        )
    reward_N = arrays.unknown(len(action))
    if "rewards" in found:
        reward_N = arrays.numbers(file[found["rewards"]], "rewards")
        if len(reward_N) != len(action):
            raise Wrong(f"has {len(action):,} actions and {len(reward_N):,} rewards")
    final_E = np.cumsum(length_E + 1) - 1
    obs_NO = np.delete(obs, final_E, 0)
    return Dataset(name, obs_NO, action, reward_N, length_E, terminated_E, obs[final_E])
