"""DPO: its losses, its reference, its labels, sigma, starting from other people's weights, and exact resume."""

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlexp.algos.dpo import DPO
from rlexp.buffers import pair_files, preferences
from rlexp.buffers.trajectories import Trajectories
from rlexp.cli.commands import pictures
from rlexp.cli.commands import preferences as preference_commands
from rlexp.envs.make import describe
from rlexp.experiment.probe import probe
from rlexp.experiment.task import make_task
from rlexp.nn.actors import Normaliser
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.files import load_policy, save_policy
from rlexp.util.errors import UserError
from tests.helpers import built, metrics, toy, train

PENDULUM = ["env=inverted_double_pendulum", "policy.hidden=[8]", "policy.orthogonal=false"]
SMALL = [
    "algo.episodes_per_iteration=12",
    "algo.num_envs=12",
    "algo.num_pairs=6",
    "algo.batch_size=6",
    "algo.update_epochs=4",
    "train.budget=4",
]


def dpo(*words: str, seed: int = 0) -> DPO:
    run = built("algo=dpo", *PENDULUM, *SMALL, "algo.mean_episodes=0", *words)
    torch.manual_seed(0)
    return DPO(run.algo, make_task(run, describe(run.env), seed))


def collected(*words: str) -> tuple[DPO, dict]:
    """An algorithm at the start of its first iteration's updates, and what it said of the data."""
    algo = dpo(*words)
    while algo.data is None:
        found = algo.step()
        assert found.updates == 0
    return algo, dict(found.metrics)


def at(algo: DPO, h: float, steps: int = 5) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of one pair for which the policy's log-ratios differ by `h` in sum."""
    obs = torch.zeros(1, 2, steps, algo.task.spec.obs_dim)
    action = torch.zeros(1, 2, steps, algo.task.spec.n_actions)
    with torch.no_grad():
        logp = algo.actor.log_prob_entropy(obs, action)[0].clone()
    logp[0, 0] -= h / steps
    return algo.loss(algo.actor, {"obs": obs, "action": action, "logp": logp, "valid": torch.ones(1, 2, steps)})


# --- the losses


@pytest.mark.parametrize("h", [-30.0, 0.0, 7.0])
def test_losses_are_the_papers(h):
    beta = 0.02
    names = ["algo.beta=0.02", "algo.target_margin=0.5"]
    assert at(dpo("algo.loss_type=square", *names), h)[0].item() == pytest.approx((beta * h - 0.5) ** 2, abs=1e-5)
    assert at(dpo("algo.loss_type=ipo", *names), h)[0].item() == pytest.approx((h - 1 / (2 * beta)) ** 2, rel=1e-4)
    logistic = math.log(1 + math.exp(-beta * h))
    assert at(dpo("algo.loss_type=logistic", *names), h)[0].item() == pytest.approx(logistic, rel=1e-4)


def test_square_form_is_ipo_in_another_unit():
    """(βh − z)² = β² (h − 1/(2β'))² at β' = β / (2z)."""
    beta, z = 0.02, 0.5
    square = at(dpo("algo.loss_type=square", f"algo.beta={beta}", f"algo.target_margin={z}"), 4.0)[0]
    ipo = at(dpo("algo.loss_type=ipo", f"algo.beta={beta / (2 * z)}"), 4.0)[0]
    assert square.item() == pytest.approx(beta**2 * ipo.item(), rel=1e-4)


@pytest.mark.parametrize(("h", "sign"), [(0.0, 1), (99.0, 1), (101.0, -1)])
def test_square_form_pulls_the_margin_to_its_target(h, sign):
    """β 0.01 and z 1: the log-ratios' difference is pulled up below 100 nats, and down above."""
    algo = dpo("algo.beta=0.01", "algo.target_margin=1.0")
    reference = {name: p.clone() for name, p in algo.actor.named_parameters()}
    obs = torch.zeros(1, 2, 5, algo.task.spec.obs_dim)
    action = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1).expand(1, 2, 5, 1)
    with torch.no_grad():
        logp = algo.actor.log_prob_entropy(obs, action)[0].clone()
    logp[0, 0] -= h / 5
    batch = {"obs": obs, "action": action, "logp": logp, "valid": torch.ones(1, 2, 5)}
    before = algo.loss(algo.actor, batch)[1]["opt/margin_mean"].item()
    assert before == pytest.approx(0.01 * h, abs=1e-4)
    algo.learner.update(batch, lr=1e-3)
    after = algo.loss(algo.actor, batch)[1]["opt/margin_mean"].item()
    assert np.sign(after - before) == sign
    assert any((p != reference[name]).any() for name, p in algo.actor.named_parameters())


