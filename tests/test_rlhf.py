"""RLHF: what is learned from comparisons, what the policy is paid, and that nothing else tells it anything."""

import argparse
import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from omegaconf import OmegaConf

from rlexp.algos import rlhf
from rlexp.algos.rlhf import RLHF, RewardNet, RLHFPolicy, predicted_sums, reward_loss, steps_of
from rlexp.buffers.preferences import Pairs
from rlexp.buffers.trajectories import Trajectories
from rlexp.cli import main
from rlexp.cli.commands import rlhf as rlhf_commands
from rlexp.datasets.formats import read
from rlexp.engines.serial import Serial
from rlexp.envs.make import describe
from rlexp.envs.make import make as make_env
from rlexp.experiment.task import make_task
from rlexp.policies.files import load_policy, save_policy
from rlexp.report import cloned, scatter
from rlexp.report.courses import Bar, judged
from rlexp.report.publish import publish
from rlexp.report.records import read_config
from rlexp.report.references import Entry
from rlexp.rollout.collector import collect_steps
from rlexp.rollout.score import evaluate
from rlexp.util import checkpoint, paths, seeding, stats
from rlexp.util.errors import UserError
from tests.helpers import ROOT, built, run_on, toy, train, work_in

NOTHING = -1e9  # as a reward


class Muted(CartPoleEnv):
    """CartPole whose reward says nothing of the task while `muted`."""

    muted = False

    def step(self, action):
        obs, reward, *rest = super().step(action)
        return obs, NOTHING if Muted.muted else reward, *rest


gym.register("rlexp_test/Muted-v0", entry_point=Muted, max_episode_steps=200)
MUTED = ["env=gym", "env.id=rlexp_test/Muted-v0"]
PENDULUM = ["env=gym", "env.id=InvertedDoublePendulum-v5", "policy.log_std=1.0"]
FOREVER = ["env=cartpole_forever"]
SMALL = ["train.budget=9", "policy.hidden=[8]", "algo.novice_epochs=2", "algo.steps_per_epoch=300", "algo.num_envs=5",
         "algo.num_pairs=60", "algo.reward_epochs=2", "algo.reward_hidden=[8]", "algo.ensemble_size=2"]  # fmt: skip


def make(*words: str, seed: int = 0) -> RLHF:
    run = built("algo=rlhf", *SMALL, *words)
    seeding.seed_globals(seeding.stream(seed, "init"))
    algo = run.algo_class(run.algo, make_task(run, describe(run.env), seed))
    assert isinstance(algo, RLHF)
    return algo


def until(algo: RLHF, stage: int) -> RLHF:
    while algo.stage < stage:
        algo.step()
    return algo


def play(algo: RLHF, actor) -> Trajectories:
    """An epoch's episodes, as its `step` plays them."""
    return collect_steps(algo.config.steps_per_epoch, algo._new_envs, algo.task.spec, actor, algo.generator)


def two(length: tuple[int, int] = (2, 4)) -> Trajectories:
    """Two trajectories of one observation and two actions; nonsense after their ends."""
    rng = np.random.default_rng(0)
    obs_ETO = rng.normal(size=(2, 4, 1)).astype(np.float32)
    for e, n in enumerate(length):
        obs_ETO[e, n:] = 1e6
    return Trajectories(obs_ETO, rng.integers(2, size=(2, 4)), np.zeros((2, 4), np.float32), np.array(length))


# The reward


def test_a_piece_is_worth_the_sum_of_its_own_steps():
    net, data = RewardNet("discrete", 1, 2, [8], 3), two()
    index_B2 = np.array([[0, 1], [1, 0], [1, 1]])
    sums_MB2 = predicted_sums(net, steps_of(data, index_B2))
    assert sums_MB2.shape == (3, 3, 2)
    for e, n in enumerate((2, 4)):
        r_MN = net(torch.from_numpy(data.obs_ETO[e, :n]), torch.from_numpy(data.action[e, :n]))
        assert torch.allclose(sums_MB2[:, index_B2 == e], r_MN.sum(1, keepdim=True), atol=1e-5)


