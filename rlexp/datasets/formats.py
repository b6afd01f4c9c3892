"""Other people's files of recorded episodes, as `Dataset`s. Reading one executes nothing.

    .hdf5, .h5   D4RL: flat arrays; `terminals` and `timeouts` end an episode, and are kept apart
    .npz         the same arrays
    .pkl         Decision Transformer: a list of episodes, each a dict of arrays
    states_<x>.pkl beside actions_<x>.pkl: arrays (E, T, O) and (E, T, A), padded with zeros; no rewards

What an episode's last action led to (`final_obs_EO`) is in `next_observations`, where there is any; else it is NaN, as
rewards are that were not recorded.
"""

import mmap
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.buffers.dataset import Dataset
from rlexp.util.errors import UserError, did_you_mean, nearest

FLAT = ("observations", "actions", "rewards", "terminals", "timeouts")
OPTIONAL = ("next_observations",)
_NAMES = {"obs_NO": "observations", "action": "actions"}
BESIDE = ("info", "metadata", "env_info", "agent_info")  # what begins so may be there, and is not read


def read(path: Path) -> Dataset:
    """The episodes in a file. Raises UserError, which names the file, for one that is none or is broken."""
    if not path.is_file():
        there = [file.name for file in path.parent.glob("*")]
        raise UserError(f"{path}: no such file{did_you_mean(nearest(path.name, there))}")
    readers = {".hdf5": _hdf5, ".h5": _hdf5, ".npz": _npz, ".pkl": _pickle, ".pickle": _pickle}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: unknown kind of file '{path.suffix}'; known are {', '.join(readers)}")
    try:
        return readers[path.suffix.lower()](path)
    except _Wrong as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # whatever a library makes of broken bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: cannot be read, it is cut short, broken or of another kind ({reason})") from None


class _Wrong(Exception):
    """The file can be read, and what it holds is wrong."""


def write_d4rl(path: Path, data: Dataset) -> None:
    """Write `data` as D4RL has it, whole or not at all, with `next_observations`."""
    import h5py

    last_E = data.start_E + data.length_E - 1
    terminals = np.zeros(len(data), bool)
    timeouts = np.zeros(len(data), bool)
    terminals[last_E] = data.terminated_E
    timeouts[last_E] = ~data.terminated_E
    arrays = (data.obs_NO, data.action, data.reward_N, terminals, timeouts, data.next_obs_NO())
    part = path.with_name(f".part_{path.name}")
    try:
        with h5py.File(part, "w") as h5:
            for name, array in zip(FLAT + OPTIONAL, arrays, strict=True):
                h5.create_dataset(name, data=array, compression="gzip", compression_opts=4, shuffle=True)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _hdf5(path: Path) -> Dataset:
    import h5py

    with h5py.File(path) as h5:
        _check_keys(list(h5), FLAT)
        return _flat(path.name, {key: _load(h5[key]) for key in FLAT + OPTIONAL if key in h5})


def _load(array: Any) -> np.ndarray:
    """An hdf5 array, read as what it becomes: no float64 copy of it is ever there."""
    import h5py

    if not isinstance(array, h5py.Dataset):
        raise _Wrong(f"'{array.name}' is no array")
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
    return array[()]


def _npz(path: Path) -> Dataset:
    with np.load(path, allow_pickle=False) as file:
        _check_keys(file.files, FLAT)
        return _flat(path.name, {key: file[key] for key in file.files if key in FLAT + OPTIONAL})


def _check_keys(keys: Iterable[str], needed: tuple[str, ...], where: str = "") -> None:
    keys = list(keys)
    for key in needed:
        if key not in keys:
            raise _Wrong(f"{where}has no '{key}'; it has {', '.join(map(str, keys)) or 'nothing'}")
    for key in keys:
        if key not in FLAT + OPTIONAL and not str(key).startswith(BESIDE):
            hint = did_you_mean(nearest(str(key), FLAT + OPTIONAL))
            raise _Wrong(f"{where}unknown key '{key}'{hint}")