def test_sums_are_steps_times_means():
    words = ["algo.loss_type=ipo", "algo.beta=0.5"]
    total, mean = (at(dpo(*words, f"algo.reduction={r}"), 10.0)[1]["opt/margin_mean"] for r in ("sum", "mean"))
    assert total.item() == pytest.approx(5.0, abs=1e-4)
    assert total.item() == pytest.approx(5 * mean.item(), rel=1e-4)


def test_what_follows_an_episodes_end_counts_for_nothing():
    for reduce in ("sum", "mean"):
        algo, _ = collected(f"algo.reduction={reduce}")
        batch = algo._batch(algo.train_P2)
        assert not batch["valid"].all(), "episodes of equal length would show nothing"
        with torch.no_grad():
            algo.learner.theta.add_(0.05)
        garbage = torch.where(batch["valid"].bool(), batch["logp"], torch.tensor(9.0))
        noise = torch.where(batch["valid"].bool().unsqueeze(-1), batch["obs"], torch.tensor(3.0))
        other = {**batch, "logp": garbage, "obs": noise}
        longer = {
            k: torch.cat([v, v[:, :, :1] * 0], 2) for k, v in other.items()
        }  # the pair's mean is over taken steps
        a, b = (algo.loss(algo.actor, x) for x in (batch, longer))
        assert a[0].item() == pytest.approx(b[0].item(), rel=1e-5)
        assert {k: v.item() for k, v in a[1].items()} == pytest.approx({k: v.item() for k, v in b[1].items()}, rel=1e-4)


# --- an iteration


@pytest.mark.parametrize(("loss", "expected"), [("logistic", math.log(2)), ("square", 1.0), ("ipo", 0.25e4)])
def test_at_step_zero_the_margin_is_zero(loss, expected):
    algo, _ = collected(f"algo.loss_type={loss}")
    value, found = algo.loss(algo.actor, algo._batch(algo.train_P2))
    assert value.item() == pytest.approx(expected, rel=1e-4)
    for name in ("margin_mean", "margin_std", "log_ratio_preferred", "log_ratio_other", "kl"):
        assert found[f"opt/{name}"].item() == pytest.approx(0, abs=1e-4)


def test_reference_stays_while_the_policy_moves_and_preferred_ones_gain():
    words = ("algo.num_pairs=1", "algo.lr=1e-3", "algo.update_epochs=6", "train.budget=6")
    algo, _ = collected(*words, "algo.loss_type=logistic", "algo.beta=0.1")
    reference, data, theta = algo._batch(algo.train_P2), algo.data, algo.learner.theta.clone()
    ratios = []
    for _ in range(5):
        found = algo.step().metrics
        ratios.append(found["opt/log_ratio_preferred"] - found["opt/log_ratio_other"])
        assert algo.data is data
        assert torch.equal(algo._batch(algo.train_P2)["logp"], reference["logp"])
    assert not torch.equal(algo.learner.theta, theta)
    assert ratios[0] == pytest.approx(0, abs=1e-4)
    assert ratios[-1] > ratios[1] > 0
    final = algo.loss(algo.actor, reference)[1]
    assert final["opt/log_ratio_preferred"] > 0 > final["opt/log_ratio_other"]
    assert final["opt/accuracy"] == 1
    assert final["opt/kl"] > 0


