"""Random streams: one seed, many streams that never overlap.

Every use of chance has a stream of its own, named here, so that evaluating more often, filming or restarting changes
no other number. A stream may be indexed further, e.g. by the step at which an evaluation happens. Two seeds share
nothing: `SeedSequence` hashes (seed, spawn key), while `reset(seed=s)` of a vector environment would hand s + i to
sub-environment i, so that seed 0, environment 1 would be seed 1, environment 0.
"""

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

STREAMS = ("init", "train_env", "explore", "batch", "eval", "data", "final")


def stream(seed: int, name: str, *index: int) -> np.random.SeedSequence:
    """The seed sequence of stream `name` of a run with `seed` (≥ 0), optionally indexed by further integers ≥ 0."""
    if name not in STREAMS:
        raise ValueError(f"no stream '{name}', only {', '.join(STREAMS)}; new ones go at the end of seeding.STREAMS")
    return np.random.SeedSequence(seed, spawn_key=(STREAMS.index(name), *index))


def env_seeds(sequence: np.random.SeedSequence, n: int) -> list[int]:
    """`n` environment seeds in [0, 2^31), the range that every simulator takes."""
    return [int(word) >> 1 for word in sequence.generate_state(n, np.uint32)]


def torch_generator(sequence: np.random.SeedSequence, device: str = "cpu") -> "torch.Generator":
    """A torch generator seeded from `sequence`."""
    import torch

    return torch.Generator(device).manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))


def seed_globals(sequence: np.random.SeedSequence) -> None:
    """Seed the global generators, once per run: they draw initial weights and dropout masks, and nothing else."""
    import torch

    words = [int(word) for word in sequence.generate_state(3, np.uint32)]
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2])


def globals_state() -> dict[str, Any]:
    """State of the global generators, as plain data and tensors."""
    import torch

    version, key, position, has_gauss, cached = np.random.get_state(legacy=True)  # type: ignore[misc]
    state = {
        "python": random.getstate(),
        "numpy": [version, key, position, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_globals_state(state: Mapping[str, Any]) -> None:
    """Restore what `globals_state` returned."""
    import torch

    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
