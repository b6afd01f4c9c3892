"""Decision Transformer: what may influence what, returns-to-go, windows, history, dropout, losses."""

import argparse
import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rlexp.algos import dt
from rlexp.algos.dt import ALL, DT, LAST, STATES, DTPolicy, Transformer
from rlexp.buffers.dataset import Dataset
from rlexp.envs.spec import EnvSpec
from rlexp.nn import dropout as nn_dropout
from rlexp.nn.attention import weights_first
from rlexp.policies.files import load_policy, save_policy
from rlexp.rollout.evaluation import evaluate
from rlexp.util import seeding
from rlexp.util.errors import UserError
from tests.helpers import Unsaved, built, task

SMALL = [
    "algo.num_layers=2",
    "algo.embed_dim=16",
    "algo.num_heads=2",
    "algo.context_length=4",
    "algo.batch_size=16",
    "algo.warmup=4",
]
BOX = EnvSpec(3, "continuous", 2, np.array([-1, -4], np.float32), np.array([1, 2], np.float32))
DISCRETE = EnvSpec(3, "discrete", 4)


def episodes(*lengths, spec=BOX, seed=0):
    """Episodes of these lengths: random observations (the first dim is the row), actions and rewards."""
    rng, n = np.random.default_rng(seed), sum(lengths)
    obs_NO = rng.normal(1, 3, (n, 3)).astype(np.float32)
    obs_NO[:, 0] = np.arange(n)
    if spec.kind == "discrete":
        action = rng.integers(spec.n_actions, size=n)
    else:
        action = rng.uniform(spec.low_A, spec.high_A, (n, 2)).astype(np.float32)
    reward_N, final_EO = rng.normal(5, 1, n).astype(np.float32), np.full((len(lengths), 3), 7, np.float32)
    ended_E = np.arange(len(lengths)) % 2 == 0
    return Dataset("hand-made", obs_NO, action, reward_N, np.array(lengths), ended_E, final_EO)


def learner(*overrides, data=None, spec=BOX, seed=0):
    config = built("algo=dt", "env=bipedal", "algo.return_scale=10", "algo.target_return=null", *SMALL, *overrides).algo
    torch.manual_seed(seed)
    return DT(config, replace(task(seed=seed, data=data or episodes(9, 4, 1, spec=spec)), spec=spec))


def lively(spec=BOX, layers=2, heads=2, learned_std=False, steps=50):
    """A network with weights large enough that everything that may matter does."""
    torch.manual_seed(3)
    low, high = ([] if edge is None else edge.tolist() for edge in (spec.low_A, spec.high_A))
    net = Transformer(spec.kind, 3, spec.n_actions, low, high, learned_std, steps, layers, heads, 16)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape) * 0.5)
    return net


