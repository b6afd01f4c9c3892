"""Data sets of this project: recipes, what is loaded for a run, and Minari's store."""

import os
import subprocess
import sys
import tracemalloc

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from rlexp.buffers.dataset import Dataset
from rlexp.datasets import generate, recipes, store
from rlexp.datasets.load import BufferConfig, load
from rlexp.datasets.recipes import Recipe
from rlexp.envs.make import describe
from rlexp.envs.spec import EnvSpec
from rlexp.util import seeding
from rlexp.util.errors import UserError
from tests.datasets import ANY, HOPPER, LINE, asked, names, play, policy_file
from tests.helpers import ROOT, built
from tests.test_dataset import episodes, same


def test_shipped_recipes_can_be_read():
    table = recipes.table()
    for env, kinds in table.items():
        recipes.environment(env)
        for recipe in kinds.values():
            assert sum(map(bool, (recipe.policy, recipe.ladder, recipe.parts))) == 1
            assert set(recipe.parts) <= set(kinds)
            assert bool(recipe.policy) == bool(recipe.steps or recipe.episodes)
        assert all(recipes.fingerprint(env, kind) for kind in kinds), "every policy that it names is shipped"


def test_a_ladder_is_shared_out_by_how_long_each_policy_was_live(place):
    def parts(**keys):
        shares = recipes.shares(Recipe(ladder="ladder", **keys))
        assert all(share.sampled for share in shares)
        return [(share.path.stem, share.steps) for share in shares]

    steps = ["policy_000000", "policy_000040", "policy_000080", "policy_000120"]
    assert parts() == [(name, 40) for name in steps]
    assert parts(until="good") == list(zip(steps[:3], [40, 40, 20], strict=True))  # trained for 100 steps
    assert parts(until="good", steps=1000) == list(zip(steps[:3], [400, 400, 200], strict=True))
    assert sum(n for _, n in parts(steps=997)) == 997
    assert len(parts(steps=3)) == 3


def test_each_data_set_has_its_own_chance():
    ids = [store.own_id(env, kind) for env, kinds in recipes.table().items() for kind in kinds]
    seeds = {recipes.seed(name) for name in ids}
    assert len(seeds) == len(ids)
    assert min(seeds) > 1_000_000  # nobody trains with these
    assert seeding.stream(min(seeds), "data", 0, 0).generate_state(1) != seeding.stream(0, "data", 0, 0).generate_state(
        1
    )


# The store.


def test_every_recipe_is_made_and_comes_back(place):
    spec = describe(LINE)
    medium, expert, replay, both = (
        load(BufferConfig(**{**vars(ANY), "dataset": kind}), LINE, spec)
        for kind in ("medium", "lineworld/expert", "medium-replay", "medium-expert")
    )
    assert (len(medium), len(expert.length_E), len(replay)) == (130, 7, 200)
    assert same(both, Dataset.concat("", [medium, expert]))
    work = recipes.shares(recipes.table()["lineworld"]["medium"])
    assert same(medium, play(*work, seed=recipes.seed("rlexp/lineworld/medium-v0")))
    about = store.facts("rlexp/lineworld/medium-replay-v0")["rlexp"]
    assert [policy["steps"] for policy in about["policies"]] == [80, 80, 40]
    good = store.facts("rlexp/lineworld/medium-expert-v0")["rlexp"]["policies"][0]
    assert good["scores"] == {"mean": {"return_mean": -1}}
    assert (good["policy"], good["card"]["step"], good["sampled"], good["episodes"]) == ("good", 100, True, 7)


def test_minari_reads_ours(place):
    data = load(BufferConfig(**{**vars(ANY), "dataset": "medium"}), LINE, describe(LINE))
    theirs = minari.load_dataset("rlexp/lineworld/medium-v0")
    assert (theirs.total_steps, theirs.total_episodes) == (130, 7)
    for i, episode in enumerate(theirs.iterate_episodes()):
        rows = slice(data.start_E[i], data.start_E[i] + data.length_E[i])
        assert np.array_equal(episode.observations[:-1], data.obs_NO[rows])
        assert np.array_equal(episode.observations[-1], data.final_obs_EO[i])
        assert np.array_equal(episode.actions, data.action[rows])
        assert np.array_equal(episode.rewards, data.reward_N[rows])
        ends = np.zeros(len(episode), bool)
        assert np.array_equal(episode.terminations[:-1] | episode.truncations[:-1], ends[1:])
        assert (episode.terminations[-1], episode.truncations[-1]) == (data.terminated_E[i], not data.terminated_E[i])
        assert f"total_steps={data.length_E[i]}" in repr(episode)
    assert list(minari.list_local_datasets()) == ["rlexp/lineworld/medium-v0"]
    assert minari.load_dataset("rlexp/lineworld/medium-v0").recover_environment().spec.id == LINE.id
    assert theirs.sample_episodes(2)[0].actions.dtype == np.int64
    words = [sys.executable, "-m", "minari.cli", "list", "local"]
    listed = subprocess.run(words, capture_output=True, text=True, timeout=100, env={**os.environ, "COLUMNS": "200"})
    assert "rlexp/lineworld/medium-v0" in listed.stdout
    for namespace in ("rlexp", "rlexp/lineworld"):
        assert namespace in minari.namespace.list_local_namespaces()


