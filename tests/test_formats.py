"""Other people's files: what comes back is what went in, and nothing that is wrong with one goes unsaid."""

import io
import os
import pickle
import tracemalloc

import h5py
import numpy as np
import pytest

from rlexp.buffers.dataset import Dataset
from rlexp.datasets import formats
from rlexp.datasets.load import BufferConfig, load
from rlexp.envs.make import describe
from rlexp.util import unpickle
from rlexp.util.errors import UserError
from tests.helpers import built
from tests.test_dataset import episodes, same

DATA = episodes([5, 1, 9, 3])  # the first and third end by themselves
LOST = np.full((4, 3), np.nan, np.float32)


def flat(data=DATA):
    """The arrays of D4RL's layout, by a loop."""
    arrays = {key: [] for key in formats.FLAT + formats.OPTIONAL}
    for e, (start, n) in enumerate(zip(data.start_E, data.length_E, strict=True)):
        for t in range(start, start + n):
            last = t == start + n - 1
            arrays["observations"].append(data.obs_NO[t])
            arrays["actions"].append(data.action[t])
            arrays["rewards"].append(data.reward_N[t])
            arrays["terminals"].append(bool(last and data.terminated_E[e]))
            arrays["timeouts"].append(bool(last and not data.terminated_E[e]))
            arrays["next_observations"].append(data.final_obs_EO[e] if last else data.obs_NO[t + 1])
    return {key: np.array(rows) for key, rows in arrays.items()}


def trajectories(data=DATA, **more):
    """A Decision Transformer pickle's list of dicts."""
    columns, ends = flat(data), np.cumsum(data.length_E)[:-1]
    keys = ("observations", "next_observations", "actions", "rewards", "terminals")
    parts = {key: np.split(columns[key], ends) for key in keys}
    return [{key: parts[key][e] for key in keys} | more for e in range(len(data.length_E))]


def without(arrays, *keys):
    return {key: array for key, array in arrays.items() if key not in keys}


def write(path, content):
    if path.suffix == ".npz":
        np.savez(path, **content)
    elif path.suffix == ".hdf5":
        with h5py.File(path, "w") as file:
            for key, array in content.items():
                file[key] = array
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_bytes(pickle.dumps(content))
    return path


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_flat_files(tmp_path, kind):
    assert same(formats.read(write(tmp_path / f"all.{kind}", flat())), DATA)
    shorter = formats.read(write(tmp_path / f"less.{kind}", without(flat(), "next_observations")))
    assert same(shorter, Dataset("", *(getattr(DATA, f) for f in list(vars(DATA))[1:6]), LOST))


def test_d4rl_extras_float64_and_an_unfinished_last_episode(tmp_path):
    content = {key: array.astype(np.float64) for key, array in flat().items()}
    content = {key: array[:-2] for key, array in content.items()} | {"infos/qpos": np.zeros(3), "metadata/algo": b"x"}
    data = formats.read(write(tmp_path / "d4rl.hdf5", content))
    assert data.length_E.tolist() == [5, 1, 9, 1]
    assert data.terminated_E.tolist() == [True, False, True, False]
    assert data.final_obs_EO[-1].tolist() == DATA.obs_NO[-2].tolist()
    assert data.obs_NO.dtype == data.action.dtype == data.reward_N.dtype == np.float32


def test_a_step_that_is_terminal_and_a_timeout_is_terminal(tmp_path):
    content = flat()
    content["timeouts"] |= content["terminals"]
    assert formats.read(write(tmp_path / "x.npz", content)).terminated_E.tolist() == DATA.terminated_E.tolist()


@pytest.mark.parametrize("discrete", [False, True])
def test_export_comes_back(tmp_path, discrete):
    data = episodes([4, 7], discrete=discrete)
    formats.write_d4rl(tmp_path / "x.hdf5", data)
    assert same(formats.read(tmp_path / "x.hdf5"), data)
    assert os.listdir(tmp_path) == ["x.hdf5"]
    with h5py.File(tmp_path / "x.hdf5") as file:
        assert np.array_equal(file["terminals"], flat(data)["terminals"])


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("order", ["C", "F"])
def test_decision_transformer_pickles(tmp_path, protocol, order):
    content = [{key: np.array(a, order=order) for key, a in episode.items()} for episode in trajectories()]
    path = write(tmp_path / "x.pkl", pickle.dumps(content, protocol))
    assert same(formats.read(path), DATA)