def test_reward_loss_is_the_cross_entropy_of_the_preferred_piece_a_mean_over_pairs_for_each_network():
    net, data = RewardNet("discrete", 1, 2, [8], 2), two()
    b = steps_of(data, np.array([[1, 0], [1, 0], [0, 1]]))
    loss, metrics = reward_loss(net, b)
    sums_MB2 = predicted_sums(net, b).detach()
    first = torch.zeros(3, dtype=torch.long)
    each = [torch.nn.functional.cross_entropy(sums_B2, first).item() for sums_B2 in sums_MB2]
    assert loss.item() == pytest.approx(sum(each), rel=1e-5)
    assert metrics["loss/reward"].item() == pytest.approx(sum(each) / 2, rel=1e-5)


def test_the_networks_learn_which_step_is_worth_more():
    """Action 1 is preferred wherever it is taken; the networks end paying more for it."""
    algo, rng = make("algo.reward_lr=0.01", "algo.centre=true", *FOREVER), np.random.default_rng(0)
    action = rng.integers(2, size=(60, 10))
    data = Trajectories(rng.normal(size=(60, 10, 4)).astype(np.float32), action, action.astype(np.float32),
                        np.full(60, 10))  # fmt: skip
    algo._compare(data, 200)
    for _ in range(20):
        metrics = algo._fit()
    assert metrics["data/reward_accuracy"] > 0.8
    obs_NO = rng.normal(size=(50, 4)).astype(np.float32)
    paid = [algo.reward.pay(obs_NO, np.full(50, a)) for a in (0, 1)]
    assert (paid[1] > paid[0] + 1).all(), "in standard deviations: the two lie 2 apart"


@pytest.mark.parametrize("centre", [True, False])
def test_every_network_is_standardised_by_itself_over_what_was_compared(centre):
    algo = until(make(f"algo.centre={centre}".lower(), *FOREVER), 3)
    data = Trajectories(**algo.compared[0]["trajectories"])
    x = torch.from_numpy(data.obs_ETO[data.valid_ET]), torch.from_numpy(data.action[data.valid_ET])
    with torch.no_grad():
        r_MN = algo.reward(*x)
        standard_MN = (r_MN - algo.reward.shift) / algo.reward.scale
    assert standard_MN.std(1).tolist() == pytest.approx([1, 1], abs=1e-3)
    raw = (r_MN.mean(1) / r_MN.std(1)).tolist()
    assert standard_MN.mean(1).tolist() == pytest.approx([0, 0] if centre else raw, abs=1e-3)
    assert max(map(abs, raw)) > 0.01, "else the two could not be told apart"
    assert algo.reward.pay(*(part.numpy() for part in x)) == pytest.approx(standard_MN.mean(0).numpy(), abs=1e-5)
    assert algo.reward.obs_std.tolist() == pytest.approx(x[0].std(0, correction=0).tolist(), rel=1e-3)


def test_no_episode_that_is_held_out_is_learned_from():
    algo = until(make("algo.validation_fraction=0.4"), 2)
    learned, out = (tree["trajectories"]["obs_ETO"][:, 0] for tree in algo.compared)
    assert len(learned) + len(out) == sum(len(columns["length_E"]) for columns in algo.novices)
    assert not {tuple(row) for row in learned.tolist()} & {tuple(row) for row in out.tolist()}
    assert [len(tree["first_P"]) for tree in algo.compared] == [60, 24]


def test_accuracy_is_of_the_held_out_labels():
    algo = until(make("algo.reward_epochs=1"), 2)
    out = algo.compared[1]
    out["first_P"] = ~out["first_P"]
    wrong = make("algo.reward_epochs=1")
    until(wrong, 2)
    a, b = (x._fit()["data/reward_accuracy"] for x in (algo, wrong))
    assert a == pytest.approx(1 - b)
    assert b != 0.5


@pytest.mark.parametrize(("temperature", "low", "high"), [(0.01, 0.0, 0.0), (1e6, 0.3, 0.7)])
def test_labels_are_samples_at_the_temperature(temperature, low, high):
    algo = until(make(f"algo.temperature={temperature}", "algo.num_pairs=400"), 2)
    tree = algo.compared[0]
    return_P2 = Trajectories(**tree["trajectories"]).return_E[tree["index_P2"]]
    differ = return_P2[:, 0] != return_P2[:, 1]
    against = (tree["first_P"] != (return_P2[:, 0] > return_P2[:, 1]))[differ].mean()
    assert low <= against <= high