def columns(batch=5, k=4, spec=BOX, seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = (
        torch.randint(4, (batch, k), generator=g) if spec.kind == "discrete" else torch.rand(batch, k, 2, generator=g)
    )
    normal = [torch.randn(batch, k, *more, generator=g) for more in ([], [3])]
    return {"return": normal[0], "obs": normal[1], "action": draw, "step": torch.arange(k).expand(batch, k)}


def changed(b, name, place):
    """`b` with the column `name` altered at window places `place`."""
    b = {key: column.clone() for key, column in b.items()}
    b[name][:, place] = (b[name][:, place] + 1) % 4 if b[name].dtype == torch.int64 else b[name][:, place] + 1.5
    return b


def policy_of(net, spec=BOX, context=4, scale=10.0, target=30.0, explore=False):
    stats = dt.Normaliser(3)
    stats.update(np.random.default_rng(0).normal(1, 3, (100, 3)))
    policy = DTPolicy(net, stats, context, scale, target, 99.0, explore)
    policy.start(1, np.random.default_rng(0))
    return policy


# --- what may influence what ---


@pytest.mark.parametrize("spec", [BOX, DISCRETE], ids=["box", "discrete"])
def test_a_prediction_depends_on_its_past_and_on_nothing_later(spec):
    net, b = lively(spec), columns(spec=spec)
    before = net(b, STATES)
    for t in range(4):
        for name, first in (("return", t), ("obs", t), ("action", t + 1), ("step", t)):
            after = net(changed(b, name, t), STATES)
            moved = [(after[:, k] - before[:, k]).abs().max() > 1e-3 for k in range(4)]
            assert torch.equal(after[:, :first], before[:, :first]), f"{name} at {t} reaches back"
            assert moved == [k >= first for k in range(4)], f"{name} at {t}"


@pytest.mark.parametrize("overrides", [[], ["algo.obs_coef=1", "algo.return_coef=1"]], ids=["alone", "with others"])
def test_filling_behind_an_episode_influences_nothing(overrides):
    algo = learner(*overrides, data=episodes(9, 3, 1))
    batch = algo.batch(np.array([0, 6, 8, 9, 12]))
    assert batch["valid"].sum(1).tolist() == [4, 3, 1, 3, 1]

    def gradient(b):
        loss, metrics = algo.loss(algo.net, b, train=False)
        return torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, algo.net.parameters(), allow_unused=True) if g is not None]
        ), metrics

    g, metrics = gradient(batch)
    other = {name: column.clone() for name, column in batch.items()}
    for name in set(other) - {"valid", "step"}:
        other[name][~batch["valid"]] += 3
    other["step"][~batch["valid"]] = 0
    g2, metrics2 = gradient(other)
    assert torch.equal(g, g2)
    assert metrics == metrics2


def test_only_what_a_head_reads_is_computed_and_it_is_the_same():
    net, b = lively(layers=3), columns()
    every = net(b, ALL)
    assert every.shape[1] == 12
    torch.testing.assert_close(net(b, STATES), every[:, 1::3], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net(b, LAST)[:, 0], every[:, 10], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2])
