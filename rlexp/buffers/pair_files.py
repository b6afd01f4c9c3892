"""Files of labelled pairs of trajectories: our own, and a course's `pair_data.pt`.

A course's file is a list of {traj1, traj2, label}, or of (traj1, traj2, label). A trajectory is (states, rewards,
actions, log-probabilities), each an array or tensor of T steps; log-probabilities may be those of each action
dimension. The label is the probability that the first is preferred; -1, too, says that the second is.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlexp.buffers.preferences import Pairs
from rlexp.buffers.trajectories import Trajectories
from rlexp.util import checkpoint, torch_files
from rlexp.util.errors import UserError
from rlexp.util.files import in_one_line
from rlexp.util.unpickle import SLACK, Wrong, expanded

COURSE = (".pt", ".pth")
KEYS = ("traj1", "traj2", "label")
MOST = 8 * 2**30  # bytes of all trajectories side by side
OFTEN = 64  # numbers that a byte of a file may stand for: a trajectory may be in hundreds of pairs

_KINDS = "?bBhHiIlLqQefd"  # dtypes that arrays may have: plain numbers
_MULTIARRAY = np._core.multiarray  # type: ignore[attr-defined]
_NUMPYS_OWN = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in _KINDS},
    _MULTIARRAY._reconstruct,
    _MULTIARRAY.scalar,
    (_MULTIARRAY._reconstruct, "numpy.core.multiarray._reconstruct"),  # as numpy 1 names them
    (_MULTIARRAY.scalar, "numpy.core.multiarray.scalar"),
]


def save_pairs(path: Path, given: Pairs) -> None:
    """Write labelled pairs: a safetensors file or, where `path` ends in .pt, the course's form. Raises OSError."""
    if path.suffix not in COURSE:
        checkpoint.save(path, {"pairs": given.tree()})
        return
    label_P = given.first_P.astype(float) if given.soft_P is None else given.soft_P
    rows = []
    for (left, right), label in zip(given.index_P2, label_P, strict=True):
        one = _as_course(given.trajectories, left)
        other = _as_course(given.trajectories, right)
        rows.append({"traj1": one, "traj2": other, "label": float(label)})
    part = path.with_name(f".part_{path.name}")
    try:
        torch.save(rows, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _as_course(data: Trajectories, i: int) -> tuple[np.ndarray, ...]:
    """One trajectory: (T, O), (T,), (T, A) or (T,) and (T,), in arrays of their own."""
    steps = slice(data.length_E[i])
    logp_T = np.zeros(data.length_E[i], np.float32) if data.logp_ET is None else data.logp_ET[i, steps]
    parts = (data.obs_ETO[i, steps], data.reward_ET[i, steps], data.action[i, steps], logp_T)
    return tuple(part.copy() for part in parts)  # a slice would be saved with all that it is cut from


def load_pairs(path: str | Path) -> Pairs:
    """Labelled pairs from a file of `save_pairs`, or from a `.pt` file in the course's form. Raises UserError."""
    path = Path(path).expanduser()
    if path.suffix in COURSE:
        return _course_pairs(path)
    return Pairs.from_tree(checkpoint.load(path, "pairs"))


def _course_pairs(path: Path) -> Pairs:
    rows = _loaded(path)
    singles: list[Trajectories] = []
    labels = []
    for place, row in enumerate(rows):
        try:
            left, right, label = _pair(row)
            singles += [_trajectory(left), _trajectory(right)]
            labels.append(_probability(label))
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"{path}: pair {place} is not (traj1, traj2, label), a trajectory being (states, rewards, actions, "
                f"log-probabilities): {' '.join(str(error).split())[:200]}"
            ) from None
    if not singles:
        raise UserError(f"{path}: holds no pairs")
    longest = max(single.reward_ET.shape[1] for single in singles)
    step = max(single.obs_ETO.shape[2] + single.action[0, 0].size + 2 for single in singles)
    if len(singles) * longest * step * 4 > MOST:
        raise UserError(f"{path}: its {len(singles):,} trajectories of up to {longest:,} steps take too much memory")
    try:
        data = Trajectories.join(singles)
    except ValueError as error:
        raise UserError(f"{path}: its trajectories do not go together ({error})") from None
    index_P2 = np.arange(len(singles)).reshape(-1, 2)
    soft_P = np.array(labels, np.float32)
    sure = bool(np.isin(soft_P, (0, 1)).all())
    return Pairs(data, index_P2, soft_P >= 0.5, {"source": path.name}, None if sure else soft_P)


def _loaded(path: Path) -> list[Any]:
    """The list in a file. Nothing is executed: torch admits its tensors and, here, numpy's arrays of numbers."""
    try:
        with torch.serialization.safe_globals(_NUMPYS_OWN):
            rows = torch_files.load(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UserError:
        raise
    except Exception as error:  # torch's many errors, refusals to execute code among them
        why = torch_files.reason(error, "arrays and tensors of numbers alone")
        raise UserError(f"{path}: cannot be read as pairs ({why})") from None
    if not isinstance(rows, list | tuple):
        raise UserError(f"{path}: is no list of pairs but a {type(rows).__name__}")
    try:
        numbers = expanded(rows)
    except (Wrong, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as pairs ({in_one_line(error)})") from None
    if numbers * 4 > MOST or numbers > SLACK + OFTEN * path.stat().st_size:
        raise UserError(f"{path}: its trajectories are {numbers:,} numbers, which take too much memory")
    return list(rows)


def _pair(row: Any) -> tuple[Any, Any, Any]:
    if isinstance(row, dict):
        missing = [key for key in KEYS if key not in row]
        if missing:
            raise ValueError(f"it has no '{missing[0]}' but {', '.join(map(repr, row))}")
        return row["traj1"], row["traj2"], row["label"]
    left, right, label = row
    return left, right, label


def _probability(label: Any) -> float:
    """That the first is preferred; -1 is 0, too."""
    value = float(label)
    if value == -1:
        return 0.0
    if not 0 <= value <= 1:
        raise ValueError(f"its label is {value:g}, not a probability, and not -1")
    return value


def _trajectory(parts: Any) -> Trajectories:
    obs, reward, action, logp = (_array(part) for part in parts)
    steps = len(reward)
    if not len(obs) == len(action) == len(logp) == steps or not steps:
        raise ValueError(f"it has {len(obs)} states, {steps} rewards, {len(action)} actions, {len(logp)} logp")
    obs_1TO = obs.reshape(1, steps, -1).astype(np.float32)
    reward_1T = reward.reshape(1, steps).astype(np.float32)
    logp_1T = logp.reshape(1, steps, -1).sum(2, dtype=np.float32)
    action_1T: np.ndarray = action.reshape(1, steps, -1).astype(np.float32)
    if action.dtype.kind != "f":
        action_1T = action.reshape(1, steps).astype(np.int64)
    return Trajectories(obs_1TO, action_1T, reward_1T, np.array([steps]), logp_1T)


def _array(part: Any) -> np.ndarray:
    """An array of numbers, or a tensor, with steps first."""
    array = np.asarray(part.detach() if isinstance(part, torch.Tensor) else part)
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        raise ValueError(f"a part of it is {array.dtype} of shape {array.shape}")
    return array