def _flat(name: str, arrays: Mapping[str, np.ndarray]) -> Dataset:
    """Episodes end at a terminal or a timeout; the last at the end of the recording."""
    obs_NO = _vectors(arrays["observations"])
    action = _actions(arrays["actions"])
    reward_N = _numbers(arrays["rewards"], "rewards")
    n = len(reward_N)
    for key, array in arrays.items():
        if len(array) != n:
            raise _Wrong(f"has {n:,} rewards and {len(array):,} {key}")
    terminal_N = _numbers(arrays["terminals"], "terminals") != 0
    timeout_N = _numbers(arrays["timeouts"], "timeouts") != 0
    if not n:
        raise _Wrong("holds no steps")
    end_N = terminal_N | timeout_N
    end_N[-1] = True
    last_E = np.flatnonzero(end_N)
    final_obs_EO = np.full((len(last_E), obs_NO.shape[1]), np.nan, np.float32)
    if "next_observations" in arrays:
        final_obs_EO = _vectors(arrays["next_observations"])[last_E]
        if final_obs_EO.shape[1] != obs_NO.shape[1]:
            raise _Wrong(f"next_observations have {final_obs_EO.shape[1]} dims, observations {obs_NO.shape[1]}")
    return Dataset(name, obs_NO, action, reward_N, np.diff(last_E, prepend=-1), terminal_N[last_E], final_obs_EO)


def _vectors(array: Any) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise _Wrong(f"observations are {array.dtype} of shape {array.shape}, where (steps, dims) numbers are expected")
    return _float32(array)