def test_each_iteration_has_fresh_data_a_new_reference_and_a_new_adam():
    algo, _ = collected("algo.iterations=2", "algo.update_epochs=2", "train.budget=4")
    first = algo.data
    algo.step()
    algo.step()
    assert algo.data is None, "data of a finished iteration are let go"
    assert float(algo.learner.t) == 2
    algo.step()
    assert float(algo.learner.t) == 0
    assert not algo.learner.m.any()
    assert not np.array_equal(algo.data["obs_ETO"][:, 0], first["obs_ETO"][:, 0])
    batch = algo._batch(algo.train_P2)
    now = algo.actor.log_prob_entropy(batch["obs"], batch["action"])[0]
    valid = batch["valid"].bool()
    torch.testing.assert_close(now[valid], batch["logp"][valid], rtol=1e-4, atol=1e-4)


def test_kl_estimate_is_the_gaussians():
    """A mean moved by d at std σ has KL d² / (2 σ²) in every state."""
    algo, _ = collected(
        "algo.episodes_per_iteration=200",
        "algo.num_envs=200",
        "algo.num_pairs=90",
        "algo.batch_size=90",
        "algo.update_epochs=4",
    )
    with torch.no_grad():
        algo.actor.body[-1].bias += 0.3
    found = algo.loss(algo.actor, algo._batch(algo.train_P2))[1]["opt/kl"].item()
    assert found == pytest.approx(0.3**2 / 2, rel=0.15)


def test_held_out_trajectories_are_never_learned_from():
    for words in ([], ["algo.fragment_length=2"]):
        algo, _ = collected(
            "algo.episodes_per_iteration=40", "algo.num_envs=20", "algo.validation_fraction=0.3", *words
        )
        first = {tuple(algo.data["obs_ETO"][i, 0]) for i in algo.train_P2.ravel()}
        other = {tuple(algo.data["obs_ETO"][i, 0]) for i in algo.held_P2.ravel()}
        assert first
        assert other
        assert first.isdisjoint(other)
        assert algo.step().metrics["opt/accuracy_held_out"] >= 0


def test_preferred_ones_mostly_pay_more_and_are_first():
    algo, found = collected("algo.episodes_per_iteration=200", "algo.num_envs=200", "algo.temperature=20")
    data = Trajectories(**algo.data)
    won, lost = data.return_E[algo.train_P2].T
    assert 0 < found["data/label_surprises"] < 0.5
    assert (won < lost).mean() == pytest.approx(found["data/label_surprises"])
    expected = np.abs(np.tanh((won - lost) / 40)).mean()
    assert found["data/label_informativeness"] == pytest.approx(expected)
    assert found["data/return_gap"] == pytest.approx(np.abs(won - lost).mean())


def test_alike_pairs_have_uninformative_labels():
    words = ("algo.temperature=1e6", "algo.episodes_per_iteration=60", "algo.num_envs=60")
    assert collected(*words)[1]["data/label_informativeness"] < 1e-3
    assert collected("algo.temperature=1e-6", *words[1:])[1]["data/label_informativeness"] > 0.5


def test_true_returns_are_in_the_labels_only():
    """Rewards replaced by NaN after labelling change nothing."""
    a, _ = collected()
    b, _ = collected()
    b.data["reward_ET"][:] = np.nan
    for _ in range(4):
        assert dict(a.step().metrics) == dict(b.step().metrics)


def test_collecting_reports_what_the_policy_really_gets():
    algo = dpo("algo.mean_episodes=3", "algo.num_envs=5")
    rounds = [algo.step() for _ in range(3)]
    assert [r.updates for r in rounds] == [0, 0, 0]
    assert not rounds[0].metrics
    data = Trajectories(**algo.data)
    found = rounds[-1].metrics
    assert found["data/return_mean"] == pytest.approx(data.return_E.mean())
    assert found["data/return_std"] == pytest.approx(data.return_E.std(ddof=1))
    assert found["data/return_mean_action"] != found["data/return_mean"]
    assert sum(r.env_steps for r in rounds) > data.length_E.sum(), "episodes with mean actions count"


# --- sigma


