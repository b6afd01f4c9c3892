"""Other people's forms of recorded episodes: what comes back is what went in, whatever the arrays are called."""

import pickle
from dataclasses import replace

import gymnasium as gym
import h5py
import numpy as np
import pytest

from rlexp.buffers.dataset import Dataset
from rlexp.cli.main import main
from rlexp.datasets import episodes as minari_episodes
from rlexp.datasets import formats, keys, store
from rlexp.datasets.load import fitted, load
from rlexp.envs.make import describe
from rlexp.util.errors import UserError
from tests.helpers import built
from tests.test_dataset import episodes, same
from tests.test_formats import DATA, buffer, flat, trajectories, without, write


def renamed(arrays, table):
    return {table.get(key, key): array for key, array in arrays.items()}


BERKELEY = {
    "observations": "observation",
    "actions": "action",
    "rewards": "reward",
    "next_observations": "next_observation",
    "terminals": "terminal",
}


def test_berkeley_pickles(tmp_path):
    paths = [renamed(episode, BERKELEY) | {"image_obs": np.array([])} for episode in trajectories()]
    assert same(formats.read(write(tmp_path / "expert_data.pkl", paths)), DATA)
    once = [path | {"terminal": bool(path["terminal"][-1])} for path in paths]
    assert same(formats.read(write(tmp_path / "once.pkl", once)), DATA)


@pytest.mark.parametrize("place", range(max(map(len, keys.ALIASES.values()))))
@pytest.mark.parametrize("kind", ["hdf5", "npz", "pkl"])
def test_every_alias_is_read_in_every_form(tmp_path, kind, place):
    table = {ours: names[min(place, len(names) - 1)] for ours, names in keys.ALIASES.items()}
    if kind == "pkl":
        content = [renamed(episode, table) for episode in trajectories()]
    else:
        content = renamed(flat(), table)
    assert same(formats.read(write(tmp_path / f"x.{kind}", content)), DATA)


def imitation(data=DATA, **more):
    """What imitation's `types.save` wrote, by a loop."""
    obs = []
    for e, (start, n) in enumerate(zip(data.start_E, data.length_E, strict=True)):
        obs += [*data.obs_NO[start : start + n], data.final_obs_EO[e]]
    return {
        "obs": np.array(obs),
        "acts": data.action,
        "rews": data.reward_N,
        "infos": np.array([{}] * len(data), object),
        "terminal": data.terminated_E,
        "indices": np.cumsum(data.length_E[:-1]),
    } | more


def test_imitation_npz(tmp_path):
    assert same(formats.read(write(tmp_path / "x.npz", imitation())), DATA)
    lost = formats.read(write(tmp_path / "y.npz", without(imitation(), "rews")))
    assert not lost.rewarded
    assert np.array_equal(lost.obs_NO, DATA.obs_NO)
    for wrong in (
        {"indices": np.array([5, 5, 6])},
        {"indices": np.array([5])},
        {"obs": DATA.obs_NO},
        {"terminal": np.array([True])},
        {"indices": np.array([1e30])},
    ):
        with pytest.raises(UserError, match=r"x\.npz: "):
            formats.read(write(tmp_path / "x.npz", imitation(**wrong)))


def robomimic(path, data=DATA, order=(2, 10, 1, 0)):
    """Demonstrations under other numbers; observations in two parts, whose names are not in their columns' order."""
    with h5py.File(path, "w") as file:
        for number, (start, n) in zip(order, zip(data.start_E, data.length_E, strict=True), strict=True):
            demo = file.create_group(f"data/demo_{number}")
            rows = slice(start, start + n)
            e = int(data.episode_N[start])
            following = np.concatenate([data.obs_NO[start + 1 : start + n], data.final_obs_EO[e, None]])
            for group, obs in (("obs", data.obs_NO[rows]), ("next_obs", following)):
                demo[f"{group}/robot_pos"] = obs[:, 1:].astype(np.float64)
                demo[f"{group}/object"] = obs[:, :1].astype(np.float64)
            demo["actions"] = data.action[rows]
            demo["rewards"] = data.reward_N[rows]
            demo["dones"] = (np.arange(n) == n - 1) & data.terminated_E[e]
            demo["states"] = np.zeros((n, 40))
        file["mask/train"] = np.array([b"demo_0"])
    return path


