"""Diffusion policy: schedule and samplers against diffusers, the decoder against torch's, windows, history, plans."""

import argparse
import json
import shutil
from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from torch import nn

from rlexp.algos.diffusion import Diffusion
from rlexp.buffers.dataset import Dataset
from rlexp.cli.commands import chunks as chunk_command
from rlexp.envs.spec import EnvSpec
from rlexp.experiment import tables
from rlexp.nn import denoise
from rlexp.nn.attention import weights_first
from rlexp.nn.decoder import Decoder
from rlexp.policies.files import save_policy
from rlexp.util.errors import UserError
from tests.helpers import built, task

SMALL = [
    "algo.num_layers=2",
    "algo.embed_dim=16",
    "algo.num_train_timesteps=8",
    "algo.batch_size=64",
    "algo.lr=3e-3",
    "algo.ema_decay=0.9",
]
SPEC = EnvSpec(5, "continuous", 2, -np.ones(2, np.float32), np.ones(2, np.float32))


def episodes(*lengths, action=None, seed=0):
    """Episodes of these lengths with random observations and actions, or with `action` all the time."""
    rng, n = np.random.default_rng(seed), sum(lengths)
    actions = rng.uniform(-1, 1, (n, 2)) if action is None else np.tile(action, (n, 1))
    return Dataset(
        "hand-made",
        rng.standard_normal((n, 5)).astype(np.float32),
        actions.astype(np.float32),
        np.ones(n, np.float32),
        np.array(lengths),
        np.ones(len(lengths), bool),
        np.zeros((len(lengths), 5), np.float32),
    )


def learner(*overrides, data=None, spec=SPEC, seed=0):
    config = built("algo=diffusion", "env=bipedal", *SMALL, *overrides).algo
    torch.manual_seed(seed)
    return Diffusion(config, replace(task(seed=seed, data=data or episodes(9, 4, 1)), spec=spec))


def started(policy, batch=1, seed=0):
    policy.start(batch, np.random.default_rng(seed))
    return policy


def play(policy, steps, seed=0, batch=1):
    """Actions (T, B, A) on random observations."""
    obs_TBO = np.random.default_rng(seed).standard_normal((steps, batch, 5)).astype(np.float32)
    return np.array([policy.act(obs_BO) for obs_BO in obs_TBO])


# --- schedule and samplers ---


@pytest.mark.parametrize("levels", [8, 30, 100])
def test_schedule_is_that_of_diffusers(levels):
    theirs = diffusers.DDPMScheduler(num_train_timesteps=levels, beta_schedule="squaredcos_cap_v2")
    ours = denoise.squared_cosine(levels)
    assert np.allclose(ours, theirs.alphas_cumprod.numpy(), atol=1e-6, rtol=1e-5)

    x, noise = torch.randn(levels, 3, 2, dtype=torch.float64), torch.randn(levels, 3, 2, dtype=torch.float64)
    theirs.alphas_cumprod = torch.from_numpy(ours)
    expected = theirs.add_noise(x, noise, torch.arange(levels))
    assert torch.allclose(denoise.add_noise(x, noise, torch.from_numpy(ours)), expected, atol=1e-12)