@pytest.mark.parametrize("protocol", [0, 2, 3])
def test_pickles_of_numpy_1(tmp_path, protocol):
    old = pickle.dumps(trajectories(), protocol).replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core.multiarray" in old
    assert same(formats.read(write(tmp_path / "x.pkl", old)), DATA)


def test_pickles_with_scalars_lists_and_other_byte_orders(tmp_path):
    content = trajectories(infos={"seed": np.int64(3), "success": np.bool_(True), "cost": np.float32(1.5)})
    for episode in content:
        episode["rewards"] = [np.float64(r) for r in episode["rewards"]]
        episode["actions"] = episode["actions"].astype(">f8")
    assert same(formats.read(write(tmp_path / "x.pkl", content)), DATA)


def padded(lengths, limit=6):
    rng = np.random.default_rng(1)
    states, actions = rng.normal(size=(len(lengths), limit, 3)), rng.normal(size=(len(lengths), limit, 2)).clip(-1, 1)
    for e, n in enumerate(lengths):
        states[e, n:], actions[e, n:] = 0, 0
    return states, actions


def test_zero_padded_pairs(tmp_path):
    states, actions = padded([4, 6, 2])
    states[0, 3] = 0  # a state of zeros is one, where its action is not
    actions[2, 1] = 0  # and the other way round
    states[1, 2], actions[1, 2] = 0, 0  # both, and the episode goes on
    states[2, 0] = [1, -1, 0]  # sums to zero
    write(tmp_path / "states_x.pkl", states)
    write(tmp_path / "actions_x.pkl", actions)
    data = formats.read(tmp_path / "states_x.pkl")
    assert data.length_E.tolist() == [4, 6, 2]
    assert data.terminated_E.tolist() == [True, False, True]
    assert np.array_equal(data.obs_NO, np.concatenate([states[e, :n] for e, n in enumerate([4, 6, 2])]).astype("f4"))
    assert np.array_equal(data.action, np.concatenate([actions[e, :n] for e, n in enumerate([4, 6, 2])]).astype("f4"))
    assert not data.rewarded
    assert np.isnan(data.final_obs_EO).all()


class Evil:
    def __init__(self, call, *args):
        self.what = (call, args)

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("call", [os.system, eval, exec, getattr, __import__, np.load, np.frompyfunc])
def test_malicious_pickles_run_nothing(tmp_path, protocol, call):
    mark = tmp_path / "was_here"
    words = {os.system: f"touch {mark}", eval: f"open({str(mark)!r}, 'w')", exec: f"open({str(mark)!r}, 'w')"}
    bomb = Evil(call, words.get(call, "os"))
    for content in (bomb, [bomb], trajectories(infos=bomb), [{"observations": bomb}]):
        path = write(tmp_path / "x.pkl", pickle.dumps(content, protocol))
        with pytest.raises(UserError, match="only numpy arrays in plain containers are read, for safety"):
            formats.read(path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Evil(exec, f"open({str(mark)!r}, 'w')")))
    assert mark.exists()  # the bomb is one


def test_object_arrays_and_codecs_are_refused(tmp_path):
    content = trajectories(infos=np.array([object, None], dtype=object))
    with pytest.raises(UserError, match="only"):
        formats.read(write(tmp_path / "x.pkl", content))
    bomb = pickle.dumps([Evil(__import__("_codecs").encode, "x", "rot13")], 2)
    with pytest.raises(UserError, match="codec 'rot13'"):
        formats.read(write(tmp_path / "x.pkl", bomb))