def test_minari_knows_the_reference_scores(place):
    data = episodes([30, 20])
    data = Dataset("x", np.zeros((50, 11), np.float32), np.zeros((50, 3), np.float32), data.reward_N, data.length_E,
                   data.terminated_E, np.zeros((2, 11), np.float32))  # fmt: skip
    store.write("rlexp/hopper/mine-v0", data, HOPPER, {})
    theirs = minari.load_dataset("rlexp/hopper/mine-v0")
    assert 100 * minari.get_normalized_score(theirs, data.return_E[0]) == pytest.approx(HOPPER.score(data.return_E[0]))
    assert same(store.read("rlexp/hopper/mine-v0"), data)


def buffers(observations):
    ends = np.array([False, False, True])
    more = {"rewards": [1.0, 2.0, 3.0], "terminations": ends, "truncations": ~ends & False}
    return [EpisodeBuffer(id=i, observations=observations, actions=np.ones((3, 2)), **more) for i in range(2)]


@pytest.mark.filterwarnings("ignore:.*is set to None")
@pytest.mark.filterwarnings("ignore:env_spec is None")
def test_other_data_sets_of_minari(place):
    box = gym.spaces.Box(-1, 1, (2,), np.float64)
    obs = np.random.default_rng(0).normal(size=(4, 2))
    minari.create_dataset_from_buffers("other/flat-v3", buffers(obs), action_space=box, observation_space=box)
    data = load(BufferConfig(**{**vars(ANY), "dataset": "minari:other/flat-v3"}), LINE, replace_spec(2, 2))
    assert data.obs_NO.tolist() == np.concatenate([obs[:-1], obs[:-1]]).astype(np.float32).tolist()
    assert data.final_obs_EO.tolist() == [obs[-1].astype(np.float32).tolist()] * 2
    assert data.reward_N.tolist() == [1, 2, 3] * 2
    assert data.terminated_E.all()
    space = gym.spaces.Dict({"a": box})
    minari.create_dataset_from_buffers("dict-v0", buffers({"a": obs}), action_space=box, observation_space=space)
    assert store.read("dict-v0").obs_NO.tolist() == data.obs_NO.tolist()


def replace_spec(obs_dim, n_actions):
    return EnvSpec(obs_dim, "continuous", n_actions, -np.ones(n_actions), np.ones(n_actions))


@pytest.mark.parametrize("network", [True, False])
def test_downloading_that_fails_is_one_line(network, place, monkeypatch):
    def fails(*_):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(store.urllib.request, "getproxies", dict)
    monkeypatch.setattr(store.socket, "getaddrinfo", (lambda *_: []) if network else fails)
    monkeypatch.setattr(minari, "download_dataset", fails if network else pytest.fail)
    generate.make("lineworld", "medium", 1)
    with pytest.raises(UserError) as error:
        asked("minari:mujoco/hopper/medium-v0")
    assert str(error.value) == (
        "buffer.dataset=minari:mujoco/hopper/medium-v0: 'mujoco/hopper/medium-v0' is not on this machine and cannot be "
        "downloaded (no route to host); here are: lineworld/medium"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("medum", "lineworld has no data set 'medum'; did you mean 'medium'? it has medium, expert, medium-replay"),
        ("nothing", "lineworld has no data set 'nothing'; it has medium, expert, medium-replay, medium-expert, lost"),
        ("lineword/expert", "there are no data sets of env=lineword; did you mean 'lineworld'?"),
        ("lost", "lineworld/lost cannot be made: its policy 'nowhere' is not there"),
        ("a/b/c", "is no name of a data set: <kind>, <env>/<kind> or minari:<id>"),
        ("../x", "is no name of a data set"),
        ("minari:../x-v0", "'../x-v0' is no name of a data set"),
    ],
)
def test_unknown_names(place, name, message):
    with pytest.raises(UserError) as error:
        asked(name)
    assert str(error.value).startswith(f"buffer.dataset={name}: {message}")
    assert "\n" not in str(error.value)