@pytest.mark.parametrize("clip", [1.0, None])
@pytest.mark.parametrize("n", [1, 5, 10, 15, 30])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_every_step_is_that_of_diffusers(sampler, n, clip):
    kind = diffusers.DDPMScheduler if sampler == "ddpm" else diffusers.DDIMScheduler
    theirs = kind(
        num_train_timesteps=30,
        beta_schedule="squaredcos_cap_v2",
        clip_sample=clip is not None,
        timestep_spacing="trailing",
    )
    alpha_bar_T = denoise.squared_cosine(30)
    theirs.alphas_cumprod = torch.from_numpy(alpha_bar_T)  # the same in float64
    theirs.set_timesteps(n)
    steps = denoise.steps(sampler, alpha_bar_T, n)
    assert [step.level for step in steps] == theirs.timesteps.tolist()
    generator = torch.Generator().manual_seed(0)
    for step in steps:
        x, noise, z = (torch.randn(4, 3, 2, generator=generator, dtype=torch.float64) for _ in range(3))
        same = torch.Generator().manual_seed(1)
        z = torch.randn(4, 3, 2, generator=same, dtype=torch.float64)
        words = {"generator": same.manual_seed(1)} if sampler == "ddpm" else {"use_clipped_model_output": True}
        expected = theirs.step(noise, step.level, x, **words).prev_sample
        one = replace(step, std=0.0)
        ours = denoise.sample(lambda *_: noise, x[None], [one], clip) + step.std * z  # noqa: B023
        assert torch.allclose(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_all_actions_of_the_range_can_be_produced_and_no_noise_is_left(sampler):
    """A network that knows the noise exactly: what comes out is what went in, at the bounds too."""
    alpha_bar_T = denoise.squared_cosine(30)
    x0 = torch.tensor([[1.0, -1.0, 0.3, 0.0]], dtype=torch.float64)

    def exact(x, level):
        return (x - alpha_bar_T[level] ** 0.5 * x0) / (1 - alpha_bar_T[level]) ** 0.5

    for n in (1, 5, 30):
        steps = denoise.steps(sampler, alpha_bar_T, n)
        assert (steps[-1].std, steps[-1].a, steps[-1].b) == (0.0, 1.0, 0.0)
        noise_SN = torch.randn(n, 1, 4, dtype=torch.float64)
        assert torch.allclose(denoise.sample(exact, noise_SN, steps, 1.0), x0, atol=1e-6)


def test_ddpm_noise_has_its_variance_and_ddim_none():
    alpha_bar_T = denoise.squared_cosine(30)
    ddpm, ddim = (denoise.steps(s, alpha_bar_T, 30) for s in ("ddpm", "ddim"))
    assert all(step.std > 0 for step in ddpm[:-1])
    assert all(step.std == 0 for step in ddim)
    noise = torch.randn(30, 1, 1, dtype=torch.float64)
    other = torch.cat([noise[:1], torch.randn(29, 1, 1, dtype=torch.float64)])
    for steps, same in ((ddpm, False), (ddim, True)):
        a, b = (denoise.sample(lambda x, t: x.tanh(), z, steps, 1.0) for z in (noise, other))
        assert torch.equal(a, b) is same


# --- the transformer ---


def copy_weights(ours, theirs):
    """torch's decoder with our weights."""
    with torch.no_grad():
        for a, b in zip(ours.layers, theirs.layers, strict=True):
            cross = b.multihead_attn
            cross.in_proj_weight.copy_(torch.cat([a.q.weight, a.k.weight, a.v.weight]))
            cross.in_proj_bias.copy_(torch.cat([a.q.bias, torch.randn_like(a.q.bias), a.v.bias]))  # of keys: no matter
            pairs = [
                (a.norm_self, b.norm1),
                (a.norm_cross, b.norm2),
                (a.norm_mlp, b.norm3),
                (a.out_cross, cross.out_proj),
            ]
            pairs += [(a.out_self, b.self_attn.out_proj), (a.up, b.linear1), (a.down, b.linear2)]
            for mine, their in pairs:
                their.load_state_dict(mine.state_dict())
            b.self_attn.in_proj_weight.copy_(a.qkv.weight)
            b.self_attn.in_proj_bias.copy_(a.qkv.bias)


@pytest.mark.parametrize("heads", [1, 4])
def test_decoder_is_torchs_and_remembers(heads):
    torch.manual_seed(0)
    ours = Decoder(3, 32, heads)
    layer = nn.TransformerDecoderLayer(32, heads, 128, 0.0, "gelu", batch_first=True, norm_first=True)
    theirs = nn.TransformerDecoder(layer, 3, nn.LayerNorm(32))
    for p in ours.parameters():
        nn.init.normal_(p, std=0.3)
    copy_weights(ours, theirs)
    theirs.norm.load_state_dict(ours.norm.state_dict())
    query, memory = torch.randn(24, 3, 32), torch.randn(24, 9, 32)
    memory_BK, query_BQ = torch.rand(24, 9) < 0.6, torch.rand(24, 3) < 0.5
    memory_BK[:, 4] = query_BQ[:, 0] = True
    assert weights_first(query, heads) == (heads == 1)
    expected = theirs(query, memory, tgt_key_padding_mask=~query_BQ, memory_key_padding_mask=~memory_BK)
    assert torch.allclose(ours(query, memory, query_BQ, memory_BK), expected, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(ours(query, memory, query_BQ, memory_BK), expected, atol=1e-5)
    whole = theirs(query, memory, memory_key_padding_mask=~memory_BK)
    assert not torch.allclose(whole, expected, atol=1e-3)
    assert torch.allclose(ours.recall(query, ours.remember(memory, memory_BK)), whole, atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2])
def test_plan_is_that_of_the_whole_network_at_every_level(heads):
    """Caching changes no number: the same plan as with the training's forward pass, condition and all, at each step."""
    algo = learner(f"algo.num_heads={heads}")
    algo.step()
    policy = started(algo.policy(), 3)
    play(policy, 2, batch=3)  # two steps in, so that padding is masked
    noise_SBhA = torch.randn(8, 3, 3, 2)
    condition, queries = policy.condition(), torch.ones(3, 3, dtype=torch.bool)
    exists_BW = torch.cat([condition["exists"], queries], 1)

    def predict(noisy, level):
        return policy.net({**condition, "exists": exists_BW, "noisy": noisy, "level": torch.full((3,), level)})

    with torch.no_grad():
        naive = policy.net.action.back(denoise.sample(predict, noise_SBhA, policy.steps, 1.0))
    plan = np.array(policy.plan(noise_SBhA)).transpose(1, 0, 2)
    assert np.allclose(plan, policy.env.executable(naive.numpy()), atol=1e-5)


# --- windows ---


def test_padding_is_not_seen():
    """Whatever stands before an episode's start or after its end, loss and gradient are the same."""
    algo = learner()
    batch = algo.batch(np.arange(14))
    past, future = batch["exists"][:, :9], batch["exists"][:, 9:]
    assert not past.all()
    assert not future.all()
    absent = {"obs": ~past[:, :5], "past": ~past[:, 5:], "noisy": ~future, "noise": ~future}
    other = {
        k: torch.where(absent[k][..., None], 7 * torch.randn_like(v), v) if k in absent else v for k, v in batch.items()
    }
    results = []
    for b in (batch, other):
        algo.net.zero_grad(set_to_none=False)
        loss = algo.loss(algo.net, b)[0]
        loss.backward()
        results.append(torch.cat([loss.detach()[None], *(p.grad.flatten() for p in algo.net.parameters())]))
    assert torch.allclose(*results, atol=1e-6)
    seen = {**batch, "obs": torch.where(past[:, :5, None], batch["obs"] + 0.1, batch["obs"])}
    assert not torch.isclose(algo.loss(algo.net, seen)[0], results[0][0], atol=1e-6)


def test_loss_is_the_mean_over_valid_entries():
    algo = learner()
    batch = algo.batch(np.array([8, 7, 0, 13]))  # an episode of nine steps, and one of one
    assert batch["exists"][:, 9:].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 0, 0]]
    with torch.no_grad():
        error = (algo.net(batch) - batch["noise"]).square()
        loss = algo.loss(algo.net, batch)[0]
    valid = [error[0, 0], error[1, 0], error[1, 1], error[2, 0], error[2, 1], error[2, 2], error[3, 0]]
    assert torch.allclose(loss, torch.stack(valid).mean(), atol=1e-6)


