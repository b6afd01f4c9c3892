"""Reading the episodes of a data set that Minari stores, as hdf5, arrow or parquet.

Observations that are vectors come straight from the file. Others (Discrete, Dict, …) are made to vectors as Gymnasium's
FlattenObservation does it, so that they are what a policy sees in such an environment.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rlexp.buffers.dataset import Dataset
from rlexp.datasets import arrays
from rlexp.datasets.hdf5 import DENSEST, check_array, check_links
from rlexp.util.errors import UserError

WIDEST = 10_000  # dims of an observation; what has more is an image, or claims to be large
ARROW = ("arrow", "parquet")


def read(place: Path, name: str, about: dict[str, Any]) -> Dataset:
    """The episodes in the folder `data` of a data set, whose metadata are `about`. Raises UserError for a form that
    cannot be read, and whatever broken bytes raise."""
    form = about.get("data_format")
    if form == "hdf5" and _has_vectors(place / "main_data.hdf5", name) and _is_box(about):
        return _vectors(place / "main_data.hdf5", name, about["total_episodes"], about["total_steps"])
    if form not in ("hdf5", *ARROW):
        raise UserError(f"{name}: is stored as {form}; what can be read is hdf5, {', '.join(ARROW)}")
    obs_space = _space(about, "observation_space", name)
    action_space = _space(about, "action_space", name)
    _check(obs_space, action_space, name)
    if form == "hdf5":
        found = _in_hdf5(place / "main_data.hdf5", about["total_episodes"], obs_space)
    else:
        found = _in_arrow(place, name, form, about["total_episodes"], obs_space)
    parts = [_episode(name, obs_space, action_space, columns) for columns in found]
    try:
        return arrays.joined(name, parts)
    except arrays.Wrong as error:
        raise UserError(f"{name}: {error}") from None


def _is_box(about: dict[str, Any]) -> bool:
    """Whether the observations' space is a Box, or is not said."""
    return json.loads(about.get("observation_space") or "{}").get("type", "Box") == "Box"


def _has_vectors(file: Path, name: str) -> bool:
    """Whether observations are vectors of numbers, and actions vectors or numbers."""
    import h5py

    with h5py.File(file) as h5:
        check_links(h5)
        first = {key: h5[f"episode_0/{key}"] for key in ("observations", "actions")}
        for key, array in first.items():
            if isinstance(array, h5py.Dataset) and array.dtype.kind not in "fiub":
                raise UserError(f"{name}: its {key} are no numbers, which is all that can be learned from here")
        plain = all(isinstance(array, h5py.Dataset) for array in first.values())
        return plain and first["observations"].ndim == 2 and first["actions"].ndim <= 2


def _space(about: dict[str, Any], key: str, name: str) -> gym.Space:
    """A space as Minari writes it down: plain JSON."""
    from minari.serialization import deserialize_space

    try:
        return deserialize_space(about[key])
    except Exception as error:  # of a library, for what is no space
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"{name}: its {key} cannot be read ({type(error).__name__}: {reason})") from None


def _check(obs_space: gym.Space, action_space: gym.Space, name: str) -> None:
    """Raise UserError for spaces that nothing here learns from."""
    try:
        wide = gym.spaces.flatdim(obs_space)
    except (NotImplementedError, ValueError):
        kind = type(obs_space).__name__
        raise UserError(f"{name}: its observations are a {kind} of no fixed size, which nothing here learns") from None
    if wide > WIDEST:
        raise UserError(f"{name}: its observations have {wide:,} dims; at most {WIDEST:,} are read, and no images")
    if isinstance(action_space, gym.spaces.Discrete) and action_space.start != 0:
        raise UserError(f"{name}: its actions count from {action_space.start}; only those from 0 are supported")
    if not isinstance(action_space, gym.spaces.Discrete | gym.spaces.Box):
        kind = type(action_space).__name__
        raise UserError(f"{name}: has {kind} actions; supported are Discrete and one-axis Box")


def _episode(name: str, obs_space: gym.Space, action_space: gym.Space, columns: dict[str, Any]) -> Dataset:
    """One episode, whose observations have one more."""
    obs = flattened(obs_space, columns["observations"])
    reward_N = arrays.float32(columns["rewards"]).reshape(-1)
    n = len(reward_N)
    action = np.asarray(columns["actions"])
    if isinstance(action_space, gym.spaces.Discrete):
        action = action.reshape(-1).astype(np.int64)
    else:
        action = arrays.float32(action).reshape(n, -1)
    if not n or len(obs) != n + 1 or len(action) != n:
        raise ValueError(f"an episode has {len(obs)} observations, {len(action)} actions and {n} rewards")
    ended = bool(np.asarray(columns["terminations"]).reshape(-1)[n - 1])
    return Dataset(name, obs[:-1], action, reward_N, np.array([n]), np.array([ended]), obs[-1:])


def flattened(space: gym.Space, values: Any) -> np.ndarray:
    """(N, O) float32: each of N values of a space as `gymnasium.spaces.flatten` has it.

    values: of a Dict or Tuple, the values of each part; of others an array, N first. Raises UserError for a space of
    another kind.
    """
    if isinstance(space, gym.spaces.Dict):
        return np.concatenate([flattened(part, values[key]) for key, part in space.spaces.items()], 1)
    if isinstance(space, gym.spaces.Tuple):
        return np.concatenate([flattened(part, values[i]) for i, part in enumerate(space.spaces)], 1)
    array = np.asarray(values)
    if isinstance(space, gym.spaces.Discrete):
        return _one_hot(array.reshape(-1) - space.start, int(space.n))
    if isinstance(space, gym.spaces.MultiDiscrete):
        rows = array.reshape(len(array), -1) - space.start.reshape(-1)
        return np.concatenate([_one_hot(rows[:, i], int(n)) for i, n in enumerate(space.nvec.reshape(-1))], 1)
    if isinstance(space, gym.spaces.Box | gym.spaces.MultiBinary):
        return arrays.float32(array.reshape(len(array), -1))
    raise UserError(f"a part of its observations is a {type(space).__name__}, which nothing here learns")