def test_against_a_plain_transformer(heads):
    """torch's own encoder layers, one token type after another, on the same weights."""
    net, b = lively(heads=heads), columns()
    assert weights_first(torch.ones(5, 12, 16), heads) == (heads == 1)
    parts = [
        net.embed_return(b["return"][..., None]),
        net.embed_obs(b["obs"]),
        net.embed_action(net.scaled(b["action"])),
    ]
    tokens = [parts[i % 3][:, i // 3] + net.embed_step(b["step"][:, i // 3]) for i in range(12)]
    x = net.norm_in(torch.stack(tokens, 1))
    for block in net.blocks:
        layer = torch.nn.TransformerEncoderLayer(16, heads, 64, 0.0, "gelu", batch_first=True, norm_first=True)
        qkv = [block.query.weight, block.key.weight, block.value.weight]
        bias = [block.query.bias, torch.zeros(16), block.value.bias]
        named = {"self_attn.in_proj_weight": torch.cat(qkv), "self_attn.in_proj_bias": torch.cat(bias)}
        for theirs, ours in {
            "self_attn.out_proj": block.out,
            "linear1": block.up,
            "linear2": block.down,
            "norm1": block.norm_attention,
            "norm2": block.norm_mlp,
        }.items():
            named |= {f"{theirs}.{k}": v for k, v in ours.state_dict().items()}
        layer.load_state_dict(named)
        x = layer.eval()(x, torch.nn.Transformer.generate_square_subsequent_mask(12), is_causal=True)
    torch.testing.assert_close(net(b, ALL), net.norm_out(x), rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # as in acting
        torch.testing.assert_close(net(b, ALL), net.norm_out(x), rtol=1e-4, atol=1e-5)


# --- data ---


def test_windows_returns_and_targets():
    data = episodes(9, 4, 1)
    algo = learner("algo.obs_coef=1", "algo.return_coef=1", data=data)
    b = algo.batch(np.array([0, 6, 12, 13]))
    row_BK = np.array([[0, 1, 2, 3], [6, 7, 8, 8], [12, 12, 12, 12], [13, 13, 13, 13]])
    assert b["valid"].tolist() == [[True] * 4, [True] * 3 + [False], [True] + [False] * 3, [True] + [False] * 3]
    assert b["step"][0].tolist() == [0, 1, 2, 3]
    assert b["step"][1][:3].tolist() == [6, 7, 8]
    assert b["step"][2:, 0].tolist() == [3, 0]
    mean, std = data.obs_NO.mean(0, dtype=np.float64), data.obs_NO.std(0, dtype=np.float64)
    normal = lambda x: torch.tensor((x - mean) / std, dtype=torch.float32)  # noqa: E731
    torch.testing.assert_close(b["obs"], normal(data.obs_NO[row_BK]), rtol=1e-4, atol=1e-5)
    ends = [9, 13, 14]
    to_go = [data.reward_N[i : next(e for e in ends if e > i)].sum() / 10 for i in range(14)]
    v = b["valid"]
    torch.testing.assert_close(b["return"], torch.tensor(to_go)[row_BK], rtol=1e-4, atol=1e-4)
    assert torch.equal(b["action"], torch.from_numpy(data.action[row_BK]))
    following = np.concatenate([data.obs_NO[1:9], [[7] * 3], data.obs_NO[10:13], [[7] * 3], [[7] * 3]])
    torch.testing.assert_close(b["next_obs"][v], normal(following[row_BK])[v], rtol=1e-4, atol=1e-5)
    after = [0.0 if i + 1 in ends else to_go[i + 1] for i in range(14)]
    torch.testing.assert_close(b["next_return"][v], torch.tensor(after)[row_BK][v], rtol=1e-4, atol=1e-4)


def test_every_step_begins_a_window_equally_often():
    algo = learner("algo.batch_size=1000", "algo.log_every=20", data=episodes(9, 4, 1))
    seen = []
    algo.batch = lambda row_B: seen.append(row_B)
    algo.learner.update = lambda *_: {}
    algo.step()
    count_N = np.bincount(np.concatenate(seen), minlength=14)
    assert len(count_N) == 14, "no row beyond the end"
    assert np.abs(count_N - 20_000 / 14).max() < 5 * math.sqrt(20_000 / 14), "first and last steps included"


def test_an_episode_that_was_cut_counts_like_one_that_ended():
    data = episodes(9, 4, 1)
    cut = replace(data, terminated_E=np.zeros(3, bool))
    a, b = (learner("algo.return_coef=1", data=d).batch(np.arange(14)) for d in (data, cut))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_steps_beyond_the_table_count_as_its_last():
    net, b = lively(steps=3), columns()
    late = {**b, "step": b["step"].clamp(max=2)}
    assert torch.equal(net(b, STATES), net(late, STATES))
    assert not torch.equal(net(b, STATES), net({**b, "step": b["step"].clamp(max=1)}, STATES))


# --- loss ---


def test_loss_is_the_mean_over_real_steps():
    algo = learner()
    b = algo.batch(np.array([0, 7, 12, 13]))
    mean = algo.net.action(algo.net(b, STATES)).tanh()
    goal = (b["action"] - torch.tensor([0.0, -1.0])) / torch.tensor([1.0, 3.0])
    assert goal.abs().max() <= 1
    loss, metrics = algo.loss(algo.net, b, train=False)
    torch.testing.assert_close(loss, (goal - mean)[b["valid"]].square().mean())
    assert metrics.keys() == {"loss/action"}

    algo = learner(spec=DISCRETE)
    b = algo.batch(np.array([0, 7, 12, 13]))
    logits = algo.net.action(algo.net(b, STATES))
    torch.testing.assert_close(
        algo.loss(algo.net, b, train=False)[0], F.cross_entropy(logits[b["valid"]], b["action"][b["valid"]])
    )


def test_likelihood_and_further_losses():
    algo = learner("algo.learned_std=true", "algo.obs_coef=0.5", "algo.return_coef=2")
    b = algo.batch(np.array([0, 7, 12, 13]))
    v, x = b["valid"], algo.net(b, ALL)
    mean, log_std = algo.net.action(x[:, 1::3]).chunk(2, -1)
    normal = torch.distributions.Normal(mean.tanh(), log_std.exp())
    nll = -normal.log_prob(algo.net.scaled(b["action"]))[v].mean()
    obs = (algo.net.next_obs(x[:, 2::3]) - b["next_obs"])[v].square().mean()
    to_go = (algo.net.next_return(x[:, 2::3])[..., 0] - b["next_return"])[v].square().mean()
    loss, metrics = algo.loss(algo.net, b, train=False)
    torch.testing.assert_close(loss, nll + 0.5 * obs + 2 * to_go)
    torch.testing.assert_close(list(metrics.values()), [nll, obs, to_go])


def test_rate_warms_up():
    algo = learner("algo.warmup=4", "algo.lr=1e-3", "algo.log_every=1")
    rates = [algo.step().metrics["opt/lr"] for _ in range(6)]
    assert rates == pytest.approx([0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3, 1e-3])
    assert learner("algo.warmup=0", "algo.log_every=1").step().metrics["opt/lr"] == 1e-4


# --- dropout ---


def test_dropout_drops_its_share_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(1000, 1001)
    y = nn_dropout.dropout(x, 0.1)
    kept = y != 0
    assert float((~kept).float().mean()) == pytest.approx(0.1, abs=5 * math.sqrt(0.09 / x.numel()))
    assert y[kept].unique().tolist() == pytest.approx([1 / 0.9], rel=2e-5)
    for lag in (1, 2, 3, 4):  # masks of one word of random bits
        both = float((~kept.flatten()[lag:] & ~kept.flatten()[:-lag]).float().mean())
        assert both == pytest.approx(0.01, abs=5e-4)
    torch.manual_seed(0)
    assert torch.equal(nn_dropout.add_dropout(2 * x, x, 0.1), 2 + y)
    assert not torch.equal(nn_dropout.dropout(x, 0.1), y)
    assert nn_dropout.dropout(x, 0.0) is x


def test_dropout_is_in_training_only():
    algo = learner("algo.dropout=0.3")
    b = algo.batch(np.arange(8))
    off = [algo.loss(algo.net, b, train=False)[0] for _ in range(2)]
    on = [algo.loss(algo.net, b)[0] for _ in range(2)]
    assert off[0] == off[1]
    assert on[0] != on[1]
    policy, state = algo.policy(), torch.get_rng_state()
    first = policy.act(np.ones((1, 3), np.float32))
    policy.start(1, np.random.default_rng(5))
    assert np.array_equal(policy.act(np.ones((1, 3), np.float32)), first)
    assert torch.equal(torch.get_rng_state(), state), "acting draws nothing from the generator of training"
    assert algo.loss(algo.net, b)[0] != algo.loss(algo.net, b)[0], "it is on again after an evaluation"


def test_dropout_at_each_place():
    """Embedded tokens, attention weights, and both outputs of every block: each draws its own mask."""
    algo, shapes = learner("algo.dropout=0.3"), []
    real = nn_dropout.mask_scale
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn_dropout, "mask_scale", lambda like, p: (shapes.append(tuple(like.shape)), real(like, p))[1])
        algo.loss(algo.net, algo.batch(np.arange(5)))
    block = [(5, 2, 11, 11), (5, 11, 16), (5, 11, 16)]
    assert shapes == [(5, 11, 16), *block, (5, 2, 4, 11), (5, 4, 16), (5, 4, 16)]


# --- acting ---


def test_history_is_what_was_seen_asked_and_done():
    """Against the network on whole windows: returns-to-go fall by the reward, the last K steps are kept, the action
    at t is the executed one before t + 1 is predicted."""
    net, rng = lively(), np.random.default_rng(1)
    policy = policy_of(net)
    obs_TO, reward_T = rng.normal(1, 3, (9, 3)).astype(np.float32), rng.normal(3, 1, 9).astype(np.float32)
    done = []
    for t in range(9):
        to_go = [(30 - reward_T[:i].sum()) / 10 for i in range(t + 1)]
        first = max(0, t - 3)
        window = {
            "return": torch.tensor(np.float32(to_go))[None, first:],
            "obs": torch.from_numpy(policy.stats(obs_TO[first : t + 1]))[None],
            "action": torch.tensor(np.array([*done, [0.3, 0.3]], np.float32))[None, first:],
            "step": torch.arange(first, t + 1)[None],
        }
        middle, reach = torch.tensor([0.0, -1.0]), torch.tensor([1.0, 3.0])
        expected = middle + reach * net.action(net(window, ALL)[:, -2]).tanh()
        action = policy.act(obs_TO[None, t])
        np.testing.assert_allclose(action, expected.detach().numpy(), rtol=1e-4, atol=1e-4)
        policy.observe(reward_T[None, t])
        done.append(action[0])


@pytest.mark.parametrize("spec", [BOX, DISCRETE], ids=["box", "discrete"])
def test_side_by_side_is_one_by_one(spec):
    net, rng = lively(spec), np.random.default_rng(1)
    obs_TBO, reward_TB = rng.normal(1, 3, (9, 3, 3)).astype(np.float32), rng.normal(3, 1, (9, 3)).astype(np.float32)

    def play(rows):
        policy, actions = policy_of(net, spec), []
        policy.start(len(rows), np.random.default_rng(0))
        for obs_BO, reward_B in zip(obs_TBO[:, rows], reward_TB[:, rows], strict=True):
            actions.append(policy.act(obs_BO))
            policy.observe(reward_B)
        return np.array(actions)

    together, alone = play([0, 1, 2]), np.concatenate([play([i]) for i in range(3)], 1)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert len(np.unique(together.reshape(27, -1), axis=0)) > 1


def test_episodes_that_end_at_different_times_do_not_disturb_each_other():
    """Whole evaluations on an environment whose episodes differ in length, side by side and one by one."""
    env = built("env=cartpole").env
    torch.manual_seed(0)
    net = Transformer("discrete", 4, 2, [], [], False, 20, 2, 1, 16)
    stats = dt.Normaliser(4)
    policy = DTPolicy(net, stats, 5, 10.0, 100.0, 0.0)
    together = evaluate(policy, env, seeding.stream(0, "eval"), 4)
    lengths = [len(e.reward_T) for e in together.episodes]
    assert len(set(lengths)) > 1

    class One(Unsaved):
        """Plays one row; the other rows' actions do not matter."""

        def __init__(self, row):
            self.row = row

        def start(self, batch, rng):
            self.batch = batch
            policy.start(1, rng)

        def act(self, obs_BO):
            return np.repeat(policy.act(obs_BO[[self.row]]), self.batch)

        def observe(self, reward_B):
            policy.observe(reward_B[[self.row]])

    for row in range(4):
        alone = evaluate(One(row), env, seeding.stream(0, "eval"), 4)
        assert alone.episodes[row].action.tolist() == together.episodes[row].action.tolist()


def test_actions_stay_in_the_box_and_reach_its_ends():
    net = lively()
    with torch.no_grad():
        net.action.bias.copy_(torch.tensor([50.0, -50.0]))
    assert policy_of(net).act(np.zeros((1, 3), np.float32)).tolist() == [[1.0, -4.0]]
    free = replace(BOX, low_A=np.full(2, -np.inf, np.float32), high_A=np.full(2, np.inf, np.float32))
    net = lively(free)
    with torch.no_grad():
        net.action.bias.copy_(torch.tensor([50.0, -50.0]))
    action = policy_of(net, free).act(np.zeros((1, 3), np.float32))
    assert np.abs(action).min() > 20, "no bounds, no tanh"


def test_sampled_actions():
    for spec in (BOX, DISCRETE):
        policy = policy_of(lively(spec, learned_std=True), spec)
        obs_BO = np.ones((200, 3), np.float32)
        for explore, several in ((False, False), (True, True)):
            policy.explore = explore
            policy.start(200, np.random.default_rng(0))
            action = policy.act(obs_BO)
            assert (len(np.unique(action.round(3), axis=0)) > 1) == several
            policy.start(200, np.random.default_rng(0))
            assert np.array_equal(policy.act(obs_BO), action), "the generator handed in decides"
    policy = policy_of(lively(), explore=True)
    policy.start(50, np.random.default_rng(0))
    assert len(np.unique(policy.act(np.ones((50, 3), np.float32)).round(4), axis=0)) == 1, (
        "without a variance: the mean"
    )


def test_policy_file_holds_all_that_acting_needs(tmp_path):
    algo = learner("algo.target_return=12", "algo.learned_std=true")
    algo.step()
    policy = algo.policy(explore=True)
    save_policy(tmp_path / "p.safetensors", policy, built("env=bipedal").env, {})
    again = load_policy(tmp_path / "p.safetensors").policy
    assert again.spec() == policy.spec()
    rng = np.random.default_rng(0)
    obs_TBO = rng.normal(1, 30, (7, 2, 3)).astype(np.float32)
    a, b = [], []
    for which, actions in ((policy, a), (again, b)):
        which.start(2, np.random.default_rng(0))
        for obs_BO in obs_TBO:
            actions.append(which.act(obs_BO))
            which.observe(np.ones(2, np.float32))
    assert np.array_equal(a, b)
    before = copy.deepcopy(again.state_dict())
    algo.step()
    assert str(policy.state_dict()) == str(before), "a policy that was handed out is frozen"
    with pytest.raises(ValueError, match="observations are"):
        policy.act(np.zeros((2, 9), np.float32))


def test_target_is_the_best_return_unless_given():
    data = episodes(9, 4, 1)
    assert learner(data=data).policy().target == pytest.approx(data.reward_N[:9].sum())
    policy = learner("algo.target_return=-3.5", data=data).policy()
    assert (policy.target, policy.to_go_B.tolist()) == (-3.5, [-0.35])
    assert policy.data_best == pytest.approx(data.reward_N[:9].sum())


# --- training ---


def test_asks_for_a_return_and_gets_it():
    """Two kinds of episodes, told apart by their return only: action and reward +0.5, action and reward -0.5."""
    rng, n = np.random.default_rng(0), 40
    kind_E = rng.choice([-0.5, 0.5], n).astype(np.float32)
    each = np.repeat(kind_E, 6)
    obs_NO = rng.standard_normal((6 * n, 3)).astype(np.float32)
    spec = EnvSpec(3, "continuous", 1, np.array([-1], np.float32), np.array([1], np.float32))
    ends = np.ones(n, bool), np.zeros((n, 3), np.float32)
    data = Dataset("two kinds", obs_NO, each[:, None], each, np.full(n, 6), *ends)
    words = ["algo.lr=3e-3", "algo.return_scale=1", "algo.log_every=60", "algo.dropout=0"]
    algo = learner(*words, data=data, spec=spec)
    algo.step()
    policy = algo.policy()
    for target in (-3.0, 3.0):
        policy.target = target
        policy.start(1, np.random.default_rng(0))
        for _ in range(6):
            action = policy.act(rng.standard_normal((1, 3)).astype(np.float32))
            assert action[0, 0] == pytest.approx(target / 6, abs=0.2)
            policy.observe(action[:, 0])


def test_half_precision_is_nearly_the_same():
    full, half = (learner(f"algo.precision={p}", "algo.dropout=0") for p in ("float32", "bfloat16"))
    b = full.batch(np.arange(8))
    a, h = full.loss(full.net, b)[0], half.loss(half.net, b)[0]
    assert a != h
    assert h.dtype == torch.float32
    assert h.item() == pytest.approx(a.item(), rel=0.02)
    half.step()
    assert half.learner.theta.dtype == torch.float32


def test_averaged_weights_act_where_a_decay_is_given_and_training_goes_on_as_without():
    last = learner()
    last.step()
    averaged = learner("algo.ema_decay=0.9")
    averaged.step()
    assert torch.equal(last.learner.theta, averaged.learner.theta)
    acting = torch.cat([p.flatten() for p in averaged.policy().net.parameters()])
    assert torch.equal(acting, averaged.learner.ema)
    assert not torch.equal(acting, averaged.learner.theta)


def test_config_errors_and_the_device():
    with pytest.raises(UserError, match=r"algo\.embed_dim: must be a multiple of num_heads=3, not 128"):
        built("algo=dt", "env=hopper", "algo.num_heads=3")
    run = built("algo=dt", "env=hopper")
    here = "cuda" if torch.cuda.is_available() else "cpu"
    assert (run.train.device, run.plain["train"]["device"]) == (here, here)
    assert built("algo=ppo", "train.device=auto").train.device == "cpu", "where an algorithm knows no other"
    assert run.algo.target_return == 3600
    assert built("algo=dt", "env=bipedal").algo.max_ep_len == 1600


def test_what_data_do_not_say_is_not_learned():
    data = episodes(20, 30)
    lost = replace(data, final_obs_EO=np.full_like(data.final_obs_EO, np.nan))
    with pytest.raises(UserError, match=r"algo.obs_coef=1.0: .* has no next_observations"):
        learner("algo.obs_coef=1", data=lost)
    learner(data=lost).step()
    with pytest.raises(UserError, match="has no rewards, so no return can be asked for"):
        learner(data=replace(data, reward_N=np.full_like(data.reward_N, np.nan)))


# --- the return asked for, swept ---


def test_targets_command(tmp_path, capsys, monkeypatch):
    from rlexp.cli.commands import targets
    from rlexp.rollout import score

    parser = argparse.ArgumentParser()
    targets.add(parser.add_subparsers())

    def call(*words):
        args = parser.parse_args(["targets", *map(str, words)])
        assert args.run(args) == 0
        return capsys.readouterr().out

    torch.manual_seed(0)
    net, picture = Transformer("discrete", 2, 3, [], [], False, 20, 1, 1, 16), "t.png"
    env = built("env=lineworld").env
    for seed in range(2):
        place = tmp_path / f"run/seed_{seed}/checkpoints"
        place.mkdir(parents=True)
        policy = DTPolicy(net, dt.Normaliser(2), 5, 1.0, 0.0, -1.5 - seed)
        save_policy(place / "final.safetensors", policy, env, {"seed": seed})
    out = json.loads(call(tmp_path / "run", "--returns", -9, -3, "--episodes", 2, "--json"))
    found = out["policies"][str(tmp_path / "run")]
    assert (found["asked"], found["data_best"], np.shape(found["returns"])) == ([-9, -3], -1.5, (2, 2))
    assert np.all(np.array(found["returns"]) <= 0)

    asked = lambda saved, n, seed: {"return_mean": saved.policy.target / 2 + saved.card["seed"]}  # noqa: E731
    monkeypatch.setattr(score, "evaluate", asked)
    table = call(tmp_path / "run", "--returns", -9, -3, "--plot", tmp_path / picture)
    assert "best return in the data -1.5, 20 episodes" in table
    assert "| -9.0 | -4.0 | ± 6.4 | 2 |\n| -3.0 | -1.0 | ± 6.4 | 2 |" in table
    with pytest.raises(UserError, match="--names: takes as many different names"):
        call(tmp_path / "run", "--names", "a,b")
    assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert "| -3.0 |" in call(tmp_path / "run/seed_0"), "twice as bad as the best episode"
    with pytest.raises(UserError, match="must be finite numbers, not inf"):
        call(tmp_path / "run", "--returns", "inf")
    with pytest.raises(UserError, match="of kind 'actor', which is asked for no return"):
        call(tmp_path / "run", "lineworld-expert")
    save_policy(tmp_path / "0.safetensors", DTPolicy(net, dt.Normaliser(2), 5, 1.0, 0.0, 0.0), env, {})
    with pytest.raises(UserError, match="the best return in the data is 0; say with --returns"):
        call(tmp_path / "0.safetensors")


@pytest.mark.parametrize(("native", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_the_precision_is_chosen_by_the_machine_and_stored(native, chosen, monkeypatch):
    monkeypatch.setattr(dt, "has_bfloat16", lambda device: native)
    run = built("+experiment=dt_toy", "algo.precision=auto")
    assert run.plain["algo"]["precision"] == run.algo.precision == chosen
    slow = "no native bfloat16"
    assert slow not in " ".join(learner("algo.precision=auto").cautions())
    assert (slow not in " ".join(learner("algo.precision=bfloat16").cautions())) is native
