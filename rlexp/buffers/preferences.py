"""Preferences over trajectories: pairing, labelling, cutting.

A pair is labelled by a sample of the Bradley–Terry model (Bradley & Terry 1952) on the true returns R:

    P(left preferred) = σ((R_left − R_right) / temperature)

so the lower return is sometimes preferred, the more often the closer the two are. `standardise` measures returns in
standard deviations of all that are compared.

Shapes: E trajectories of at most T steps, N pieces of equal length, P pairs, O observation dims, A action dims.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlexp.buffers.trajectories import Trajectories
from rlexp.envs.spec import EnvConfig
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
    soft_P: np.ndarray | None = None  # float32: probability that the first is; None: labels are sure

    @property
    def ordered_P2(self) -> np.ndarray:
        """The same indices, the preferred one first."""
        return np.where(self.first_P[:, None], self.index_P2, self.index_P2[:, ::-1])

    @property
    def sure_P(self) -> np.ndarray | None:
        """Probability, from 0.5, that the first of `ordered_P2` is the preferred one; None: labels are sure."""
        return None if self.soft_P is None else np.maximum(self.soft_P, 1 - self.soft_P)

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
    *,
    soft: bool = False,
) -> Pairs:
    """Pairs of `data` with Bradley–Terry labels on their true returns: samples or, with `soft`, the probabilities."""
    return_E = data.return_E
    index_P2 = pairs(return_E, how, rng, count)
    return_P2 = return_E[index_P2]
    card = {"pairing": how, "temperature": temperature, "standardise": standardise}
    if soft:
        p_P = preferred_probability(return_P2[:, 0], return_P2[:, 1], temperature, standardise=standardise)
        return Pairs(data, index_P2, p_P >= 0.5, card, p_P.astype(np.float32))
    first_P = bradley_terry(return_P2[:, 0], return_P2[:, 1], temperature, rng, standardise)
    return Pairs(data, index_P2, first_P, card)