def test_frozen_sigma_stays_and_is_saved(tmp_path):
    algo, _ = collected("algo.freeze_std=true", "policy.log_std=-0.7", "algo.lr=1e-2")
    before = algo.actor.body[-1].weight.clone()
    for _ in range(3):
        algo.step()
    assert not torch.equal(algo.actor.body[-1].weight, before)
    assert algo.actor.log_std.tolist() == pytest.approx([-0.7])
    assert algo.state_metrics()["data/std"] == pytest.approx(math.exp(-0.7))
    save_policy(tmp_path / "p.safetensors", algo.policy(), algo.task.env, {})
    again = load_policy(tmp_path / "p.safetensors").policy
    assert again.actor.log_std.tolist() == pytest.approx([-0.7])


def test_sigma_moves_otherwise_but_not_below_its_bound():
    free, _ = collected("algo.lr=0.1", "policy.log_std=-0.7", "algo.min_std=0")
    bound, _ = collected("algo.lr=0.1", "policy.log_std=-0.7", "algo.min_std=0.49")
    for algo in (free, bound):
        for _ in range(3):
            algo.step()
    assert abs(free.state_metrics()["data/std"] - math.exp(-0.7)) > 0.01
    assert bound.state_metrics()["data/std_min"] >= 0.49 - 1e-6
    with torch.no_grad():
        bound.actor.log_std.fill_(-5)
    bound.step()
    assert bound.state_metrics()["data/std_min"] == pytest.approx(0.49, rel=1e-5)


# --- where it starts


def test_architecture_is_that_of_policy_init(tmp_path):
    first = dpo("policy.hidden=[5,7]", "policy.activation=gelu")
    file = tmp_path / "p.safetensors"
    stats = Normaliser(first.task.spec.obs_dim)
    stats.mean, stats.count = stats.mean + 0.3, 5.0
    stats._cache()
    saved = ActorPolicy(first.actor, first.task.spec, stats)
    save_policy(file, saved, first.task.env, {})
    algo, _ = collected(f"policy.init={file}")
    assert algo.actor.spec["hidden"] == [5, 7]
    assert algo.actor.spec["activation"] == "gelu"
    for name, value in first.actor.state_dict().items():
        assert torch.equal(algo.actor.state_dict()[name], value)
    assert at(algo, 0.0)[1]["opt/margin_mean"].item() == pytest.approx(0, abs=1e-5)
    found = algo.loss(algo.actor, algo._batch(algo.train_P2))[1]
    assert found["opt/kl"].item() == pytest.approx(0, abs=1e-6), "observation statistics belong to the reference"
    assert algo.policy().normaliser.mean.tolist() == stats.mean.tolist()


def course_file(path: Path, **changes: torch.Tensor | None) -> Path:
    """A policy as the course ships it: 128-128, leaky ReLU."""
    torch.manual_seed(1)
    layers = {f"linear_{i}": torch.nn.Linear(*size) for i, size in enumerate([(8, 128), (128, 128), (128, 2)], 1)}
    state = {f"{name}.{k}": v for name, layer in layers.items() for k, v in layer.state_dict().items()}
    state = {"log_stds": torch.tensor([-0.5, -0.3]), **state, **changes}
    torch.save({name: t for name, t in state.items() if t is not None}, path)
    return path


def swimmer(*words: str) -> DPO:
    run = built("algo=dpo", "env=gym", "env.id=Swimmer-v5", *words)
    return DPO(run.algo, make_task(run, describe(run.env), 0))


def test_a_plain_state_dict_is_a_start(tmp_path):
    file = course_file(tmp_path / "pretrained.pt")
    algo = swimmer(f"policy.init={file}", "policy.activation=leaky_relu")
    assert algo.actor.spec["hidden"] == [128, 128]
    obs, given = torch.randn(6, 8), torch.load(file, weights_only=True)
    x = obs
    for i in (1, 2, 3):
        x = x @ given[f"linear_{i}.weight"].T + given[f"linear_{i}.bias"]
        x = torch.nn.functional.leaky_relu(x) if i < 3 else x
    torch.testing.assert_close(algo.actor.mode(obs), x)
    assert algo.actor.log_std.tolist() == pytest.approx([-0.5, -0.3])


