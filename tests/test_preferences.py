"""Trajectories, pairs, labels, fragments, and files of them."""

import pickle
import zipfile

import numpy as np
import pytest
import torch

from rlexp.buffers.pair_files import load_pairs, save_pairs
from rlexp.buffers.preferences import Pairs, bradley_terry, fragments, label, pairs, preferred_probability
from rlexp.buffers.trajectories import Trajectories
from rlexp.envs.make import describe, make
from rlexp.envs.vector import VecEnv
from rlexp.nn.actors import Normaliser, make_actor
from rlexp.rollout.collector import collect
from rlexp.util import seeding
from rlexp.util.errors import UserError
from tests.helpers import built


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(*lengths: int, steps: int = 12) -> Trajectories:
    """Trajectories whose every number says where it is from: 100 · trajectory + step."""
    mark_ET = 100 * np.arange(len(lengths))[:, None] + np.arange(steps, dtype=np.float32)
    mark_ET = mark_ET.astype(np.float32)
    return Trajectories(
        np.repeat(mark_ET[..., None], 3, 2), mark_ET[..., None] / 1000, mark_ET, np.array(lengths), -mark_ET
    )


def played(env: str, n: int, *, low: float = 0.0, normaliser: Normaliser | None = None, sampled: bool = True):
    config = built(f"env={env}").env
    spec = describe(config)
    torch.manual_seed(0)
    actor = make_actor(spec.kind, spec.obs_dim, spec.n_actions, hidden=[8], activation="relu", log_std=low)
    vec = VecEnv(config, seeding.env_seeds(seeding.stream(0, "train_env"), n))
    data = collect(vec, spec, actor, torch.Generator().manual_seed(1) if sampled else None, normaliser)
    vec.close()
    return data, actor, config


def test_collected_episodes_are_whole_and_padded_with_nothing():
    data, actor, config = played("cartpole", 6)
    assert len(set(data.length_E.tolist())) > 1, "episodes of one length would show nothing"
    assert data.length_E.max() == data.reward_ET.shape[1]
    assert (data.return_E == data.length_E).all()  # CartPole pays 1 a step
    for part in (data.obs_ETO, data.action, data.reward_ET):
        assert not part[~data.valid_ET].any()
    env = make(config)  # one of them again, alone
    obs, i = env.reset(seed=seeding.env_seeds(seeding.stream(0, "train_env"), 6)[2])[0], 2
    for t in range(data.length_E[i]):
        np.testing.assert_allclose(data.obs_ETO[i, t], obs, rtol=1e-6)
        obs, _, terminated, truncated, _ = env.step(int(data.action[i, t]))
        assert (terminated or truncated) == (t + 1 == data.length_E[i])
    logp, _ = actor.log_prob_entropy(torch.from_numpy(data.obs_ETO), torch.from_numpy(data.action))
    valid = data.valid_ET
    np.testing.assert_allclose(data.logp_ET[valid], logp.detach().numpy()[valid], rtol=1e-5)


def test_actions_are_kept_as_sampled_and_log_probabilities_are_of_those():
    data, actor, _ = played("inverted_double_pendulum", 8, low=1.0)
    valid = data.valid_ET
    assert np.abs(data.action[valid]).max() > 1.5, "clipped, the simulator's bound is 1"
    mean = actor(torch.from_numpy(data.obs_ETO)).detach()
    expected = torch.distributions.Normal(mean, np.e).log_prob(torch.from_numpy(data.action)).sum(-1)
    np.testing.assert_allclose(data.logp_ET[valid], expected.numpy()[valid], rtol=1e-4)


def test_a_normaliser_is_for_the_network_only():
    stats = Normaliser(4)
    stats.mean, stats.var = np.full(4, 5.0), np.full(4, 4.0)
    stats._cache()
    data, actor, _ = played("cartpole", 3, normaliser=stats)
    assert np.abs(data.obs_ETO[:, 0]).max() < 0.1, "observations are kept raw"
    logp, _ = actor.log_prob_entropy(torch.from_numpy(stats(data.obs_ETO)), torch.from_numpy(data.action))
    np.testing.assert_allclose(data.logp_ET[data.valid_ET], logp.detach().numpy()[data.valid_ET], rtol=1e-5)


def test_without_a_generator_the_mean_action_is_taken():
    data, actor, _ = played("inverted_double_pendulum", 2, sampled=False)
    mode = actor.mode(torch.from_numpy(data.obs_ETO)).detach().numpy()
    np.testing.assert_allclose(data.action[data.valid_ET], mode[data.valid_ET], atol=1e-6)


def test_returns_do_not_see_what_follows_the_end():
    data = made(3, 12)
    assert data.return_E.tolist() == [0 + 1 + 2, sum(range(100, 112))]


