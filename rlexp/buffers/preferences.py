"""Preferences over trajectories: pairing, labelling, cutting, and files of labelled pairs.

A pair is labelled by a sample of the Bradley–Terry model (Bradley & Terry 1952) on the true returns R:

    P(left preferred) = σ((R_left − R_right) / temperature)

so the lower return is sometimes preferred, the more often the closer the two are. `standardise` measures returns in
standard deviations of all that are compared.

Shapes: E trajectories of at most T steps, N pieces of equal length, P pairs, O observation dims, A action dims.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlexp.buffers.trajectories import Trajectories
from rlexp.envs.spec import EnvConfig
from rlexp.util import checkpoint
from rlexp.util.errors import UserError


def check_fragment(length: int | None, env: EnvConfig) -> None:
    """Raise UserError where no episode of `env` can be as long as algo.fragment_length."""
    if length is None:
        return
    limit = env.time_limit
    if limit is not None and length > limit:
        raise UserError(f"algo.fragment_length={length}: an episode of '{env.id}' has at most {limit} steps")


def fragments(data: Trajectories, length: int, rng: np.random.Generator | None = None) -> Trajectories:
    """Every trajectory cut into consecutive pieces of exactly `length` steps; what does not fill one is left out, at
    the end, or at both ends by chance with `rng`. Raises UserError where no trajectory is that long."""
    pieces_E, spare_E = np.divmod(data.length_E, length)
    if not pieces_E.any():
        raise UserError(f"fragments of {length} steps: the longest trajectory has {data.length_E.max()}")
    first_E = np.zeros(len(data), np.int64)
    if rng is not None:
        first_E = rng.integers(0, spare_E + 1)
    source_N = np.repeat(np.arange(len(data)), pieces_E)
    piece_N = np.arange(len(source_N)) - np.repeat(np.cumsum(pieces_E) - pieces_E, pieces_E)
    step_NT = (first_E[source_N] + piece_N * length)[:, None] + np.arange(length)
    columns = data.columns()
    for name, x in columns.items():
        if x is not None and x.ndim > 1:
            columns[name] = x[source_N[:, None], step_NT]
    columns["length_E"] = np.full(len(source_N), length)
    return Trajectories(**columns)


def pairs(return_E: np.ndarray, how: str, rng: np.random.Generator, count: int | None = None) -> np.ndarray:
    """Indices (P, 2) of trajectories to compare, in random order and random left and right.

    "random": anybody with anybody; "adjacent": neighbours in order of return. Each is in one pair (an odd one is left
    out); with `count`, pairing is repeated until there are that many. Never a trajectory with itself.
    """
    n = len(return_E)
    if n < 2:
        raise UserError(f"{n} trajectories: a comparison takes two")
    if count is None:
        count = n // 2
    rounds: list[np.ndarray] = []
    while sum(len(r) for r in rounds) < count:
        order = rng.permutation(n)
        if how == "adjacent":  # of equal returns a random one is first; every other round pairs the other neighbours
            order = order[np.argsort(return_E[order], kind="stable")]
            if n > 2:
                order = order[len(rounds) % 2 :]
        rounds.append(rng.permutation(order[: len(order) // 2 * 2].reshape(-1, 2)))
    return rng.permuted(np.concatenate(rounds)[:count], axis=1)


def preferred_probability(
    return_left_P: np.ndarray, return_right_P: np.ndarray, temperature: float = 1.0, *, standardise: bool = False
) -> np.ndarray:
    """Bradley–Terry probability (P,) that the left one of each pair is preferred."""
    gap_P = np.asarray(return_left_P, np.float64) - return_right_P
    if standardise:
        gap_P = gap_P / (np.concatenate([return_left_P, return_right_P]).std(dtype=np.float64) + 1e-12)
    return 0.5 * (1 + np.tanh(gap_P / (2 * temperature)))  # σ, without overflow


def bradley_terry(
    return_left_P: np.ndarray,
    return_right_P: np.ndarray,
    temperature: float,
    rng: np.random.Generator,
    standardise: bool = False,
) -> np.ndarray:
    """Labels (P,), True where the left one is preferred: samples, not comparisons."""
    p_P = preferred_probability(return_left_P, return_right_P, temperature, standardise=standardise)
    return rng.random(len(p_P)) < p_P


@dataclass(frozen=True)
class Pairs:
    """P labelled pairs of trajectories."""

    trajectories: Trajectories
    index_P2: np.ndarray  # int64 into `trajectories`
    first_P: np.ndarray  # bool: the first of the two is preferred
    card: dict[str, Any] = field(default_factory=dict)  # where they come from

    @property
    def ordered_P2(self) -> np.ndarray:
        """The same indices, the preferred one first."""
        return np.where(self.first_P[:, None], self.index_P2, self.index_P2[:, ::-1])

    def tree(self) -> dict[str, Any]:
        """As plain data, for files: `Pairs.from_tree` makes the same of it again."""
        return {**vars(self), "trajectories": self.trajectories.columns()}

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> "Pairs":
        return cls(**{**tree, "trajectories": Trajectories(**tree["trajectories"])})


def label(
    data: Trajectories,
    how: str,
    rng: np.random.Generator,
    temperature: float = 1.0,
    standardise: bool = False,
    count: int | None = None,
) -> Pairs:
    """Pairs of `data` with Bradley–Terry labels on their true returns."""
    return_E = data.return_E
    index_P2 = pairs(return_E, how, rng, count)
    first_P = bradley_terry(return_E[index_P2[:, 0]], return_E[index_P2[:, 1]], temperature, rng, standardise)
    card = {"pairing": how, "temperature": temperature, "standardise": standardise}
    return Pairs(data, index_P2, first_P, card)


def save_pairs(path: Path, given: Pairs) -> None:
    """Write labelled pairs as one safetensors file; raises OSError."""
    checkpoint.save(path, {"pairs": given.tree()})


def load_pairs(path: str | Path) -> Pairs:
    """Labelled pairs from a file of `save_pairs`, or from a `.pt` file in the course's form. Raises UserError."""
    path = Path(path)
    if path.suffix in (".pt", ".pth"):
        return _course_pairs(path)
    return Pairs.from_tree(checkpoint.load(path, "pairs"))