def test_robomimic(tmp_path):
    data = formats.read(robomimic(tmp_path / "low_dim.hdf5"))
    by_number = DATA.take(np.argsort((2, 10, 1, 0)))
    assert same(data, by_number)
    with h5py.File(tmp_path / "low_dim.hdf5", "a") as file:
        file["data/demo_1/obs/agentview_image"] = np.zeros((9, 4, 4, 3), np.uint8)
    with pytest.raises(UserError, match=r"demo_1: 'obs/agentview_image' is \(4, 4, 3\) a step; only vectors"):
        formats.read(tmp_path / "low_dim.hdf5")
    with h5py.File(tmp_path / "low_dim.hdf5", "a") as file:
        del file["data/demo_1/obs"]
    with pytest.raises(UserError, match="demo_1: has no 'obs', so nobody has seen it yet"):
        formats.read(tmp_path / "low_dim.hdf5")
    with h5py.File(tmp_path / "empty.hdf5", "w") as file:
        file.create_group("data")
    with pytest.raises(UserError, match="without demo_0"):
        formats.read(tmp_path / "empty.hdf5")


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_d4rl_without_timeouts(tmp_path, kind):
    """Next observations tell where an episode ends; without them the environment's time limit does."""
    data = episodes([4, 2, 4, 4, 1])  # the first, third and last end by themselves
    path = write(tmp_path / f"next.{kind}", without(flat(data), "timeouts"))
    assert same(formats.read(path), data)
    path = write(tmp_path / f"limit.{kind}", without(flat(data), "timeouts", "next_observations"))
    cut = formats.read(path, limit=2)
    assert cut.length_E.tolist() == [2, 2, 2, 2, 2, 2, 2, 1]
    assert cut.terminated_E.tolist() == [False, True, False, False, True, False, False, True]
    assert formats.read(path, limit=100).length_E.tolist() == [4, 6, 5]
    with pytest.raises(UserError, match=r"has no 'timeouts' and no 'next_observations'.*--env NAME"):
        formats.read(path)


def test_single_transitions_are_no_episodes(tmp_path):
    shuffled = {key: array[::-1] for key, array in without(flat(), "timeouts").items()}
    with pytest.raises(UserError, match="do not follow one another"):
        formats.read(write(tmp_path / "x.npz", shuffled))


def test_time_limits_as_d4rl_counts_them(tmp_path):
    """Its loop: an episode ends at a terminal, or at its `limit`-th step."""
    rng = np.random.default_rng(0)
    for limit in (1, 3, 7):
        terminals = rng.random(200) < 0.1
        columns = {"observations": rng.normal(size=(200, 2)), "actions": np.zeros((200, 1)), "rewards": np.zeros(200)}
        path = write(tmp_path / "x.npz", {**columns, "terminals": terminals})
        lengths = []
        n = 0
        for terminal in terminals:
            n += 1
            if terminal or n == limit:
                lengths.append(n)
                n = 0
        assert formats.read(path, limit=limit).length_E.tolist() == lengths + [n] * (n > 0)


def test_actions_outside_of_the_bounds(tmp_path):
    env = built("env=hopper").env
    spec = describe(env)
    rng = np.random.default_rng(0)
    data = Dataset(
        "wide",
        rng.normal(size=(8, 11)).astype(np.float32),
        rng.normal(0, 3, (8, 3)).astype(np.float32),
        np.ones(8, np.float32),
        np.array([5, 3]),
        np.array([True, False]),
        np.zeros((2, 11), np.float32),
    )
    path = str(write(tmp_path / "wide.npz", flat(data)))
    with pytest.raises(UserError, match=r"bounds by up to [\d.]+; buffer\.clip_actions=true clips them"):
        load(buffer(path=path), env, spec)
    found = load(buffer(path=path, clip_actions=True), env, spec)
    assert np.array_equal(found.action, data.action.clip(-1, 1))
    infinite = replace(data, action=np.full((8, 3), np.inf, np.float32))
    with pytest.raises(UserError, match="actions are not finite"):
        fitted(infinite, spec, "", clip=True)
    with pytest.raises(UserError, match=r"buffer\.clip_actions=true: PPO uses no data; leave it out"):
        built("buffer.clip_actions=true")
    assert built("algo=bc", "env=hopper", "buffer.clip_actions=true").buffer.clip_actions


def test_discrete_actions_in_floats(tmp_path):
    env = built("env=lineworld").env
    data = episodes([4, 3], discrete=True)
    action = (data.action % 3)[:, None].astype(np.float32)
    whole = replace(data, obs_NO=data.obs_NO[:, :2], action=action, final_obs_EO=data.final_obs_EO[:, :2])
    path = str(write(tmp_path / "x.npz", flat(whole)))
    assert load(buffer(path=path), env, describe(env)).action.tolist() == (data.action % 3).tolist()


def words(capsys, *command):
    code = main(list(command))
    out = capsys.readouterr()
    return code, out.out + out.err


def test_data_info_reads_all_forms(tmp_path, capsys):
    """An ending in capitals too, and a file in the home folder."""
    files = {
        "UPPER.HDF5": lambda path: h5py_file(path, flat()),
        "berkeley.PKL": lambda path: path.write_bytes(
            pickle.dumps([renamed(episode, BERKELEY) for episode in trajectories()])
        ),
        "imitation.npz": lambda path: np.savez(path, **imitation()),
        "robomimic.hdf5": robomimic,
    }
    for name, make in files.items():
        make(tmp_path / name)
        code, said = words(capsys, "data", "info", str(tmp_path / name))
        assert code == 0, said
        assert "18 steps, 4 episodes" in said
    h5py_file(tmp_path / "old.hdf5", without(flat(), "timeouts", "next_observations"))
    code, said = words(capsys, "data", "info", str(tmp_path / "old.hdf5"))
    assert code == 2
    assert said.count("\n") == 1
    assert "--env NAME" in said
    for name in ("hopper", "Hopper-v5", "Pendulum-v1"):
        assert words(capsys, "data", "info", str(tmp_path / "old.hdf5"), "--env", name)[0] == 0


