"""Streams: every use of chance its own, no two alike, and all of it restorable."""

import random

import numpy as np
import pytest
import torch

from rlexp.util import checkpoint, seeding


def draws() -> list[float]:
    """One number from each global generator; odd counts, so that cached second halves of a pair show."""
    return [random.gauss(0, 1), random.random(), np.random.normal(), np.random.rand(), float(torch.randn(())),
            float(torch.rand(()))]  # fmt: skip


def test_streams_of_any_seed_name_and_index_differ():
    keys = [(seed, name, *index) for seed in (0, 1, 2, 2**40) for name in seeding.STREAMS for index in ((), (0,), (1,))]
    words = {tuple(seeding.stream(*key).generate_state(2, np.uint64)) for key in keys}
    assert len(words) == len(keys)


def test_a_stream_is_the_same_every_time_and_unknown_names_are_refused():
    first, second = (seeding.stream(0, "explore", 5).generate_state(4) for _ in range(2))
    assert np.array_equal(first, second), "seed 0 is a seed"
    with pytest.raises(ValueError, match="no stream 'nonsense', only init"):
        seeding.stream(0, "nonsense")


def test_environments_of_neighbouring_seeds_share_nothing():
    """`reset(seed=s)` of a vector environment gives s + i, so that seed 0, environment 1 is seed 1, environment 0."""
    rows = [seeding.env_seeds(seeding.stream(seed, "train_env"), 8) for seed in range(20)]
    assert all(rows[s][1:] != rows[s + 1][:-1] for s in range(19))
    every = [seed for row in rows for seed in row]
    every += [seed for s in range(20) for seed in seeding.env_seeds(seeding.stream(s, "eval", 1000), 10)]
    every += [seed for s in range(20) for seed in seeding.env_seeds(seeding.stream(s, "train_env", 1000), 8)]
    assert len(set(every)) == len(every)
    assert all(0 <= seed < 2**31 for seed in every), "every simulator takes these"


def test_torch_generators_follow_their_stream():
    def sample(*key):
        return torch.rand(4, generator=seeding.torch_generator(seeding.stream(*key))).tolist()

    before = torch.get_rng_state()
    assert sample(0, "explore") == sample(0, "explore")
    assert sample(0, "explore") != sample(1, "explore")
    assert sample(0, "explore") != sample(0, "batch")
    assert torch.equal(before, torch.get_rng_state()), "the global generator has no part in it"


def test_seeding_the_globals_decides_all_of_them():
    seeding.seed_globals(seeding.stream(0, "init"))
    first = draws()
    seeding.seed_globals(seeding.stream(0, "init"))
    assert draws() == first
    seeding.seed_globals(seeding.stream(1, "init"))
    assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_state_of_the_globals_survives_a_checkpoint_file(tmp_path):
    seeding.seed_globals(seeding.stream(0, "init"))
    random.gauss(0, 1), np.random.normal()  # each keeps the other half of its pair
    checkpoint.save(tmp_path / "c.safetensors", {"rng": seeding.globals_state()})
    expected = [draws() for _ in range(3)]
    seeding.seed_globals(seeding.stream(7, "init"))
    seeding.set_globals_state(checkpoint.load(tmp_path / "c.safetensors", "rng"))
    assert [draws() for _ in range(3)] == expected