def npz_without(*keys, **more):
    return without(flat(), *keys) | more


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.npz", npz_without("terminals"), "has no 'terminals'; it has observations, actions, rewards, timeouts"),
        ("x.hdf5", npz_without("rewards"), "has no 'rewards'"),
        ("x.npz", npz_without(next_observatio=np.zeros(3)), "unknown key 'next_observatio'.*'next_observation'"),
        ("x.npz", npz_without(rewards=np.zeros(4)), "has 4 rewards and 18 observations"),
        ("x.npz", {key: array[:0] for key, array in flat().items()}, "holds no steps"),
        ("x.npz", npz_without(observations=np.zeros((18, 2, 2))), r"observations are float64 of shape \(18, 2, 2\)"),
        ("x.npz", npz_without(actions=np.array(["a"] * 18)), "actions are <U1 of shape"),
        ("x.npz", npz_without(rewards=np.zeros((18, 2))), r"rewards are float64 of shape \(18, 2\)"),
        ("x.npz", npz_without(timeouts=np.zeros((18, 2))), r"timeouts are float64 of shape \(18, 2\)"),
        ("x.npz", npz_without(terminals=np.full(18, np.nan)), "terminals are not finite at step 0"),
        ("x.npz", npz_without(next_observations=np.zeros((18, 5))), "next_observations have 5 dims, observations 3"),
        ("x.pkl", [*trajectories(), trajectories()[0] | {"actions": np.ones((5, 7))}],
         r"episode 4 has actions of shape \(7,\), episode 0 of \(2,\)"),
        ("x.npz", npz_without(rewards=np.array([None] * 18)), "cannot be read"),
        ("x.hdf5", npz_without("actions") | {"actions/x": np.zeros(3)}, "'/actions' is no array"),
        ("x.pkl", {"observations": np.zeros((3, 2))}, "holds a dict, not a list of dicts"),
        ("x.pkl", [np.zeros(3)], "holds a list, not a list of dicts"),
        ("x.pkl", [], "holds no episodes"),
        ("x.pkl", [without(trajectories()[0], "actions")], "episode 0: has no 'actions'; it has observations"),
        ("x.pkl", [*trajectories(), trajectories()[0] | {"rewarts": 3}], "episode 4: unknown key 'rewarts'.*'rewards'"),
        ("x.pkl", [{k: a[:0] for k, a in trajectories()[0].items()}], "episode 0 has no steps"),
        ("x.pkl", [trajectories()[0] | {"terminals": np.ones(5, bool)}], "episode 0 goes on after a terminal step"),
        ("x.pkl", [trajectories()[0] | {"rewards": np.ones(4)}], "has 4 rewards and 5 observations"),
        ("states_x.pkl", padded([3])[0], r"its actions are not beside it \(actions_x.pkl\)"),
        ("x.csv", b"1,2,3", "unknown kind of file '.csv'; known are .hdf5, .h5, .npz, .pkl"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(tmp_path, name, content, message):
    path = write(tmp_path / name, content)
    with pytest.raises(UserError, match=f"{name}: .*{message}"):
        formats.read(path)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (padded([3, 3, 3])[1][:, :5], r"states have shape \(3, 6, 3\) and actions \(3, 5, 2\)"),
        (np.zeros(3), "where .episodes, steps, dims. of both are expected"),
        (padded([4, 6, 0])[1], "episode 2 is nothing but zeros"),
    ],
)
def test_what_is_wrong_with_a_pair_is_said(tmp_path, actions, message):
    write(tmp_path / "states_x.pkl", padded([4, 6, 0])[0])
    write(tmp_path / "actions_x.pkl", actions)
    with pytest.raises(UserError, match=message):
        formats.read(tmp_path / "states_x.pkl")


@pytest.mark.parametrize("kind", ["hdf5", "npz", "pkl"])
def test_files_that_are_cut_short_or_of_another_kind(tmp_path, kind):
    path = write(tmp_path / f"x.{kind}", trajectories() if kind == "pkl" else flat())
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:10], b"", b"PK\x03\x04 not a zip", b"hello"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=f"x.{kind}: cannot be read, it is cut short, broken or of another kind"):
            formats.read(path)


@pytest.mark.parametrize("kind", ["hdf5", "npz", "pkl"])
def test_damaged_bytes_are_one_line_or_harmless(tmp_path, kind):
    data, rng = episodes([200, 100]), np.random.default_rng(0)
    path = write(tmp_path / f"x.{kind}", trajectories(data) if kind == "pkl" else flat(data))
    if kind == "npz":
        np.savez_compressed(path, **flat(data))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    said = []
    for _ in range(60):
        broken = whole.copy()
        at = rng.integers(len(whole), size=40)
        broken[at] = rng.integers(256, size=40)
        path.write_bytes(broken.tobytes())
        try:
            formats.read(path)
        except UserError as error:
            said.append(str(error))
    assert said
    assert not any("\n" in line for line in said)