def test_joining_pads_and_keeps_order():
    both = Trajectories.join([made(3, 4, steps=5), made(7, steps=9)])
    assert both.length_E.tolist() == [3, 4, 7]
    assert both.reward_ET.shape == (3, 9)
    assert both.reward_ET[1, 3] == 103
    assert both.reward_ET[2, 6] == 6
    assert both.take(np.array([2])).return_E == [sum(range(7))]


@pytest.mark.parametrize(
    "bad", [{"length_E": np.array([0])}, {"length_E": np.array([13])}, {"reward_ET": np.zeros((2, 12))}]
)
def test_trajectories_that_do_not_fit_together_are_refused(bad):
    with pytest.raises(ValueError, match=r"lengths|together"):
        Trajectories(**{**made(5).columns(), **bad})


def test_fragments_are_equal_consecutive_and_of_taken_steps_only():
    cut = fragments(made(12, 4, 7), 3)
    assert cut.length_E.tolist() == [3] * (4 + 1 + 2)
    starts = [0, 3, 6, 9, 100, 200, 203]
    assert cut.reward_ET.tolist() == [[s, s + 1, s + 2] for s in starts]
    assert (cut.obs_ETO[..., 0] == cut.reward_ET).all()
    assert (cut.logp_ET == -cut.reward_ET).all()


def test_fragments_begin_by_chance_and_stay_inside():
    seen = set()
    for seed in range(40):
        cut = fragments(made(7), 3, rng(seed))
        assert cut.reward_ET.max() <= 6
        seen.add(int(cut.reward_ET[0, 0]))
    assert seen == {0, 1}


def test_too_long_a_fragment_is_a_users_error():
    with pytest.raises(UserError, match="fragments of 13 steps: the longest trajectory has 12"):
        fragments(made(12, 4), 13)


def test_random_pairs_take_everybody_once_and_nobody_with_itself():
    found = pairs(np.zeros(101), "random", rng())
    assert found.shape == (50, 2)
    assert len(np.unique(found)) == 100
    many = pairs(np.zeros(10), "random", rng(), count=1000)
    assert len(many) == 1000
    assert (many[:, 0] != many[:, 1]).all()
    assert np.bincount(many.ravel()).min() == np.bincount(many.ravel()).max()


def test_adjacent_pairs_are_neighbours_by_return_on_random_sides():
    return_E = rng(3).normal(size=400)
    rank_E = return_E.argsort().argsort()
    found = rank_E[pairs(return_E, "adjacent", rng())]
    assert (np.abs(found[:, 0] - found[:, 1]) == 1).all()
    assert 0.4 < (found[:, 0] > found[:, 1]).mean() < 0.6, "the side must not tell who is better"
    second = rank_E[pairs(return_E, "adjacent", rng(), count=399)][200:]
    assert {tuple(sorted(p)) for p in second.tolist()}.isdisjoint({tuple(sorted(p)) for p in found.tolist()})
    assert pairs(np.array([2.0, 1.0]), "adjacent", rng(), count=5).shape == (5, 2)


def test_one_trajectory_cannot_be_compared():
    with pytest.raises(UserError, match="a comparison takes two"):
        pairs(np.zeros(1), "random", rng())


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_labels_are_samples_of_bradley_terry(temperature):
    left_P, right_P = np.full(20_000, 3.0), np.full(20_000, 1.0)
    share = bradley_terry(left_P, right_P, temperature, rng()).mean()
    assert share == pytest.approx(1 / (1 + np.exp(-2 / temperature)), abs=0.012)
    assert share < 1, "not always the larger one"
    assert bradley_terry(right_P, left_P, temperature, rng()).mean() == pytest.approx(1 - share, abs=0.02)


def test_standardised_labels_do_not_see_the_scale():
    left_P, right_P = rng(1).normal(size=50), rng(2).normal(size=50)
    p_P = preferred_probability(left_P, right_P, standardise=True)
    np.testing.assert_allclose(preferred_probability(100 * left_P + 7, 100 * right_P + 7, standardise=True), p_P)
    assert np.abs(preferred_probability(100 * left_P, 100 * right_P) - p_P).max() > 0.1
    gap_P = (left_P - right_P) / np.concatenate([left_P, right_P]).std()
    np.testing.assert_allclose(p_P, 1 / (1 + np.exp(-gap_P)))


def test_probabilities_of_far_returns_do_not_overflow():
    with np.errstate(all="raise", under="ignore"):
        assert preferred_probability(np.array([1e6, -1e6]), np.zeros(2)).tolist() == [1.0, 0.0]
    assert preferred_probability(np.ones(3), np.ones(3), standardise=True).tolist() == [0.5] * 3