def test_fragments_are_equally_long_and_whole_episodes_are_whole():
    cut = until(make("algo.fragment_length=30", *FOREVER), 2)
    assert all(set(tree["trajectories"]["length_E"]) == {30} for tree in cut.compared)
    whole = until(make(), 2)
    kept = {int(n) for columns in whole.novices for n in columns["length_E"]}
    assert {int(n) for tree in whole.compared for n in tree["trajectories"]["length_E"]} == kept


# What the policy hears


@pytest.mark.parametrize("reward", ["learned", "constant", "random"])
def test_the_true_reward_does_not_reach_the_policy(reward, monkeypatch):
    """Not a number in its place, all through stage 3: every parameter and every random draw stay what they were."""
    ends = []
    for muted in (False, True):
        algo = until(make(f"algo.reward={reward}", *MUTED), 3)
        monkeypatch.setattr(Muted, "muted", muted)
        for _ in range(3):
            metrics = algo.step().metrics
        assert (metrics["data/true_return_mean"] <= NOTHING) == muted
        monkeypatch.setattr(Muted, "muted", False)
        ends.append([algo.learner.theta, algo.reward.shift, algo.fitter.theta, algo.generator.get_state()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_the_true_reward_does_where_it_is_asked_for(monkeypatch):
    ends = []
    for muted in (False, True):
        algo = until(make("algo.reward=environment", *MUTED), 3)
        monkeypatch.setattr(Muted, "muted", muted)
        algo.step()
        monkeypatch.setattr(Muted, "muted", False)
        ends.append(algo.learner.theta)
    assert not torch.equal(*ends)


def test_the_policy_is_paid_the_standardised_reward_of_what_it_did_and_nothing_after_its_end():
    algo = until(make(), 3)
    played = play(algo, algo.actor)
    paid_ET = algo._pay(played)
    assert not paid_ET[~played.valid_ET].any()
    e = int(played.length_E.argmin())
    n = played.length_E[e]
    assert n < played.length_E.max()
    assert paid_ET[e, :n] == pytest.approx(algo.reward.pay(played.obs_ETO[e, :n], played.action[e, :n]), abs=1e-5)
    algo = until(make("algo.reward=constant"), 3)
    assert np.array_equal(algo._pay(played), played.valid_ET)


def test_advantages_are_discounted_sums_to_the_episodes_end_standardised():
    algo, seen = make("algo.gamma=0.5"), []
    algo.learner.update = lambda batch: (seen.append(batch), {})[1]
    data = two()
    data = Trajectories(np.zeros((2, 4, 4), np.float32), data.action, data.reward_ET, data.length_E,
                        np.zeros((2, 4), np.float32))  # fmt: skip
    algo._improve(algo.learner, data, np.array([[1, 2, 0, 0], [3, 4, 5, 6]], np.float32), updates=1)
    R = np.array([1 + 1, 2, 3 + 2 + 1.25 + 0.75, 4 + 2.5 + 1.5, 5 + 3, 6])
    assert seen[0]["adv"].tolist() == pytest.approx(((R - R.mean()) / R.std()).tolist(), abs=1e-5)
    assert seen[0]["action"].tolist() == data.action[data.valid_ET].tolist()


@pytest.mark.parametrize("clip", [None, 0.2])
def test_a_policy_step_makes_better_actions_likelier(clip):
    algo = make(f"algo.clip_coef={clip or 'null'}")
    obs, action = torch.zeros(2, 4), torch.tensor([0, 1])
    with torch.no_grad():
        logp = algo.actor.log_prob_entropy(obs, action)[0]
    algo.learner.update({"obs": obs, "action": action, "adv": torch.tensor([-1.0, 1.0]), "logp": logp})
    after = algo.actor.log_prob_entropy(obs, action)[0]
    assert after[1] > logp[1]
    assert after[0] < logp[0]


def test_the_clip_ends_the_pull_of_what_has_gone_far_enough_and_not_the_pull_back():
    algo = make("algo.clip_coef=0.2")
    obs, action = torch.zeros(1, 4), torch.tensor([0])
    logp = algo.actor.log_prob_entropy(obs, action)[0].detach()
    for ratio, adv, moved in ((1.3, 1.0, False), (1.3, -1.0, True), (0.7, -1.0, False), (0.7, 1.0, True)):
        algo.learner.grad.zero_()
        b = {"obs": obs, "action": action, "adv": torch.tensor([adv]), "logp": logp - math.log(ratio)}
        loss = algo.policy_loss(algo.actor, b)[0]
        assert loss.item() == pytest.approx(-adv * (ratio if moved else (1.2 if adv > 0 else 0.8)), rel=1e-4)
        loss.backward()
        assert bool(algo.learner.grad.any()) == moved


# Stages


def test_stages_follow_each_other_and_the_clock_counts_epochs():
    algo, seen = make(), []
    for _ in range(6):
        progress = algo.step()
        seen.append((int(progress.metrics["data/stage"]), progress.updates, progress.env_steps > 0))
    assert seen == [(1, 1, True)] * 2 + [(2, 0, False)] * 2 + [(3, 1, True)] * 2


def test_controls_fit_nothing():
    for reward in ("constant", "random", "environment"):
        algo = make(f"algo.reward={reward}")
        before = algo.fitter.theta.clone()
        assert [int(algo.step().metrics["data/stage"]) for _ in range(4)] == [1, 1, 3, 3]
        assert torch.equal(algo.fitter.theta, before)
    random = until(make("algo.reward=random"), 3)
    assert random.reward.scale.tolist() != [[1.0], [1.0]], "standardised all the same"


def test_arms_share_their_novices():
    a, b = (until(make(f"algo.reward={reward}"), 2) for reward in ("learned", "constant"))
    assert torch.equal(a.novice.theta, b.novice.theta)
    assert all(np.array_equal(x["obs_ETO"], y["obs_ETO"]) for x, y in zip(a.novices, b.novices, strict=True))


@pytest.mark.parametrize("reward", ["learned", "constant"])
def test_the_policy_is_a_new_one_and_the_novice_is_scored_until_there_is_one(reward):
    algo = make(f"algo.reward={reward}")
    new = algo.learner.theta.clone()
    for _ in range(2):
        algo.step()
    assert torch.equal(algo.learner.theta, new), "novices do not train it"
    assert not torch.equal(algo.novice.theta, new)
    weight = algo.policy().state_dict()["actor"]["body.0.weight"]
    assert torch.equal(weight, algo.novice_actor.body[0].weight)
    old = until(algo, 3).novice.theta.clone()
    algo.step()
    assert torch.equal(algo.novice.theta, old)
    assert not torch.equal(algo.learner.theta, new)
    weight = algo.policy().state_dict()["actor"]["body.0.weight"]
    assert torch.equal(weight, algo.actor.body[0].weight)
    assert isinstance(algo.policy(), RLHFPolicy) == (reward == "learned")


def test_the_policys_own_episodes_are_compared_every_so_many_epochs():
    algo, sizes = until(make("algo.relabel_every=2", "algo.relabel_pairs=20"), 3), []
    kept = []
    keep = algo._keep
    algo._keep = lambda played: (kept.append(keep(played)), kept[-1])[1]
    for _ in range(8):
        before, stage = algo.fitter.theta.clone(), algo.stage
        algo.step()
        sizes.append((stage, len(algo.compared[0]["first_P"])))
        assert torch.equal(algo.fitter.theta, before) == (stage == 3)
    assert sizes == [(3, 60), (3, 80), (2, 80), (2, 80), (3, 80), (3, 100), (2, 100), (2, 100)]
    everything = algo.compared[0]
    newest = Trajectories(**everything["trajectories"]).take(everything["index_P2"][-20:].ravel())
    theirs = {tuple(row) for row in kept[-1].obs_ETO[:, 0].tolist()}
    assert {tuple(row) for row in newest.obs_ETO[:, 0].tolist()} <= theirs
    gap_P = np.diff(newest.return_E.reshape(-1, 2))[:, 0]
    clear = abs(gap_P) > 8
    assert clear.any()
    assert np.array_equal(everything["first_P"][-20:][clear], gap_P[clear] < 0), "labels point at their own pairs"


def test_continuous_actions_are_judged_as_executed_and_learned_as_sampled():
    algo = until(make("algo.kept_episodes=20", *PENDULUM), 3)
    executed = np.concatenate([np.ravel(columns["action"]) for columns in algo.novices])
    assert abs(executed).max() == 1
    played, paid = play(algo, algo.actor), []
    assert abs(played.action[played.valid_ET]).max() > 1
    pay = algo.reward.pay
    algo.reward.pay = lambda obs, action: (paid.append(action), pay(obs, action))[1]
    algo._pay(played)
    assert abs(paid[0]).max() == 1
    seen = []
    algo.learner.update = lambda batch: (seen.append(batch), {})[1]
    algo._improve(algo.learner, played, played.reward_ET, updates=1)
    assert seen[0]["action"].abs().max() > 1


# Reuse


def test_the_learned_reward_is_in_the_policy_file_and_another_run_can_take_it(tmp_path):
    algo = until(make(), 3)
    algo.step()
    file, config = tmp_path / "policy.safetensors", built("algo=rlhf", "env=cartpole").env
    save_policy(file, algo.policy(), config, {})
    chance = torch.get_rng_state()
    loaded = load_policy(file).policy
    assert torch.equal(torch.get_rng_state(), chance)
    assert isinstance(loaded, RLHFPolicy)
    obs_NO, action = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32), np.arange(9) % 2
    assert np.array_equal(loaded.reward.pay(obs_NO, action), algo.reward.pay(obs_NO, action))

    heir = make(f"algo.reward_from={file}", "algo.relabel_every=2")
    assert heir.stage == 3
    heir.step()
    assert np.array_equal(heir.reward.pay(obs_NO, action), algo.reward.pay(obs_NO, action))
    scale = heir.reward.obs_std.clone()
    heir.step()
    assert heir.stage == 2, "its own episodes are compared here too"
    heir.step()
    assert torch.equal(heir.reward.obs_std, scale), "what the networks were fitted to see they go on seeing"
    with pytest.raises(UserError, match=r"reward_from.*environment's"):
        make(f"algo.reward_from={file}", "env=lineworld")
    save_policy(file, until(make("algo.reward=constant"), 3).policy(), config, {})
    with pytest.raises(UserError, match=r"reward_from.*no learned reward"):
        make(f"algo.reward_from={file}")


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["algo.novice_epochs=9"], "novice_epochs"),
        (["algo.novice_epochs=0"], "novice_epochs"),
        (["algo.reward=constant", "algo.reward_from=x"], "reward_from"),
    ],
)
def test_impossible_settings_are_refused(words, key):
    with pytest.raises(UserError, match=rf"algo\.{key}"):
        built("algo=rlhf", *SMALL, *words)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder with one seed that has come to its end."""
    place = tmp_path_factory.mktemp("run")
    run = built("algo=rlhf", "env=cartpole200", *SMALL, "train.save_every=3", "video=none", "logger=none",
                "train.snapshot_every=1", "train.eval_episodes=1")  # fmt: skip
    train(run, place / "seed_0")
    return place


def rlexp(*words, capsys=None):
    parser = argparse.ArgumentParser()
    rlhf_commands.add(parser.add_subparsers())
    args = parser.parse_args([str(word) for word in words])
    assert args.run(args) == 0
    return capsys.readouterr().out if capsys else ""


def test_novices_episodes_as_a_file_for_behaviour_cloning(finished, tmp_path):
    rlexp("novices", finished / "seed_0", "--export", tmp_path / "demos.npz")
    data, algo = read(tmp_path / "demos.npz"), until(make("env=cartpole200"), 2)
    kept = Trajectories.join([Trajectories(**columns) for columns in algo.novices])
    assert data.length_E.tolist() == kept.length_E.tolist()
    assert np.array_equal(data.obs_NO, kept.obs_ETO[kept.valid_ET])
    assert np.array_equal(data.action, kept.action[kept.valid_ET])
    assert data.return_E.tolist() == kept.return_E.tolist()
    with pytest.raises(UserError, match="one seed's folder"):
        rlexp("novices", finished, "--export", tmp_path / "demos.npz")
    with pytest.raises(UserError, match=r"end in \.npz"):
        rlexp("novices", finished / "seed_0", "--export", tmp_path / "demos.pkl")


def test_cloning_of_the_same_episodes_is_one_command(tmp_path, capsys, monkeypatch):
    own = ["env.max_episode_steps=150", "+env.kwargs.sutton_barto_reward=false"]
    run = built("algo=rlhf", "env=cartpole200", *own, *SMALL, "video=none", "logger=none", "train.eval_episodes=1")
    work = work_in(tmp_path / "run", run)
    run_on(Serial(Serial.Config()), work, work.jobs())
    few = ["train.budget=4", "train.eval_every=2", "train.eval_episodes=2", "algo.log_every=2", "logger=none"]
    assert main.main(["clone", str(work.path), *few]) == 0
    said = capsys.readouterr().out
    assert "| seed | RLHF | cloning of the same episodes |" in said
    (arm,) = work.path.glob("clone/*/*/seed_0/run.json")
    assert read_config(arm.parent)["env"] == run.plain["env"]
    clone = json.loads(arm.read_text())["seeds"]["0"]["final"]["return_mean"]
    learned = json.loads((work.path / "run.json").read_text())["seeds"]["0"]["final"]["return_mean"]
    assert f"| 0 | {learned:.1f} | {clone:.1f} |" in said
    assert main.main(["clone", str(work.path)]) == 0, "it goes on, here with nothing left to do"
    assert f"| 0 | {learned:.1f} | {clone:.1f} |" in capsys.readouterr().out
    assert len(list(work.path.glob("clone/*/*/study.yaml"))) == 1
    clones = cloned.returns(work.path)
    assert (set(clones), clones["0"]) == ({"0", "1", "2"}, clone)
    monkeypatch.setattr(paths, "GALLERY", tmp_path / "gallery")
    entry = Entry.read(publish(work.path))
    assert entry.card["cloned"] == clones
    bar = Bar("more", [{"entry": entry.name}], "return_mean", above=0, minus_clones=True)
    ended = {seed: facts["final"]["return_mean"] for seed, facts in entry.card["seeds"].items()}
    assert judged(bar)[0].mean == pytest.approx(np.mean([ended[seed] - clones[seed] for seed in clones]))


def test_every_novice_is_scored_and_the_best_found(finished, capsys):
    (row,) = json.loads(rlexp("novices", finished, "--episodes", 5, "--json", capsys=capsys))["novices"]
    files = [
        finished / "seed_0" / "checkpoints" / f"policy_{epoch:012d}.safetensors" for epoch in (0, 1)
    ]  # an epoch plays, then improves
    again = [evaluate(load_policy(file), 5, sampled=True)["return_mean"] for file in files]
    assert row["scores"] == again
    assert len(row["scores"]) == len(until(make("env=cartpole200"), 2).novices)
    assert row["best"] == max(row["scores"])


def test_a_learned_reward_is_compared_with_the_true_one_on_what_it_has_not_seen(finished, tmp_path, capsys):
    out = rlexp("reward", finished, "--out", tmp_path / "r.png", "--json", capsys=capsys)
    (row,) = json.loads(out)["held_out"]
    assert (tmp_path / "r.png").stat().st_size > 5000
    newest = checkpoint.latest(finished / "seed_0" / "checkpoints")
    pairs = Pairs.from_tree(checkpoint.load(newest, "algo")["compared"][1])
    net, data = load_policy(finished).policy.reward, pairs.trajectories
    sums = [
        float(net.pay(o[:n], a[:n]).sum()) for o, a, n in zip(data.obs_ETO, data.action, data.length_E, strict=True)
    ]
    right = [(sums[a] > sums[b]) == first for (a, b), first in zip(pairs.index_P2, pairs.first_P, strict=True)]
    assert row["accuracy"] == pytest.approx(np.mean(right))
    assert row["pearson"] == pytest.approx(np.corrcoef(sums, data.return_E)[0, 1], abs=1e-5)
    assert row["pieces"] == len(data)


def test_runs_without_novices_or_a_learned_reward_say_so(tmp_path):
    run = toy("vpg", "train.budget=400")
    train(run, tmp_path / "seed_0")
    for command in ("novices", "reward"):
        with pytest.raises(UserError, match=r"is of no run with algo=rlhf"):
            rlexp(command, tmp_path)
        with pytest.raises(UserError, match="no such run folder"):
            rlexp(command, tmp_path / "nowhere")


def test_ranks_of_equal_values_are_equal():
    x = np.array([3.0, 1.0, 3.0, 2.0])
    assert scatter._ranks(x).tolist() == [2.5, 0.0, 2.5, 1.0]
    pearson, spearman = scatter.correlations(x, np.exp(x))
    assert pearson < spearman == pytest.approx(1)


def test_an_episode_of_the_time_limit_is_a_timeout_and_a_shorter_one_is_not():
    flat = rlhf_commands.flat(two((2, 4)), 4)
    assert flat["terminals"].tolist() == [False, True, False, False, False, False]
    assert flat["timeouts"].tolist() == [False, False, False, False, False, True]


# CartPole without an end


def test_cartpole_forever_is_cartpole_until_the_fall_and_then_pays_nothing_until_the_limit():
    config = built("algo=rlhf", *FOREVER).env
    forever, plain = make_env(config), gym.make("CartPole-v1")
    for seed, action in ((0, 0), (1, 1)):
        a, b = forever.reset(seed=seed)[0], plain.reset(seed=seed)[0]
        rewards, ended, fell = [], False, False
        while not ended:
            assert a.dtype == np.float32
            if not fell:
                assert np.array_equal(a, b)
                b, _, fell, _, _ = plain.step(action)
                lasted = len(rewards)
            last = a
            a, reward, terminated, ended, _ = forever.step(action)
            rewards.append(reward)
            assert not terminated
            if len(rewards) > lasted + 1:
                assert np.array_equal(a, last), "it stays where it fell"
        assert rewards == [1.0] * lasted + [0.0] * (200 - lasted)
        assert 5 < lasted < 15
        assert abs(a[2]) == pytest.approx(math.pi / 2)
        assert a[1] == a[3] == 0
        assert np.sign(a[2]) == np.sign(b[2])


def test_a_constant_reward_says_nothing_there_and_much_on_cartpole():
    """What is to come, given the step: all alike where episodes are equally long."""
    for words, tells in ((FOREVER, False), (["env=cartpole200"], True)):
        algo = until(make("algo.reward=constant", *words), 3)
        paid_E = algo._pay(play(algo, algo.actor)).sum(1)
        assert (paid_E.std() > 0) == tells


@pytest.mark.parametrize(
    ("name", "env"), [("rlhf_cartpole", "cartpole200"), ("rlhf_cartpole_forever", "cartpole_forever")]
)
def test_the_studies_arms_differ_in_what_teaches(name, env):
    study = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "study" / f"{name}.yaml"))
    runs = [built(*study["common"], *words) for words in study["arms"].values()]
    kinds = [("learned", None), ("learned", 10), ("constant", None), ("random", None), ("environment", None)]
    assert [(run.algo.reward, run.algo.relabel_every) for run in runs] == kinds
    assert all(run.env.name == env and run.train.eval_sampled and run.train.budget == 110 for run in runs)


# Welch's test


def test_welch_agrees_with_students_t_where_samples_are_alike_and_with_a_worked_example():
    a = [1.0, 2.0, 3.0, 4.0]
    gap = stats.t_quantile(0.95, 6) * math.sqrt(2 * np.var(a, ddof=1) / 4)
    t, dof, p = stats.welch(a, [x + gap for x in a])
    assert (dof, p) == pytest.approx((6, 0.05), abs=1e-4)
    assert t < 0
    # Welch's example of unequal variances and sizes: t and dof by hand, p from a table of t
    a, b = [20.0, 22.0, 24.0], [10.0, 30.0, 12.0, 28.0, 20.0]
    t, dof, p = stats.welch(a, b)
    square = 4 / 3 + 82 / 5
    assert t == pytest.approx(2 / math.sqrt(square))
    assert dof == pytest.approx(square**2 / ((4 / 3) ** 2 / 2 + (82 / 5) ** 2 / 4))
    assert p == pytest.approx(stats.welch(b, a)[2]) == pytest.approx(0.656, abs=0.01)


def test_welch_without_spread():
    assert stats.welch([1, 1], [1, 1])[2] == 1
    assert stats.welch([2, 2], [1, 1])[0] == math.inf
    assert stats.welch([2, 2], [1, 1])[2] == 0


def test_the_toy_learns_its_reward(tmp_path):
    run = toy("rlhf")
    algo = run.algo_class(run.algo, make_task(run, describe(run.env), 0))
    rows = []
    while algo.stage < 3:
        rows.append(algo.step().metrics)
    assert rows[-1]["data/reward_accuracy"] > 0.85
    assert algo.step().metrics["data/reward_correlation"] > 0.9
    assert rlhf.__doc__ is not None
