"""Preferences over trajectories: collecting, pairing, labelling, cutting, and files of labelled pairs.

A pair is labelled by a sample of the Bradley–Terry model (Bradley & Terry 1952) on the true returns R:

    P(left preferred) = σ((R_left − R_right) / temperature)

so the lower return is sometimes preferred, the more often the closer the two are. `standardise` measures returns in
standard deviations of all that are compared.

Shapes: E trajectories of at most T steps, N pieces of equal length, P pairs, O observation dims, A action dims.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlexp import ckpt
from rlexp.envs import EnvConfig, EnvSpec, VecEnv
from rlexp.errors import UserError
from rlexp.nets import Actor, Normaliser


@dataclass(frozen=True)
class Trajectories:
    """E trajectories side by side, zero where one has ended; raw observations, actions as sampled, not as clipped."""

    obs_ETO: np.ndarray  # float32
    action: np.ndarray  # (E, T, A) float32, or (E, T) int64 where actions are discrete
    reward_ET: np.ndarray  # float32
    length_E: np.ndarray  # int64, from 1 to T
    logp_ET: np.ndarray | None = None  # float32, log-probability of each action under the policy that sampled it

    def __post_init__(self) -> None:
        shape = self.reward_ET.shape
        parts = [self.obs_ETO, self.action] + ([] if self.logp_ET is None else [self.logp_ET])
        if any(part.shape[:2] != shape for part in parts) or self.length_E.shape != shape[:1]:
            raise ValueError("observations, actions, rewards and lengths do not belong together")
        if shape[0] and not 1 <= self.length_E.min() <= self.length_E.max() <= shape[1]:
            raise ValueError(f"lengths must be from 1 to {shape[1]}")

    def __len__(self) -> int:
        return len(self.length_E)

    @property
    def valid_ET(self) -> np.ndarray:
        """True for steps that were taken."""
        return np.arange(self.reward_ET.shape[1]) < self.length_E[:, None]

    @property
    def return_E(self) -> np.ndarray:
        """Undiscounted sum of each trajectory's rewards, float64."""
        return np.where(self.valid_ET, self.reward_ET, 0.0).sum(1, dtype=np.float64)

    def columns(self) -> dict[str, Any]:
        """The arrays by name: `Trajectories(**columns)` is the same again."""
        return dict(vars(self))

    def take(self, index: Any) -> "Trajectories":
        """The trajectories at these indices, in this order."""
        columns: dict[str, Any] = {n: None if x is None else x[index] for n, x in self.columns().items()}
        return Trajectories(**columns)

    @staticmethod
    def join(parts: Sequence["Trajectories"]) -> "Trajectories":
        """All trajectories of `parts`, one after another. Log-probabilities only where all have them."""
        longest = max(part.reward_ET.shape[1] for part in parts)
        columns: dict[str, Any] = {}
        for name in parts[0].columns():
            arrays = [part.columns()[name] for part in parts]
            whole = all(x is not None for x in arrays)
            columns[name] = np.concatenate([_padded(x, longest) for x in arrays]) if whole else None
        return Trajectories(**columns)


def _padded(x: np.ndarray, steps: int) -> np.ndarray:
    """`x` with zeros after its last step, up to `steps` of them; a column without steps as it is."""
    return x if x.ndim == 1 else np.pad(x, [(0, 0), (0, steps - x.shape[1])] + [(0, 0)] * (x.ndim - 2))