def test_window_contents():
    data = episodes(9, 4)
    algo = learner(data=data)
    batch = algo.batch(np.array([5, 10]))  # step 5 of the first episode, step 1 of the second
    assert batch["step"].tolist() == [5, 1]
    assert np.array_equal(batch["obs"][0], data.obs_NO[1:6])
    assert np.array_equal(batch["past"][0], data.action[1:5])
    assert batch["exists"][1].tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1]
    assert np.array_equal(batch["obs"][1, 3:], data.obs_NO[9:11])
    assert np.array_equal(batch["past"][1, 3], data.action[9])
    alpha_bar = algo.alpha_bar_T[batch["level"]].reshape(-1, 1, 1)
    action = (batch["noisy"] - (1 - alpha_bar).sqrt() * batch["noise"]) / alpha_bar.sqrt()
    assert np.allclose(action[0], data.action[5:8], atol=1e-4)
    assert np.allclose(action[1], data.action[10:13], atol=1e-4)


def test_levels_are_all_drawn_and_noise_differs_between_entries():
    algo = learner()
    batch = algo.batch(np.zeros(500, np.int64))
    assert sorted(set(batch["level"].tolist())) == list(range(8))
    assert len(set(batch["noise"].flatten().tolist())) > 2990
    assert abs(float(batch["noise"].std()) - 1) < 0.05