def _one_hot(values_N: np.ndarray, n: int) -> np.ndarray:
    if values_N.size and not 0 <= values_N.min() <= values_N.max() < n:
        raise ValueError(f"a discrete observation is outside of its {n} values")
    return np.eye(n, dtype=np.float32)[values_N.astype(np.int64)]


COLUMNS = ("actions", "rewards", "terminations")


def _in_hdf5(file: Path, episodes: int, obs_space: gym.Space) -> Iterator[dict[str, Any]]:
    import h5py

    with h5py.File(file) as h5:
        check_links(h5)
        for i in range(episodes):
            group = h5[f"episode_{i}"]
            columns = {key: _whole(group[key]) for key in COLUMNS}
            yield {**columns, "observations": _from_groups(obs_space, group["observations"])}


def _from_groups(space: gym.Space, node: Any) -> Any:
    """The values of a space, whose parts Minari keeps in groups: by name, or as _index_0, _index_1, …"""
    if isinstance(space, gym.spaces.Dict):
        return {key: _from_groups(part, node[key]) for key, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        return [_from_groups(part, node[f"_index_{i}"]) for i, part in enumerate(space.spaces)]
    return _whole(node)


def _whole(array: Any) -> np.ndarray:
    """All of an hdf5 array. Raises Wrong where it is not in its file."""
    check_array(array.id)
    return array[()]


def _in_arrow(place: Path, name: str, form: str, episodes: int, obs_space: gym.Space) -> Iterator[dict[str, Any]]:
    """A folder for each episode. All columns are as long as the observations: the last row of the others is filler."""
    try:
        from pyarrow import dataset
    except ImportError:
        raise UserError(f"{name}: is stored as {form}; pip install 'rlexp[arrow]' reads that") from None
    for i in range(episodes):
        files = sorted(str(file) for file in (place / str(i)).glob(f"*.{form}"))
        table = dataset.dataset(files, format=form).to_table(columns=["observations", *COLUMNS])
        whole = table.combine_chunks().to_batches()[0]
        columns = {key: _from_arrow(whole.column(key))[:-1] for key in COLUMNS}
        yield {**columns, "observations": _from_structs(obs_space, whole.column("observations"))}


def _from_structs(space: gym.Space, column: Any) -> Any:
    """The values of a space, whose parts are fields of a struct: by name, or as 0, 1, …"""
    if isinstance(space, gym.spaces.Dict):
        return {key: _from_structs(part, column.field(key)) for key, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        return [_from_structs(part, column.field(str(i))) for i, part in enumerate(space.spaces)]
    return _from_arrow(column)


def _from_arrow(column: Any) -> np.ndarray:
    """Numbers, or lists of one length: (N,) or (N, size)."""
    size = getattr(column.type, "list_size", None)
    if size is None:
        return column.to_numpy(zero_copy_only=False)
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), size)


def _vectors(file: Path, name: str, episodes: int, steps: int) -> Dataset:
    import h5py
    from h5py import h5d, h5g, h5s

    with h5py.File(file) as h5:
        obs = h5["episode_0/observations"]
        act = h5["episode_0/actions"]
        discrete = act.ndim == 1 and act.dtype.kind in "iu"
        wide = obs.shape[1]
        if 4 * steps * wide > DENSEST * file.stat().st_size:
            raise ValueError(f"{steps:,} steps of {wide} numbers are not in a file of {file.stat().st_size:,} bytes")
        obs_NO = np.empty((steps, wide), np.float32)
        final_obs_EO = np.empty((episodes, wide), np.float32)
        if discrete:
            action = np.empty(steps, np.int64)
        else:
            action = np.empty((steps, *(act.shape[1:] or (1,))), np.float32)
        reward_N = np.empty(steps, np.float32)
        length_E = np.empty(episodes, np.int64)
        terminated_E = np.empty(episodes, bool)
        flag = h5["episode_0/terminations"].dtype
        at = 0
        for i in range(episodes):  # h5py's low level: thousands of small arrays, each straight into its place
            group = h5g.open(h5.id, b"episode_%d" % i)
            arrays = {key: h5d.open(group, key) for key in (b"observations", b"actions", b"rewards", b"terminations")}
            n = arrays[b"rewards"].shape[0]
            obs_T = np.empty((n + 1, wide), np.float32)
            ends = np.empty(n, flag)
            outs: tuple[np.ndarray, ...] = (obs_T, action[at : at + n], reward_N[at : at + n], ends)
            for array, out in zip(arrays.values(), outs, strict=True):
                check_array(array)
                if array.shape[0] != len(out) or np.prod(array.shape) != out.size:
                    raise ValueError(f"episode {i} has {array.shape} where {out.shape} is expected")
                array.read(h5s.ALL, h5s.ALL, out)
            obs_NO[at : at + n] = obs_T[:-1]
            final_obs_EO[i] = obs_T[-1]
            length_E[i] = n
            terminated_E[i] = ends[-1]
            at += n
        if at != steps:
            raise ValueError(f"{at} steps where {steps} are expected")
    return Dataset(name, obs_NO, action, reward_N, length_E, terminated_E, final_obs_EO)