def h5py_file(path, content):
    with h5py.File(path, "w") as file:
        for key, array in content.items():
            file[key] = array


def spaces():
    part = gym.spaces.Dict(
        {
            "z": gym.spaces.Box(-1, 1, (2,), np.float32),
            "a": gym.spaces.Discrete(3, start=5),
            "m": gym.spaces.Tuple([gym.spaces.MultiBinary(2), gym.spaces.MultiDiscrete([2, 4])]),
        }
    )
    return {"discrete": gym.spaces.Discrete(4), "dict": part, "two axes": gym.spaces.Box(0, 1, (2, 3), np.float32)}


def stacked(space, values):
    """Values of a space as Minari's buffers keep them: a list for each part."""
    if isinstance(space, gym.spaces.Dict):
        return {key: stacked(part, [value[key] for value in values]) for key, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        return tuple(stacked(part, [value[i] for value in values]) for i, part in enumerate(space.spaces))
    return list(values)


@pytest.mark.parametrize("form", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize("kind", spaces())
@pytest.mark.parametrize("act", ["discrete", "box"])
def test_minari_of_any_observations(tmp_path, monkeypatch, kind, form, act):
    """Written by Minari itself; each observation is what Gymnasium flattens it to."""
    if form != "hdf5":
        pytest.importorskip("pyarrow")
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    space = spaces()[kind]
    action_space = {"discrete": gym.spaces.Discrete(3), "box": gym.spaces.Box(-1, 1, (2,), np.float32)}[act]
    buffers, obs, actions = [], [], []
    for e, n in enumerate((3, 1, 12)):
        obs.append([space.sample() for _ in range(n + 1)])
        actions.append([action_space.sample() for _ in range(n)])
        ends = [t == n - 1 for t in range(n)]
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=e,
                observations=stacked(space, obs[e]),
                actions=list(actions[e]),
                rewards=[float(t) for t in range(n)],
                terminations=[end and e != 1 for end in ends],
                truncations=[end and e == 1 for end in ends],
            )
        )
    minari.create_dataset_from_buffers(
        "odd/things-v0",
        buffers,
        observation_space=space,
        action_space=action_space,
        data_format=form,
        description="",
    )
    assert store.exists("odd/things-v0")
    data = store.read("odd/things-v0")
    assert data.length_E.tolist() == [3, 1, 12]
    assert data.terminated_E.tolist() == [True, False, True]
    flat_obs = [np.array([gym.spaces.flatten(space, one) for one in episode]) for episode in obs]
    assert np.allclose(data.obs_NO, np.concatenate([episode[:-1] for episode in flat_obs]))
    assert np.allclose(data.final_obs_EO, [episode[-1] for episode in flat_obs])
    assert np.allclose(data.action, np.concatenate(actions))
    assert data.action.ndim == (1 if act == "discrete" else 2)
    assert data.reward_N.tolist() == [0, 1, 2, 0, *range(12)]
    assert store.size("odd/things-v0") > 0


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"data_format": "zarr"}, "is stored as zarr; what can be read is hdf5, arrow, parquet"),
        ({"observation_space": '{"type": "Graph"}'}, "its observation_space cannot be read"),
        ({"observation_space": '{"type": "Discrete", "n": 100000000000, "start": 0}'}, "100,000,000,000 dims"),
        ({"observation_space": '{"type": "Text", "max_length": 3, "min_length": 1, "charset": "ab"}'}, "Text"),
        ({"action_space": '{"type": "Discrete", "n": 3, "start": 2}'}, "its actions count from 2"),
        ({"action_space": '{"type": "MultiBinary", "n": 3}'}, "has MultiBinary actions"),
    ],
)
def test_minari_that_cannot_be_read(tmp_path, about, said):
    usual = {
        "data_format": "hdf5",
        "observation_space": '{"type": "Discrete", "n": 4, "start": 0}',
        "action_space": '{"type": "Discrete", "n": 3, "start": 0}',
        "total_episodes": 1,
        "total_steps": 2,
    }
    with h5py.File(tmp_path / "main_data.hdf5", "w") as file:
        file["episode_0/observations"] = np.arange(3)
        file["episode_0/actions"] = np.arange(2)
        file["episode_0/rewards"] = np.ones(2)
        file["episode_0/terminations"] = np.array([False, True])
    assert minari_episodes.read(tmp_path, "odd", usual).obs_NO.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    with pytest.raises(UserError, match=said):
        minari_episodes.read(tmp_path, "odd", usual | about)