@torch.no_grad()
def collect(
    envs: VecEnv,
    spec: EnvSpec,
    actor: Actor,
    generator: torch.Generator | None,
    normaliser: Normaliser | None = None,
) -> Trajectories:
    """One whole episode in each of the fresh environments, all stepped together: sampled actions, or mean (most
    likely) ones where `generator` is None. The simulator gets clipped actions; the trajectories keep them unclipped."""
    see = normaliser if normaliser is not None else (lambda obs: obs)
    obs_BO, active = envs.reset(), np.arange(envs.n)
    steps: list[tuple[np.ndarray, ...]] = []
    while active.size:
        x = torch.from_numpy(see(obs_BO))
        action = (
            actor.mode(x) if generator is None else actor.sample(x, actor.noise([len(x)], generator))
        ).numpy()  # fmt: skip
        step = envs.step(spec.executable(action), active)
        steps.append((active, obs_BO, action, step.reward))
        going = ~(step.terminated | step.truncated)
        obs_BO, active = step.obs[going], active[going]
    columns = [np.zeros((envs.n, len(steps), *x.shape[1:]), x.dtype) for x in steps[0][1:]]
    length_E = np.zeros(envs.n, np.int64)
    for t, (rows, *values) in enumerate(steps):
        length_E[rows] = t + 1
        for column, value in zip(columns, values, strict=True):
            column[rows, t] = value
    obs_ETO, action, reward_ET = columns
    logp_ET = actor.log_prob_entropy(torch.from_numpy(see(obs_ETO)), torch.from_numpy(action))[0].numpy()
    return Trajectories(obs_ETO, action, reward_ET, length_E, logp_ET)


def check_fragment(length: int | None, env: EnvConfig) -> None:
    """Raise UserError where no episode of `env` can be as long as algo.fragment."""
    if length is not None and (limit := env.time_limit) is not None and length > limit:
        raise UserError(f"algo.fragment={length}: an episode of '{env.id}' has at most {limit} steps")


def fragments(data: Trajectories, length: int, rng: np.random.Generator | None = None) -> Trajectories:
    """Every trajectory cut into consecutive pieces of exactly `length` steps; what does not fill one is left out, at
    the end, or at both ends by chance with `rng`. Raises UserError where no trajectory is that long."""
    pieces_E, spare_E = np.divmod(data.length_E, length)
    if not pieces_E.any():
        raise UserError(f"fragments of {length} steps: the longest trajectory has {data.length_E.max()}")
    first_E = np.zeros(len(data), np.int64) if rng is None else rng.integers(0, spare_E + 1)
    source_N = np.repeat(np.arange(len(data)), pieces_E)
    piece_N = np.arange(len(source_N)) - np.repeat(np.cumsum(pieces_E) - pieces_E, pieces_E)
    step_NT = (first_E[source_N] + piece_N * length)[:, None] + np.arange(length)
    cut = {n: x if x is None or x.ndim == 1 else x[source_N[:, None], step_NT] for n, x in data.columns().items()}
    return Trajectories(**{**cut, "length_E": np.full(len(source_N), length)})


def pairs(
    return_E: np.ndarray | int, how: str = "random", rng: np.random.Generator | None = None, count: int | None = None
) -> np.ndarray:
    """Indices (P, 2) of trajectories to compare, in random order and random left and right.

    "random": anybody with anybody; "adjacent": neighbours in order of return. Each is in one pair (an odd one is left
    out); with `count`, pairing is repeated until there are that many. Never a trajectory with itself.
    """
    n = return_E if isinstance(return_E, int) else len(return_E)
    rng = rng if rng is not None else np.random.default_rng(0)
    if n < 2:
        raise UserError(f"{n} trajectories: a comparison takes two")
    if how not in ("random", "adjacent") or (how == "adjacent" and isinstance(return_E, int)):
        raise ValueError(f"pairs are random or adjacent by return, not {how!r}")
    count = n // 2 if count is None else count
    rounds: list[np.ndarray] = []
    while sum(len(r) for r in rounds) < count:
        order = rng.permutation(n)
        if how == "adjacent":  # of equal returns a random one is first; every other round pairs the other neighbours
            order = order[np.argsort(np.asarray(return_E)[order], kind="stable")]
            order = order[len(rounds) % 2 if n > 2 else 0 :]
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
    ckpt.save(path, {"pairs": given.tree()})


def load_pairs(path: str | Path) -> Pairs:
    """Labelled pairs from a file of `save_pairs`, or from a `.pt` file in the course's form. Raises UserError."""
    path = Path(path)
    if path.suffix in (".pt", ".pth"):
        return _course_pairs(path)
    return Pairs.from_tree(ckpt.load(path, "pairs"))


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
    singles, first = [], []
    for place, row in enumerate(rows):
        try:
            *two, mark = row
            left, right = two
            singles += [_course_trajectory(left), _course_trajectory(right)]
            if (value := float(mark)) not in (1.0, 0.0, -1.0):
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