def test_an_environment_without_data_sets(place):
    with pytest.raises(UserError, match="there are no data sets of env=cartpole; there are of lineworld"):
        asked("medium", built("env=cartpole").env)


def test_data_of_older_policies_are_not_taken_for_the_present_ones(place):
    generate.make("lineworld", "medium-expert", 1)
    policy_file(place / "policies" / "good.safetensors", seed=9)
    for kind in ("medium", "medium-expert"):
        with pytest.raises(UserError, match=f"rlexp data make lineworld/{kind} --replace, or use it as it is: minari:"):
            asked(kind)
    with pytest.raises(UserError, match="rlexp data make lineworld/medium --replace"):
        generate.make("lineworld", "medium", 1)
    assert generate.outdated("lineworld", "medium")
    assert len(asked("minari:rlexp/lineworld/medium-v0")) == 130
    before = store.read("rlexp/lineworld/medium-v0")
    generate.make("lineworld", "medium-expert", 1, replace=True)  # as told, and with it the part that it is made of
    assert not generate.outdated("lineworld", "medium")
    assert not same(asked("medium"), before)
    assert not generate.outdated("lineworld", "medium-expert")
    (place / "policies" / "good.safetensors").unlink()  # what cannot be compared is believed
    assert len(asked("medium")) == 130


def test_a_policy_that_is_replaced_while_it_plays_is_found_out(place, monkeypatch):
    def pulled(*args):
        made = original(*args)
        policy_file(place / "policies" / "good.safetensors", seed=9)
        return made

    original = generate.play
    monkeypatch.setattr(generate, "play", pulled)
    with pytest.raises(UserError, match="lineworld/medium: its policies changed while it was being made"):
        generate.make("lineworld", "medium", 1)
    assert not store.exists("rlexp/lineworld/medium-v0")


def test_broken_files_of_the_store(place):
    generate.make("lineworld", "medium", 1)
    file = store.folder("rlexp/lineworld/medium-v0") / "data" / "main_data.hdf5"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"main_data.hdf5: cannot be read, it is cut short or broken"):
        asked("medium")
    file.write_bytes(whole)
    with h5py.File(file, "a") as h5:
        del h5["episode_3"]
    with pytest.raises(UserError, match="cannot be read"):
        asked("medium")


def test_a_failure_while_writing_leaves_what_was_there(place, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(store, "_metadata", full)
    with pytest.raises(OSError, match="No space"):
        generate.make("lineworld", "medium", 1)
    assert names(place / "minari") == []
    monkeypatch.undo()
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(place / "minari"))
    store.write("rlexp/lineworld/mine-v0", episodes([3], discrete=True), LINE, {})
    before = names(place / "minari")
    monkeypatch.setattr(store, "_metadata", full)
    with pytest.raises(OSError, match="No space"):
        store.write("rlexp/lineworld/mine-v0", episodes([4], discrete=True), LINE, {})
    assert names(place / "minari") == before
    assert len(store.read("rlexp/lineworld/mine-v0")) == 3


def test_what_a_killed_process_left_is_cleared(place):
    aside = store._aside("rlexp/lineworld/medium-v0")
    (aside / "data").mkdir(parents=True)
    (aside / "data" / "main_data.hdf5").write_bytes(b"half")
    assert minari.list_local_datasets() == {}
    generate.make("lineworld", "medium", 1)
    assert len(asked("medium")) == 130
    assert not aside.exists()


def test_reading_needs_little_more_memory_than_what_is_read(place):
    data = episodes([500] * 100)
    data = Dataset("x", np.tile(data.obs_NO, (1, 4))[:, :11], np.zeros((50_000, 3), np.float32), data.reward_N,
                   data.length_E, data.terminated_E, np.zeros((100, 11), np.float32))  # fmt: skip
    store.write("rlexp/hopper/mine-v0", data, HOPPER, {})
    store.read("rlexp/hopper/mine-v0")  # imports what it needs
    tracemalloc.start()
    read = store.read("rlexp/hopper/mine-v0")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert same(read, data)
    assert peak < 1.2 * (data.obs_NO.nbytes + data.action.nbytes + data.reward_N.nbytes)


def test_importing_data_imports_neither_minari_nor_torch():
    modules = "sys, rlexp.buffers.dataset, rlexp.cli.main"
    code = f"import {modules}; sys.exit(bool({{'minari', 'torch', 'h5py'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