def _actions(array: Any) -> np.ndarray:
    """(N, A) float32; or (N,) int64, where they are whole numbers, one for each step."""
    array = np.asarray(array)
    if array.dtype.kind in "iu" and array.size == len(array):
        return array.reshape(-1).astype(np.int64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise _Wrong(f"actions are {array.dtype} of shape {array.shape}, where (steps, dims) numbers are expected")
    return _float32(array)


def _numbers(array: Any, what: str) -> np.ndarray:
    array = np.asarray(array)
    if array.size != len(array) or array.dtype.kind not in "fiub":
        raise _Wrong(f"{what} are {array.dtype} of shape {array.shape}, where one number a step is expected")
    if what != "rewards" and array.dtype.kind == "f" and np.isnan(array).any():
        raise _Wrong(f"{what} are not finite at step {int(np.isnan(array).reshape(-1).argmax()):,}")
    return _float32(array.reshape(-1))


def _float32(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large becomes inf, which `Dataset.check_numbers` finds
        return np.ascontiguousarray(array, np.float32)


def _pickle(path: Path) -> Dataset:
    if path.name.startswith("states"):
        return _padded(path)
    episodes = _unpickle(path)
    if not isinstance(episodes, list | tuple) or not all(isinstance(episode, dict) for episode in episodes):
        what = "an array" if isinstance(episodes, _Array) else f"a {type(episodes).__name__}"
        states = path.with_name(path.name.replace("actions", "states", 1))
        hint = f"; name {states.name}, which it lies beside" if states != path and states.is_file() else ""
        raise _Wrong(f"holds {what}, not a list of dicts, one for each episode{hint}")
    parts = []
    for i, episode in enumerate(episodes):
        _check_keys(episode, ("observations", "actions", "rewards", "terminals"), f"episode {i}: ")
        if not len(episode["rewards"]):
            raise _Wrong(f"episode {i} has no steps")
        arrays = {key: np.asarray(episode[key]) for key in FLAT[:4] + OPTIONAL if key in episode}
        if arrays["terminals"][:-1].any():
            raise _Wrong(f"episode {i} goes on after a terminal step")
        parts.append(_flat(path.name, {**arrays, "timeouts": np.zeros(len(arrays["rewards"]))}))
        for what in ("obs_NO", "action"):
            this = getattr(parts[-1], what).shape[1:]
            first = getattr(parts[0], what).shape[1:]
            if this != first:
                raise _Wrong(f"episode {i} has {_NAMES[what]} of shape {this}, episode 0 of {first}")
    if not parts:
        raise _Wrong("holds no episodes")
    return Dataset.concat(path.name, parts)


def _padded(path: Path) -> Dataset:
    """Padding is what is zero in states and actions alike from some step to the end; it is never inferred from one."""
    beside = path.with_name(path.name.replace("states", "actions", 1))
    if not beside.is_file():
        raise _Wrong(f"its actions are not beside it ({beside.name})")
    obs_ETO = np.asarray(_unpickle(path))
    action_ETA = np.asarray(_unpickle(beside))
    if obs_ETO.ndim != 3 or action_ETA.ndim != 3 or obs_ETO.shape[:2] != action_ETA.shape[:2] or not obs_ETO.size:
        raise _Wrong(
            f"states have shape {obs_ETO.shape} and actions {action_ETA.shape}, where (episodes, steps, dims) of both "
            "are expected"
        )
    used_ET: np.ndarray = np.any(obs_ETO, 2) | np.any(action_ETA, 2)
    limit = used_ET.shape[1]
    length_E = limit - np.argmax(used_ET[:, ::-1], 1)
    if not used_ET.any(1).all():
        raise _Wrong(f"episode {int(np.argmin(used_ET.any(1)))} is nothing but zeros")
    inside_ET = np.arange(limit) < length_E[:, None]
    final_obs_EO = np.full((len(length_E), obs_ETO.shape[2]), np.nan, np.float32)
    reward_N = np.full(length_E.sum(), np.nan, np.float32)
    obs_NO = _vectors(obs_ETO[inside_ET])
    action = _actions(action_ETA[inside_ET])
    return Dataset(path.name, obs_NO, action, reward_N, length_E, length_E < limit, final_obs_EO)


class _Dtype:
    """Stands for a pickled numpy dtype of plain numbers."""

    def __init__(self, name: str, *_: Any):
        if not re.fullmatch(r"[<>|=]?[biuf][1248]", str(name)):
            raise _Wrong(f"holds an array of '{name}'; only those of numbers are read")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder("=" if state[1] == "|" else state[1])


class _Array:
    """Stands for a pickled numpy array: numpy's own code for it never sees what the file says."""

    def __init__(self, *_: Any):
        self.array = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        self.array = _frombuffer(raw, dtype, shape, "F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array.astype(dtype or self.array.dtype)

    def __len__(self) -> int:
        return len(self.array)


def _frombuffer(raw: Any, dtype: _Dtype, shape: tuple, order: Any) -> np.ndarray:
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _latin1(text: str, how: str) -> bytes:
    if how != "latin1":
        raise _Wrong(f"asks for the codec '{how}'")
    return text.encode("latin1")


def _bytearray(content: bytes | str = b"", how: str = "latin1") -> bytearray:
    if not isinstance(content, bytes | str):  # a length: of nothing, and of any size
        raise _Wrong("asks for an empty array of bytes")
    if isinstance(content, str):
        content = _latin1(content, how.replace("-", ""))
    return bytearray(content)


_ADMITTED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1,  # how protocols 0 to 2 write bytes
    ("builtins", "list"): list,
    ("builtins", "dict"): dict,
    ("collections", "OrderedDict"): dict,
    ("builtins", "bytearray"): _bytearray,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _ADMITTED[_core + ".multiarray", "_reconstruct"] = _Array
    _ADMITTED[_core + ".multiarray", "scalar"] = lambda dtype, raw: np.frombuffer(raw, dtype.dtype)[0]
    _ADMITTED[_core + ".numeric", "_frombuffer"] = _frombuffer


_Python: Any = pickle._Unpickler  # the faster one makes as long a list as a file's bytes tell it to


class _Unpickler(_Python):
    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) not in _ADMITTED:
            raise _Wrong(f"asks for {module}.{name}; only numpy arrays in plain containers are read, for safety")
        return _ADMITTED[module, name]

    def load_bytearray8(self) -> None:
        """As many bytes as the file has, where Python's own makes room for as many as it claims."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: load_bytearray8}


def _unpickle(path: Path) -> Any:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _Unpickler(content).load()  # of a map one cannot read, or make room for, more than there is