@pytest.mark.parametrize(
    "changes",
    [
        {"log_stds": torch.zeros(3)},
        {"linear_1.weight": torch.zeros(128, 9)},
        {"linear_2.weight": torch.zeros(64, 128)},
        {"linear_2.bias": None},
        {"extra.weight": torch.zeros(1, 128)},
    ],
)
def test_other_state_dicts_are_one_line(tmp_path, changes):
    with pytest.raises(UserError, match="is not an MLP from 8 observations to 2 actions") as error:
        swimmer(f"policy.init={course_file(tmp_path / 'p.pt', **changes)}")
    assert "policy.init=" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_state_dict_runs_no_code(tmp_path):
    torch.save({"log_stds": Path("/x")}, tmp_path / "p.pt")
    with pytest.raises(UserError, match="cannot be read as a state_dict"):
        swimmer(f"policy.init={tmp_path / 'p.pt'}")


def test_other_algorithms_take_one_where_it_fits(tmp_path):
    file = course_file(tmp_path / "p.pt")
    words = ["algo=ppo", "env=gym", "env.id=Swimmer-v5", f"policy.init={file}", "policy.activation=leaky_relu"]
    probe(built(*words, "policy.hidden=[128,128]"))
    with pytest.raises(UserError, match=r"policy.hidden is \[128, 128\] in it, \[64, 64\] in this run"):
        probe(built(*words, "policy.hidden=[64,64]"))


def test_a_policy_of_another_task_is_one_line(tmp_path):
    first = dpo()
    save_policy(tmp_path / "p.safetensors", first.policy(), first.task.env, {})
    with pytest.raises(UserError, match="its actions and observations are"):
        swimmer(f"policy.init={tmp_path / 'p.safetensors'}")


# --- data from a file


def test_learns_from_a_file_of_pairs(tmp_path):
    algo, _ = collected("algo.episodes_per_iteration=20", "algo.num_envs=20", "algo.validation_fraction=0.2")
    data = Trajectories(**{**algo.data, "logp_ET": None})
    found = preferences.label(data, "random", np.random.default_rng(0))
    pair_files.save_pairs(tmp_path / "pairs.safetensors", found)
    given = dpo(f"algo.preferences={tmp_path / 'pairs.safetensors'}")
    assert given.train_P2.tolist() == found.ordered_P2[:6].tolist()
    assert given.held_P2.tolist() == found.ordered_P2[6:].tolist()
    first = given.step()
    assert first.env_steps == 0
    assert first.metrics["opt/kl"] == pytest.approx(0, abs=1e-5), "the reference is the policy to be trained"
    assert given.step().metrics["opt/log_ratio_preferred"] != 0
    with pytest.raises(UserError, match=r"asks for 12; learn from all .* algo.num_pairs=10 train.budget=4$"):
        dpo(f"algo.preferences={tmp_path / 'pairs.safetensors'}", "algo.num_pairs=12", "algo.update_epochs=2")
    with pytest.raises(UserError, match="are not the environment's"):
        swimmer(f"algo.preferences={tmp_path / 'pairs.safetensors'}", *SMALL)


# --- budget and resume


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["algo.iterations=3"], "are 12 updates, train.budget is 4; use train.budget=12"),
        (["algo.num_pairs=13"], "are 12 updates"),
        (["algo.preferences=x", "algo.iterations=null"], "must be 1"),
    ],
)
def test_budget_is_a_whole_number_of_iterations(words, message):
    with pytest.raises(UserError, match=message):
        built("algo=dpo", *PENDULUM, *SMALL, *words)
    built("algo=dpo", *PENDULUM, *SMALL, "algo.iterations=null", "train.budget=9")


def test_state_in_the_middle_of_collecting_and_of_learning():
    """What is not in a checkpoint is not needed: a new object goes on with the same numbers, whenever it is made."""
    words = ["algo.num_envs=5", "algo.iterations=2", "algo.update_epochs=2", "train.budget=4"]
    whole = dpo(*words)
    for _ in range(8):
        copy = dpo(*words)
        copy.load_state_dict(whole.state_dict())
        for _ in range(3):
            a, b = whole.step(), copy.step()
            assert (a.env_steps, a.updates, dict(a.metrics)) == (b.env_steps, b.updates, dict(b.metrics))