def test_preferred_ones_come_first():
    found = Pairs(made(2, 3), np.array([[0, 1], [1, 0]]), np.array([True, False]))
    assert found.ordered_P2.tolist() == [[0, 1], [0, 1]]


def test_labelled_pairs_survive_a_file(tmp_path):
    found = label(made(3, 5, 8, 12), "random", rng(), temperature=2.0, count=7)
    save_pairs(tmp_path / "pairs.safetensors", found)
    again = load_pairs(tmp_path / "pairs.safetensors")
    for name, column in found.trajectories.columns().items():
        np.testing.assert_array_equal(again.trajectories.columns()[name], column)
    assert again.index_P2.tolist() == found.index_P2.tolist()
    assert again.first_P.tolist() == found.first_P.tolist()
    assert again.card == {"pairing": "random", "temperature": 2.0, "standardise": False}


def course(steps: int, mark: float) -> tuple[torch.Tensor, ...]:
    return (
        torch.full((steps, 8), mark),
        torch.full((steps,), mark),
        torch.zeros(steps, 2),
        torch.full((steps, 1), -mark),
    )


def test_pairs_of_the_course_are_read(tmp_path):
    file = tmp_path / "pair_data.pt"
    torch.save([(course(5, 1.0), course(5, 2.0), 0), (course(4, 3.0), course(5, 4.0), torch.tensor(1.0))], file)
    found = load_pairs(file)
    assert found.trajectories.length_E.tolist() == [5, 5, 4, 5]
    assert found.trajectories.return_E.tolist() == [5, 10, 12, 20]
    assert found.trajectories.action.shape == (4, 5, 2)
    assert found.trajectories.logp_ET[3].tolist() == [-4] * 5
    assert found.ordered_P2.tolist() == [[1, 0], [2, 3]]


def numpys(steps: int, mark: float, per_dimension: bool = True) -> tuple[np.ndarray, ...]:
    """A trajectory as a hand-out's loader has it: (states, rewards, actions, log-probabilities) in numpy's arrays."""
    logp = np.full((steps, 2), -mark / 2) if per_dimension else np.full(steps, -mark, np.float32)
    return np.full((steps, 8), mark), np.full(steps, mark), np.zeros((steps, 2), np.float32), logp


@pytest.mark.parametrize("as_dicts", [True, False])
@pytest.mark.parametrize("per_dimension", [True, False])
def test_numpy_pairs_of_the_course_with_soft_labels(tmp_path, as_dicts, per_dimension):
    rows = [
        (numpys(5, 1.0, per_dimension), numpys(4, 2.0, per_dimension), np.float64(0.25)),
        (numpys(3, 3.0, per_dimension), numpys(5, 4.0, per_dimension), 1),
        (numpys(3, 5.0, per_dimension), numpys(5, 6.0, per_dimension), np.float32(0.5)),
    ]
    content = [dict(zip(("traj1", "traj2", "label"), row, strict=True)) for row in rows] if as_dicts else rows
    torch.save(content, tmp_path / "pair_data.pt")
    found = load_pairs(tmp_path / "pair_data.pt")
    assert found.trajectories.length_E.tolist() == [5, 4, 3, 5, 3, 5]
    assert found.trajectories.logp_ET[1].tolist() == [-2, -2, -2, -2, 0]
    assert found.trajectories.reward_ET[2].tolist() == [3, 3, 3, 0, 0]
    assert found.soft_P.tolist() == [0.25, 1, 0.5]
    assert found.sure_P.tolist() == [0.75, 1, 0.5]
    assert found.ordered_P2.tolist() == [[1, 0], [2, 3], [4, 5]]


def test_pair_data_of_numpy_1(tmp_path):
    file = tmp_path / "pair_data.pt"
    row = {"traj1": numpys(5, 1.0), "traj2": numpys(5, 2.0), "label": np.float32(1)}
    torch.save([row], file, _use_new_zipfile_serialization=False)  # of which names can be changed in their place
    old = file.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert b"numpy.core.multiarray" in old
    file.write_bytes(old)
    assert load_pairs(file).trajectories.return_E.tolist() == [5, 10]