def _course_pairs(path: Path) -> Pairs:
    """A list of (trajectory, trajectory, label); a trajectory is (obs, reward, action, log-probability), each a tensor
    of T steps; the label is 1 where the first is preferred, 0 or −1 where the second is. Executes nothing."""
    try:
        rows = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # torch's many errors, refusals to execute code among them
        raise UserError(f"{path}: cannot be read as pairs ({' '.join(str(error).split())[:150]})") from None
    if not isinstance(rows, list | tuple):
        raise UserError(f"{path}: is no list of pairs but a {type(rows).__name__}")
    singles: list[Trajectories] = []
    first = []
    for place, row in enumerate(rows):
        try:
            *two, mark = row
            left, right = two
            singles += [_course_trajectory(left), _course_trajectory(right)]
            value = float(mark)
            if value not in (1.0, 0.0, -1.0):
                raise ValueError(f"its label is {value:g}, not 1, 0 or -1")
            first.append(value > 0)
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"{path}: pair {place} is not (trajectory, trajectory, label), "
                f"a trajectory being (obs, reward, action, logp): {error}"
            ) from None
    if not singles:
        raise UserError(f"{path}: holds no pairs")
    try:
        data = Trajectories.join(singles)
    except ValueError as error:
        raise UserError(f"{path}: its trajectories do not go together ({error})") from None
    return Pairs(data, np.arange(len(singles)).reshape(-1, 2), np.array(first), {"source": path.name})


def _course_trajectory(parts: Any) -> Trajectories:
    obs, reward, action, logp = (torch.as_tensor(part).detach() for part in parts)
    steps = len(reward)
    if not len(obs) == len(action) == len(logp) == steps:
        raise ValueError(f"it has {len(obs)} observations, {steps} rewards, {len(action)} actions, {len(logp)} logp")
    flat = [x.reshape(1, steps).float().numpy() for x in (reward, logp)]
    discrete = not action.is_floating_point()
    act = action.reshape(1, steps).long() if discrete else action.reshape(1, steps, -1).float()
    return Trajectories(obs.reshape(1, steps, -1).float().numpy(), act.numpy(), flat[0], np.array([steps]), flat[1])