def test_a_saved_run_is_resumed_while_it_learns(tmp_path):
    """The toy saves inside iterations: with the data they learn from."""
    run = toy("dpo")
    assert run.train.save_every % run.algo.per_iteration
    train(run, tmp_path)
    rows = metrics(tmp_path)
    steps = [row["step"] for row in rows]
    assert steps == sorted(steps)
    assert steps[-1] == run.train.budget
    assert sum("data/label_informativeness" in row for row in rows) == run.algo.iterations


# --- commands


def typed(*words: str) -> int:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    preference_commands.add(commands)
    pictures.add(commands)
    args = parser.parse_args(words)
    return args.run(args)


def saved(path: Path, log_std: float) -> str:
    algo = dpo(f"policy.log_std={log_std}")
    save_policy(path, algo.policy(), algo.task.env, {})
    return str(path)


def test_at_one_sigma_a_change_of_sigma_alone_gains_nothing(tmp_path, capsys):
    files = saved(tmp_path / "start.safetensors", 0.0), saved(tmp_path / "less.safetensors", -2.0)
    assert typed("sigma", *files, "--episodes", "20", "--json") == 0
    start, less = json.loads(capsys.readouterr().out)["policies"]
    assert less["sampled"]["mean"] != start["sampled"]["mean"]
    assert less["std"] == pytest.approx(math.exp(-2))
    for name in ("matched", "mean_action"):
        assert less[name] == {**start[name], "gain": 0}
    assert start["matched"]["mean"] == start["sampled"]["mean"]
    assert typed("sigma", *files, "--episodes", "5", "--std", "0.135335283") == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [row[1].strip() for row in rows] == ["start", "less"]
    assert rows[1][3].split("(")[0] == rows[1][5].split("(")[0], "at its own sigma it is itself"


def test_sigma_of_a_policy_without_one_is_one_line():
    with pytest.raises(UserError, match="no Gaussian"):
        typed("sigma", "ppo-cartpole")
    with pytest.raises(UserError, match="--std: must be > 0"):
        typed("sigma", "ppo-hopper", "--std", "0")


def test_pairs_command_writes_what_training_reads(tmp_path, capsys):
    start, file = saved(tmp_path / "start.safetensors", 0.0), tmp_path / "pairs.safetensors"
    words = ("pairs", start, str(file), "--trajectories", "11", "--envs", "4", "--pairs", "8")
    assert typed(*words) == 0
    assert "8 pairs of 11 trajectories" in capsys.readouterr().out
    assert typed("pairs", start, str(tmp_path / "few.safetensors"), "--pairs", "3") == 0
    assert "3 pairs of 6 trajectories" in capsys.readouterr().out
    again = pair_files.load_pairs(file)
    typed(*words[:2], str(tmp_path / "same.safetensors"), *words[3:])
    same = pair_files.load_pairs(tmp_path / "same.safetensors")
    assert np.array_equal(again.trajectories.obs_ETO, same.trajectories.obs_ETO)
    assert again.first_P.tolist() == same.first_P.tolist()
    algo = dpo(f"policy.init={start}", f"algo.preferences={file}")
    assert algo.step().metrics["opt/kl"] == pytest.approx(0, abs=1e-5)
    for more, said in (
        (["--trajectories", "1"], "--trajectories: 1 is out of range"),
        (["--temperature", "inf"], "--temperature: inf is out of range"),
        ([], "is there already; --replace it"),
    ):
        with pytest.raises(UserError, match=said):
            typed("pairs", start, str(file), *more)
    with pytest.raises(UserError, match="there is no folder"):
        typed("pairs", start, str(tmp_path / "deep" / "x.safetensors"))
    with pytest.raises(UserError, match="is deterministic and has no probabilities"):
        typed("pairs", "dagger-bipedal", str(tmp_path / "x.safetensors"))