def test_acting_lays_the_window_out_like_training():
    """A recorded episode, fed to the policy step by step, gives the conditions of training's windows."""
    data = episodes(9, 12)
    algo = learner("algo.n_action_steps=1", data=data)
    policy = started(algo.policy())
    for t in range(12):
        row = 9 + t
        policy.obs_BkO[:, :-1], policy.obs_BkO[:, -1] = policy.obs_BkO[:, 1:].copy(), data.obs_NO[row]
        acting, training = policy.condition(), algo.batch(np.array([row]))
        exists = acting["exists"]
        assert torch.equal(exists, training["exists"][:, :9])
        assert torch.equal(acting["step"], training["step"])
        assert torch.equal(acting["obs"][exists[:, :5]], training["obs"][exists[:, :5]])
        assert torch.equal(acting["past"][exists[:, 5:]], training["past"][exists[:, 5:]])
        policy.obs_BkO[:, 1:] = policy.obs_BkO[:, :-1].copy()  # as before: `act` takes the observation in itself
        policy.queue = [data.action[row][None]]  # what is "executed" is what was recorded
        assert np.array_equal(policy.act(data.obs_NO[row][None])[0], data.action[row])


# --- acting ---


@pytest.mark.parametrize("execute", [1, 2, 3])
def test_executes_so_many_actions_of_each_plan_in_order(execute):
    algo = learner()
    policy = started(algo.policy(), 2)
    policy.execute = execute
    plans, make = [], policy.plan
    policy.plan = lambda noise: plans.append((policy.step, make(noise))) or plans[-1][1]
    action_TBA = play(policy, 7, batch=2)
    assert [step for step, _ in plans] == list(range(0, 7, execute))
    for step, plan in plans:
        for i, action_BA in enumerate(action_TBA[step : step + execute]):
            assert np.array_equal(action_BA, plan[i])