@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.parametrize("soft", [True, False])
def test_pairs_written_in_the_courses_form_come_back(tmp_path, discrete, soft):
    action = rng(1).integers(3, size=(4, 6)) if discrete else rng(1).normal(size=(4, 6, 2)).astype(np.float32)
    data = Trajectories(
        rng(2).normal(size=(4, 6, 3)).astype(np.float32),
        action,
        rng(3).normal(size=(4, 6)).astype(np.float32),
        np.array([6, 2, 6, 5]),
        rng(4).normal(size=(4, 6)).astype(np.float32),
    )
    given = label(data, "random", rng(), soft=soft)
    save_pairs(tmp_path / "pairs.pt", given)
    save_pairs(tmp_path / "pairs.safetensors", given)
    course = load_pairs(tmp_path / "pairs.pt")
    own = load_pairs(tmp_path / "pairs.safetensors")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["pairs.pt", "pairs.safetensors"]
    assert (own.soft_P is None) == (course.soft_P is None) == (not soft)
    assert course.first_P.tolist() == own.first_P.tolist() == given.first_P.tolist()
    if soft:
        return_P2 = data.return_E[given.index_P2]
        assert course.soft_P == pytest.approx(1 / (1 + np.exp(return_P2[:, 1] - return_P2[:, 0])), rel=1e-5)
    for found in (course, own):
        there = found.trajectories.take(found.index_P2.reshape(-1))
        before = data.take(given.index_P2.reshape(-1))
        assert there.length_E.tolist() == before.length_E.tolist()
        for i, n in enumerate(there.length_E):
            for name in ("obs_ETO", "action", "reward_ET", "logp_ET"):
                assert getattr(there, name)[i, :n].tolist() == getattr(before, name)[i, :n].tolist()


class Bomb:
    def __reduce__(self):
        return (open, ("/nonexistent/bomb", "w"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([(course(5, 1.0), course(5, 2.0), 3)], "pair 0 .* label is 3"),
        ([(course(5, 1.0), 1)], "pair 0 is not"),
        ([(course(5, 1.0), course(5, 2.0), float("nan"))], "pair 0 .* label is nan, not a probability"),
        ([{"traj1": course(5, 1.0), "label": 1}], "pair 0 .* has no 'traj2' but 'traj1', 'label'"),
        ([(course(5, 1.0), (*course(5, 2.0)[:3], np.array(["a"] * 5)), 1)], "cannot be read as pairs|a part of it is"),
        ([(course(5, 1.0), (*course(5, 2.0)[:3], np.array([None] * 5)), 1)], "cannot be read as pairs|a part of it is"),
        ([(course(5, 1.0), (*course(5, 2.0)[:3], np.zeros(4)), 1)], "5 actions, 4 logp"),
        ([(course(5, 1.0), numpys(5, 1.0)[:3], 1)], "pair 0 is not"),
        ([(course(0, 1.0), course(5, 1.0), 1)], "0 states"),
        ([(course(5, 1.0), np.load, 1)], "cannot be read as pairs"),
        ([], "holds no pairs"),
        (torch.tensor(3.0), "is no list of pairs but a Tensor"),
        (Bomb(), r"cannot be read as pairs \(it holds (io|_io|builtins)\.open, not arrays"),
    ],
)
def test_other_files_are_one_line(tmp_path, content, message):
    torch.save(content, tmp_path / "p.pt")
    with pytest.raises(UserError, match=message) as error:
        load_pairs(tmp_path / "p.pt")
    assert "\n" not in str(error.value)


def test_pairs_that_stand_for_more_than_there_is_are_refused(tmp_path):
    """One number that claims to be a billion, one trajectory named very often, lists within lists."""
    n = 10**9
    claimed = tuple(torch.zeros(1).expand(n, *more) for more in ((8,), (), (2,), ()))
    long = tuple(torch.zeros(10**5, *more) for more in ((8,), (), (2,), ()))
    doubled = [0.5]
    for _ in range(26):
        doubled = [doubled, doubled]
    doubled = (doubled,) * 4
    for rows in ([(claimed, claimed, 1)], [(long, long, 1)] * 1000, [(doubled, doubled, 1)]):
        torch.save(rows, tmp_path / "p.pt")
        with pytest.raises(UserError, match="take too much memory"):
            load_pairs(tmp_path / "p.pt")


def test_compressed_pairs_are_refused(tmp_path):
    """A few bytes of them could fill the memory."""
    torch.save([(course(5, 1.0), course(5, 2.0), 1)], tmp_path / "p.pt")
    with (
        zipfile.ZipFile(tmp_path / "p.pt") as plain,
        zipfile.ZipFile(tmp_path / "q.pt", "w", zipfile.ZIP_DEFLATED) as q,
    ):
        for name in plain.namelist():
            q.writestr(name, plain.read(name))
    with pytest.raises(UserError, match="is a compressed zip"):
        load_pairs(tmp_path / "q.pt")


@pytest.mark.parametrize("content", [b"", b"noise", pickle.dumps([1])])
def test_pairs_that_torch_has_not_written_are_said_so(tmp_path, content, recwarn):
    (tmp_path / "p.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read as pairs \(torch.save has not written it"):
        load_pairs(tmp_path / "p.pt")
    assert not recwarn.list


def test_a_missing_file_is_one_line(tmp_path):
    for name in ("no.pt", "no.safetensors"):
        with pytest.raises(UserError, match="no such file"):
            load_pairs(tmp_path / name)