@pytest.mark.parametrize("form", ["logistic", "square", "ipo"])
def test_a_soft_label_is_the_expectation_of_the_loss(form):
    algo, _ = collected(f"algo.loss_type={form}")
    index_P2 = algo.train_P2[:4]
    with torch.no_grad():
        for weight in algo.actor.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        loss = {}
        for name, pairs in (("first", index_P2), ("other", index_P2[:, ::-1])):
            loss[name] = [algo.loss(algo.actor, algo._batch(pairs[i : i + 1].copy()))[0].item() for i in range(4)]
        sure_P = np.array([1, 0.9, 0.5, 0.7], np.float32)
        soft = algo.loss(algo.actor, algo._batch(index_P2, sure_P))[0].item()
        hard = algo.loss(algo.actor, algo._batch(index_P2, np.ones(4, np.float32)))[0].item()
        plain = algo.loss(algo.actor, algo._batch(index_P2))[0].item()
    assert soft == pytest.approx(np.mean(sure_P * loss["first"] + (1 - sure_P) * loss["other"]), rel=1e-4)
    assert hard == pytest.approx(plain, rel=1e-6)


def test_soft_pairs_in_the_courses_form_are_learned_from(tmp_path, capsys):
    """Half of the pairs held out; and a resumed algorithm has the same labels."""
    start, file = saved(tmp_path / "start.safetensors", 0.0), tmp_path / "pair_data.pt"
    assert typed("pairs", start, str(file), "--trajectories", "24", "--envs", "8", "--soft", "--temperature", "50") == 0
    given = pair_files.load_pairs(file)
    assert 0 < given.soft_P.min() <= given.soft_P.max() < 1
    sizes = ("algo.num_pairs=6", "algo.batch_size=4", "train.budget=8")
    words = (f"policy.init={start}", f"algo.preferences={file}", *sizes)
    algo = dpo(*words)
    assert algo.sure_P.tolist() == given.sure_P[:6].tolist()
    assert algo.held_sure_P.tolist() == given.sure_P[6:].tolist()
    told = algo.step().metrics
    assert np.isfinite(told["loss/held_out"])
    assert dpo(*words).step().metrics == told
    hard = tmp_path / "hard.pt"
    pair_files.save_pairs(hard, replace(given, soft_P=None))
    assert dpo(f"policy.init={start}", f"algo.preferences={hard}", *sizes).step().metrics != told


def test_pairs_that_training_cannot_read_are_one_line(tmp_path):
    start, file = saved(tmp_path / "start.safetensors", 0.0), tmp_path / "pairs.safetensors"
    typed("pairs", start, str(file), "--trajectories", "8", "--envs", "4")
    given = pair_files.load_pairs(file)

    def refused(said, pairs=given, **card):
        pair_files.save_pairs(file, replace(pairs, card={**pairs.card, **card}))
        with pytest.raises(UserError, match=f"algo.preferences={file}: {said}"):
            dpo(f"policy.init={start}", f"algo.preferences={file}", "algo.num_pairs=4")

    refused("its trajectories are of Swimmer", env="Swimmer-v5")
    data = given.trajectories
    data.obs_ETO[0, 0] = np.nan
    refused("its observations are not all finite")
    data.obs_ETO[0, 0] = 0
    data.action[0, 0] = 7 if data.action.ndim == 2 else np.inf
    refused("its actions are not all")
    with pytest.raises(UserError, match="holds no pairs but policy"):
        pair_files.load_pairs(start)


def test_panels_draw_what_iterations_do(tmp_path):
    from rlexp.experiment.folder import Folder, create

    run = toy("dpo", "algo.iterations=1", "train.budget=32", "train.eval_episodes=5")
    place = create(tmp_path, run.name)
    record = Folder(place, run.plain, run.algo_class.clock)
    record.begin()
    train(run, place / "seed_0")
    names = ["data/return_mean", "data/label_informativeness"]
    assert typed("panels", str(place), *names, "--out", str(tmp_path / "p.png")) == 0
    assert (tmp_path / "p.png").stat().st_size > 5000
    with pytest.raises(UserError, match="did you mean 'data/return_mean'"):
        typed("panels", str(place), "data/returns_mean")
    with pytest.raises(UserError, match="no run or study folder"):
        typed("panels", str(tmp_path))