def test_side_by_side_is_one_by_one():
    algo = learner()
    for _ in range(3):
        algo.step()
    together, noise = started(algo.policy(), 4), torch.randn(3, 8, 4, 3, 2)
    alone = [started(algo.policy()) for _ in range(4)]
    obs_TBO = np.random.default_rng(0).standard_normal((9, 4, 5)).astype(np.float32)
    for policy, rows in [(together, slice(None)), *((p, slice(i, i + 1)) for i, p in enumerate(alone))]:
        policy.actions, make = [], policy.plan
        policy.plan = lambda _, p=policy, r=rows, m=make: m(noise[p.step // 3][:, r])
        for obs_BO in obs_TBO:
            policy.actions.append(policy.act(obs_BO[rows]))
    for i, policy in enumerate(alone):
        assert np.allclose(np.array(policy.actions)[:, 0], np.array(together.actions)[:, i], atol=1e-5)


def test_history_holds_actions_as_executed_and_clears():
    policy = started(learner().policy())
    policy.net.action.scale.mul_(2)  # plans that leave the box
    action_TBA = play(policy, 7)
    assert np.abs(action_TBA).max() == 1, "ready to execute"
    assert np.array_equal(policy.past_BkA[0], action_TBA[-4:, 0])
    again = play(started(policy), 7)
    assert np.array_equal(again, action_TBA), "the same stream, a new episode: the same actions"
    assert not np.array_equal(play(started(policy, seed=1), 7), action_TBA)
    started(policy)
    assert (policy.step, policy.queue, np.abs(policy.obs_BkO).sum(), np.abs(policy.past_BkA).sum()) == (0, [], 0, 0)
    started(policy, 3)
    with pytest.raises(ValueError, match="of 1 environments"):
        play(policy, 1)


def test_observations_in_the_history_are_copies():
    policy, obs_BO = started(learner().policy()), np.ones((1, 5), np.float32)
    policy.act(obs_BO)
    obs_BO[:] = 9  # an evaluation writes the next observation over it
    assert policy.obs_BkO[0, -1].tolist() == [1] * 5


def test_episodes_may_last_longer_than_any_recorded_one():
    algo = learner(data=episodes(9, 4))
    policy = started(algo.policy())
    policy.step = 1600
    assert np.isfinite(play(policy, 3)).all()
    net = algo.net
    last, beyond = (torch.cat(net.positions(torch.tensor([t])), 1) for t in (8, 1600))
    assert torch.equal(last, beyond)
    assert not torch.equal(last, torch.cat(net.positions(torch.tensor([7])), 1))


def test_one_state_of_context():
    algo = learner("algo.n_obs_steps=1", "algo.horizon=1", "algo.n_action_steps=1")
    algo.step()
    assert play(started(algo.policy(), 2), 3, batch=2).shape == (3, 2, 2)


# --- learning ---


@pytest.mark.parametrize("action_range", ["box", "data"])
def test_constant_actions_at_the_bound_are_reproduced(action_range):
    """Clipping to ±1 must not cut them off, and a range of width 0 must not be divided by."""
    algo = learner(f"algo.action_range={action_range}", "algo.log_every=200", data=episodes(9, 9, action=[1, -1]))
    loss = algo.step().metrics["loss/noise"]
    assert np.isfinite(loss)
    action_TBA = play(started(algo.policy(), 8), 3, batch=8)
    assert np.abs(action_TBA - [1, -1]).mean() < 0.1


def test_standardised_actions_and_clipping_are_refused():
    with pytest.raises(UserError, match=r"algo\.clip_sample.*action_range=box"):
        built("algo=diffusion", "env=bipedal", "algo.action_range=std")
    built("algo=diffusion", "env=bipedal", "algo.action_range=std", "algo.clip_sample=false")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["algo.n_action_steps=4"], r"algo\.n_action_steps: is 4, but a plan has 3 actions"),
        (["algo.num_inference_steps=31"], r"algo\.num_inference_steps: is 31, but there are 30"),
        (["algo.num_heads=3"], r"algo\.embed_dim: must be even and a multiple of num_heads=3"),
    ],
)
def test_options_that_do_not_go_together(words, message):
    with pytest.raises(UserError, match=message):
        built("algo=diffusion", "env=bipedal", *words)


def test_a_box_without_bounds_is_refused():
    spec = replace(SPEC, low_A=np.full(2, -np.inf, np.float32))
    with pytest.raises(UserError, match=r"use algo\.action_range=data"):
        learner(spec=spec)


