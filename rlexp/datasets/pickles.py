"""Episodes in pickles: Decision Transformer's and Berkeley's lists of dicts, and a course's padded arrays."""

from pathlib import Path
from typing import Any

import numpy as np

from rlexp.buffers.dataset import Dataset
from rlexp.datasets import arrays, keys
from rlexp.datasets.arrays import Wrong
from rlexp.util import unpickle


def read(path: Path) -> Dataset:
    """A list of episodes, each a dict of arrays with one row a step. Raises Wrong."""
    if path.name.startswith("states"):
        return padded(path)
    episodes = unpickle.load(path)
    if not isinstance(episodes, list | tuple) or not all(isinstance(episode, dict) for episode in episodes):
        what = "an array" if isinstance(episodes, unpickle.Array) else f"a {type(episodes).__name__}"
        states = path.with_name(path.name.replace("actions", "states", 1))
        hint = f"; name {states.name}, which it lies beside" if states != path and states.is_file() else ""
        raise Wrong(f"holds {what}, not a list of dicts, one for each episode{hint}")
    return arrays.joined(path.name, [_episode(path.name, i, episode) for i, episode in enumerate(episodes)])


def _episode(name: str, i: int, episode: dict[str, Any]) -> Dataset:
    found = keys.find(episode, ("observations", "actions", "rewards", "terminals"), f"episode {i}: ")
    columns = {ours: np.asarray(episode[theirs]) for ours, theirs in found.items() if ours != "timeouts"}
    n = columns["rewards"].size
    if not n:
        raise Wrong(f"episode {i} has no steps")
    if columns["terminals"].ndim == 0:  # said once, of the episode's end
        columns["terminals"] = np.append(np.zeros(n - 1, bool), columns["terminals"] != 0)
    if columns["terminals"][:-1].any():
        raise Wrong(f"episode {i} goes on after a terminal step")
    return arrays.flat(name, {**columns, "timeouts": np.zeros(n)})


def padded(path: Path) -> Dataset:
    """states_<x>.pkl beside actions_<x>.pkl. Raises Wrong.

    Padding is what is zero in states and actions alike from some step to the end; it is never inferred from one.
    """
    beside = path.with_name(path.name.replace("states", "actions", 1))
    if not beside.is_file():
        raise Wrong(f"its actions are not beside it ({beside.name})")
    obs_ETO = np.asarray(unpickle.load(path))
    action_ETA = np.asarray(unpickle.load(beside))
    if obs_ETO.ndim != 3 or action_ETA.ndim != 3 or obs_ETO.shape[:2] != action_ETA.shape[:2] or not obs_ETO.size:
        raise Wrong(
            f"states have shape {obs_ETO.shape} and actions {action_ETA.shape}, where (episodes, steps, dims) of both "
            "are expected"
        )
    used_ET: np.ndarray = np.any(obs_ETO, 2) | np.any(action_ETA, 2)
    limit = used_ET.shape[1]
    length_E = limit - np.argmax(used_ET[:, ::-1], 1)
    if not used_ET.any(1).all():
        raise Wrong(f"episode {int(np.argmin(used_ET.any(1)))} is nothing but zeros")
    inside_ET = np.arange(limit) < length_E[:, None]
    final_obs_EO = arrays.unknown(len(length_E), obs_ETO.shape[2])
    reward_N = arrays.unknown(length_E.sum())
    obs_NO = arrays.vectors(obs_ETO[inside_ET])
    action = arrays.actions(action_ETA[inside_ET])
    return Dataset(path.name, obs_NO, action, reward_N, length_E, length_E < limit, final_obs_EO)