def test_a_pickle_cannot_ask_for_memory_that_it_does_not_fill(tmp_path):
    path = write(tmp_path / "x.pkl", b"\x80\x02]r" + (2**31).to_bytes(4, "little") + b".")
    tracemalloc.start()
    with pytest.raises(UserError, match="holds no episodes"):
        formats.read(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    lots = (2**28).to_bytes(4, "little")
    for asking in (b"cbuiltins\nbytearray\n(J" + lots + b"tR.", b"\x96" + lots + bytes(4) + b"."):
        write(path, b"\x80\x05" + asking)
        with pytest.raises(UserError, match=r"x\.pkl: "):
            formats.read(path)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_a_bytearray_is_read_as_python_writes_it(tmp_path):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        write(tmp_path / "x.pkl", pickle.dumps({"a": bytearray(b"\x00\xffb"), "b": bytearray()}, protocol))
        assert unpickle.load(tmp_path / "x.pkl") == {"a": b"\x00\xffb", "b": b""}


def test_a_file_that_is_not_there(tmp_path):
    write(tmp_path / "hopper.npz", flat())
    with pytest.raises(UserError, match=r"hoper\.npz: no such file; did you mean 'hopper\.npz'\?"):
        formats.read(tmp_path / "hoper.npz")


def buffer(**fields):
    return BufferConfig(**{"dataset": None, "path": None, "top_percent": 100, "trajectories": None, **fields})


def test_buffer_path_checks_against_the_environment(tmp_path):
    env = built("env=hopper").env
    path = str(write(tmp_path / "x.npz", flat()))
    with pytest.raises(UserError, match=r"buffer.path: x.npz: observations have 3 dims, the environment's have 11"):
        load(buffer(path=path), env, describe(env))
    with pytest.raises(UserError, match=r"buffer.path: .*y.npz: no such file"):
        load(buffer(path=str(tmp_path / "y.npz")), env, describe(env))


def test_buffer_selects(tmp_path):
    env = built("env=lineworld").env
    data = episodes([20] * 6, discrete=True)
    data = Dataset("", data.obs_NO[:, :2], data.action % 3, *(getattr(data, f) for f in list(vars(data))[3:6]),
                   data.final_obs_EO[:, :2])  # fmt: skip
    path = str(write(tmp_path / "x.npz", flat(data)))
    assert same(load(buffer(path=path), env, describe(env)), data)
    assert same(load(buffer(path=path, top_percent=50), env, describe(env)), data.top(50))
    assert same(load(buffer(path=path, trajectories=2), env, describe(env)), data.first(2))
    assert same(load(buffer(path=path, top_percent=50, trajectories=2), env, describe(env)), data.top(50).first(2))
    with pytest.raises(UserError, match=r"buffer.trajectories=7: x.npz has 6 episodes"):
        load(buffer(path=path, trajectories=7), env, describe(env))


def test_reading_needs_little_more_memory_than_what_is_read(tmp_path):
    data = episodes([1000] * 50)
    path = write(
        tmp_path / "x.hdf5", {k: a.astype(np.float64) for k, a in without(flat(data), "next_observations").items()}
    )
    tracemalloc.start()
    read = formats.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert same(read.first(3), Dataset("", *(getattr(data.first(3), f) for f in list(vars(data))[1:6]), LOST[:3]))
    assert peak < 2 * (read.obs_NO.nbytes + read.action.nbytes + read.reward_N.nbytes)


def test_an_unpickler_of_ours_gives_plain_arrays():
    class One(unpickle.Unpickler):
        pass

    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    for protocol in range(6):
        found = np.asarray(One(io.BytesIO(pickle.dumps(array, protocol))).load())
        assert found.dtype == np.int16
        assert np.array_equal(found, array)


def test_a_file_goes_before_an_algorithms_default_data():
    run = built("algo=dt", "env=hopper", "buffer.path=mine.npz")
    assert (run.buffer.dataset, run.buffer.given) == ("medium", "buffer.path=mine.npz")