def test_scales_are_those_of_box_and_data():
    spec = replace(SPEC, low_A=np.array([-2, 0], np.float32), high_A=np.array([2, 1], np.float32))
    data = episodes(30, 20)
    data = replace(data, obs_NO=data.obs_NO * [1, 2, 3, 4, 0] + [0, 1, 2, 3, 4])
    scale = learner(data=data, spec=spec).net.action
    assert torch.equal(scale(torch.tensor([[-2.0, 0.0], [2.0, 1.0]])), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    scale = learner("algo.action_range=data", data=data, spec=spec).net.action
    scaled = scale(torch.from_numpy(data.action))
    assert torch.allclose(scaled.min(0)[0], -torch.ones(2))
    assert torch.allclose(scaled.max(0)[0], torch.ones(2))
    assert torch.allclose(scale.back(scaled), torch.from_numpy(data.action), atol=1e-6)
    obs = learner(data=data).net.obs(torch.from_numpy(data.obs_NO.astype(np.float32)))
    assert torch.allclose(obs.mean(0), torch.zeros(5), atol=1e-5)
    assert torch.allclose(obs.std(0, correction=0), torch.tensor([1.0, 1, 1, 1, 0]), atol=1e-5)


def test_an_update_stays_on_its_device():
    """ "meta" stands for a GPU: a tensor left on the processor would be refused."""
    config = built("algo=diffusion", "env=bipedal", *SMALL).algo
    algo = Diffusion(config, replace(task(data=episodes(9), device="meta"), spec=SPEC))
    batch = {name: x.to("meta") for name, x in algo.batch(np.arange(9)).items()}
    assert algo.learner.update(batch)["loss/noise"].device.type == "meta"


def test_averaged_weights_act_and_are_saved_with_their_count():
    algo = learner()
    algo.step()
    policy, theta = algo.policy(), torch.cat([p.detach().flatten() for p in algo.net.parameters()])
    acting = torch.cat([p.flatten() for p in policy.net.parameters()])
    assert torch.equal(acting, algo.learner.ema)
    assert not torch.equal(acting, theta)
    before = acting.clone()
    algo.step()
    assert torch.equal(torch.cat([p.flatten() for p in policy.net.parameters()]), before), "a policy is a copy"
    state = algo.state_dict()["learner"]
    assert {"theta", "ema", "m", "v", "t"} <= set(state)
    assert float(state["t"]) == 20


# --- rlexp chunks ---


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory):
    run = built("+experiment=diffusion_toy", "env.max_episode_steps=7")
    data = replace(episodes(9, 4), obs_NO=np.zeros((13, 8), np.float32), final_obs_EO=np.zeros((2, 8), np.float32))
    spec = replace(SPEC, obs_dim=8)
    path = tmp_path_factory.mktemp("chunks") / "p.safetensors"
    save_policy(path, learner(data=data, spec=spec).policy(), run.env, {})
    return path


def chunks(*words):
    parser = argparse.ArgumentParser()
    chunk_command.add(parser.add_subparsers())
    args = parser.parse_args(["chunks", *map(str, words)])
    return args.run(args)


def test_chunks_scores_every_number_of_actions(policy_file, capsys):
    chunks(policy_file, "--episodes", 3, "--json")
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["execute"], row["plans"], row["length_mean"]) for row in rows] == [(1, 7, 7), (2, 4, 7), (3, 3, 7)]
    assert all(row["seconds"] > 0 for row in rows)
    chunks(policy_file, "--episodes", 2, "--one-by-one", "--execute", 2, "--sampler", "ddim", "--steps", 4)
    table = capsys.readouterr().out
    assert "2 trajectories one by one, ddim, 4 denoising steps" in table
    assert table.splitlines()[-1].startswith("| 2 | ")
    assert table.splitlines()[-1].endswith("| 4.0 |")


def test_chunks_says_what_a_runs_loss_was_as_its_summary_does(tmp_path, policy_file, capsys):
    place = tmp_path / "seed_0" / "checkpoints"
    place.mkdir(parents=True)
    shutil.copy(policy_file, place / "final.safetensors")
    rows = [{"step": n, "updates": n, "loss/noise": 1 / n} for n in range(100, 20_001, 100)]
    (tmp_path / "seed_0" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chunks(tmp_path / "seed_0", "--episodes", 1, "--execute", 3, "--json")
    losses = json.loads(capsys.readouterr().out)["losses"]
    early = np.mean([1 / k for k in range(9500, 10_001, 100)])
    end, _ = tables.losses({"0": {"status": "done", "final": {"return_mean": 1.0}}}, {"0": rows})["loss/noise"]
    assert losses == {"10000": pytest.approx(early), "20000": end}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--execute", 4], "--execute 4: a plan of .* has 3 actions"),
        (["--steps", 9], "--steps 9: .* has 8 noise levels"),
        (["--episodes", 0], "--episodes: must be ≥ 1"),
    ],
)
def test_chunks_refuses(policy_file, words, message):
    with pytest.raises(UserError, match=message):
        chunks(policy_file, *words)


def test_chunks_is_for_policies_that_plan():
    with pytest.raises(UserError, match="holds a policy of kind 'cmaes'; only diffusion"):
        chunks("cmaes-swimmer")
