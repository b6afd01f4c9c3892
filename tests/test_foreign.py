"""Policies that other programs saved."""

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import rlexp
from rlexp.cli.main import main
from rlexp.envs.make import describe
from rlexp.envs.named import environment
from rlexp.envs.vector import VecEnv
from rlexp.experiment.assumed import notes
from rlexp.nn.actors import ACTIVATIONS, actor_for
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.files import save_policy
from rlexp.policies.start import start_weights
from rlexp.rollout.collector import collect
from rlexp.rollout.evaluation import evaluate
from rlexp.util.errors import UserError
from tests.helpers import built

SWIMMER = (8, 2)
CARTPOLE = (4, 2)


def layers(*sizes: int, names: str = "{}") -> dict[str, torch.Tensor]:
    """An MLP's tensors, with the names that nn.Sequential gives its linear layers when an activation follows each."""
    torch.manual_seed(sum(sizes))
    found = {}
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(n_in, n_out)
        name = names.format(2 * i)
        found |= {f"{name}.weight": linear.weight.detach(), f"{name}.bias": linear.bias.detach()}
    return found


def actor(n_in: int = 8, n_out: int = 2, names: str = "{}") -> dict[str, torch.Tensor]:
    return layers(n_in, 16, 8, n_out, names=names)


def written(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def outputs(tensors: dict[str, torch.Tensor], obs: torch.Tensor, activation: str) -> torch.Tensor:
    """What the MLP of `tensors` gives, layer by layer."""
    weights = [name for name in tensors if name.endswith("weight")]
    x = obs
    for i, name in enumerate(weights):
        x = x @ tensors[name].T + tensors[name.replace("weight", "bias")]
        if i < len(weights) - 1:
            x = ACTIVATIONS[activation]()(x)
    return x


OBS = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)


# name -> (what the file holds besides the actor, under which name the actor's layers are, what load_policy is told)
LAYOUTS = {
    "plain": ({}, "{}", {}),
    "nested": ({"epoch": 3, "optimizer": {"lr": 1e-3}}, "state_dict.{}", {}),
    "actor-critic": (layers(8, 16, 8, 1, names="critic.{}"), "actor.{}", {}),
    "wrapped": (layers(8, 16, 8, 1, names="module.value.{}"), "module.pi.{}", {}),
    "std beside": ({**layers(8, 16, 8, 1, names="critic.{}"), "actor_logstd": torch.zeros(1, 2)}, "actor_mean.{}", {}),
    "target": (layers(8, 16, 8, 2, names="actor_target.{}"), "actor.{}", {}),
    "two": (layers(8, 4, 2, names="b.{}"), "a.{}", {"prefix": "a"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_state_dict_acts_as_the_network_it_was(tmp_path, layout):
    others, names, said = LAYOUTS[layout]
    own = actor(names=names)
    file = written(tmp_path / "p.pt", {**others, **own})
    saved = rlexp.load_policy(file, env="swimmer", activation="relu", **said)
    expected = outputs(own, torch.from_numpy(OBS), "relu").clamp(-1, 1).numpy()
    np.testing.assert_allclose(saved.policy.act(OBS), expected, rtol=1e-6, atol=1e-6)
    assert saved.env.id == "Swimmer-v5"
    assert saved.assumed is None
    has_std = layout == "std beside"
    saved.policy.explore = True
    assert saved.policy.samples == has_std
    assert any("mean actions only" in note for note in saved.notes) != has_std


@pytest.mark.parametrize("suffix", ["pt", "pth", "ckpt"])
def test_actions_may_be_discrete(tmp_path, suffix):
    own = actor(*CARTPOLE, names="actor.{}")
    file = written(tmp_path / f"p.{suffix}", {**own, **layers(4, 16, 1, names="critic.{}")})
    saved = rlexp.load_policy(file, env="cartpole")
    obs = OBS[:, :4]
    expected = outputs(own, torch.from_numpy(obs), "tanh").argmax(-1)
    assert saved.policy.act(obs).tolist() == expected.tolist()
    assert saved.assumed == "tanh"
    assert saved.notes == ["left out: critic"]


def test_what_is_left_out_is_named_as_far_as_it_differs(tmp_path):
    tensors = {**actor(names="actor.{}"), **layers(8, 16, 8, 1, names="critic.{}")}
    saved = rlexp.load_policy(written(tmp_path / "p.ckpt", {"state_dict": tensors}), env="swimmer")
    assert saved.notes[-1] == "left out: state_dict.critic"


def test_a_shared_body_is_followed_to_the_actors_head(tmp_path):
    body = layers(8, 16, names="body.{}")
    head = layers(16, 2, names="actor_head{}")
    tensors = {**body, **head, **layers(16, 1, names="critic_head{}"), "log_std": torch.tensor([-1.0, 0.5])}
    saved = rlexp.load_policy(written(tmp_path / "p.pt", tensors), env="swimmer", activation="elu")
    expected = outputs({**body, **head}, torch.from_numpy(OBS), "elu").clamp(-1, 1)
    np.testing.assert_allclose(saved.policy.act(OBS), expected.numpy(), atol=1e-6)
    assert saved.policy.actor.log_std.tolist() == [-1.0, 0.5]
    named = {"prefix": "body, actor_head"}
    again = rlexp.load_policy(tmp_path / "p.pt", env="swimmer", activation="elu", **named)
    assert np.array_equal(again.policy.act(OBS), saved.policy.act(OBS))


def test_a_last_tanh(tmp_path):
    own = actor(names="net.{}")
    file = written(tmp_path / "p.pt", own)
    saved = rlexp.load_policy(file, env="swimmer", activation="relu", bounded=True)
    expected = outputs(own, torch.from_numpy(OBS), "relu").tanh()
    np.testing.assert_allclose(saved.policy.act(OBS), expected.numpy(), atol=1e-6)
    scale = {"action_scale": torch.tensor([0.5, 0.25]), "action_bias": torch.tensor([0.0, 0.5])}
    saved = rlexp.load_policy(written(file, {**own, **scale}), env="swimmer", activation="relu")
    expected = expected * scale["action_scale"] + scale["action_bias"]
    np.testing.assert_allclose(saved.policy.act(OBS), expected.numpy(), atol=1e-6)
    assert any("last tanh" in note for note in saved.notes)


def test_a_spread_that_depends_on_the_state_is_left_out(tmp_path):
    tensors = {**actor(names="fc{}"), "fc_logstd.weight": torch.zeros(2, 8), "fc_logstd.bias": torch.zeros(2)}
    saved = rlexp.load_policy(written(tmp_path / "p.pt", tensors), env="swimmer")
    assert "depends on the state (fc_logstd.weight), so it has mean actions only" in saved.notes[0]


def test_a_standard_deviation_may_be_none_of_a_logarithm(tmp_path):
    file = written(tmp_path / "p.pt", {**actor(), "std": torch.tensor([0.5, 2.0])})
    found = rlexp.load_policy(file, env="swimmer").policy.actor.log_std.exp().tolist()
    assert found == pytest.approx([0.5, 2.0])


# name -> (what the file holds, what load_policy is told, what the message says)
WRONG = {
    "observations": (
        actor(9),
        {},
        r"0.weight \(16, 9\) takes 9 inputs where 8 come; it holds 0.weight \(16, 9\)",
    ),
    "actions": (actor(8, 3), {}, r"4.weight \(3, 8\) has 3 outputs, expected 2"),
    "no bias": ({k: v for k, v in actor().items() if k != "2.bias"}, {}, r"2.bias is missing, expected \(8,\)"),
    "stds": ({**actor(), "log_std": torch.zeros(3)}, {}, r"one log std \(2,\); it holds log_std \(3,\)"),
    "layer norm": ({**actor(), "ln.weight": torch.ones(16)}, {}, r"no part of an MLP: ln.weight \(16,\)"),
    "several": (
        {**actor(names="a.{}"), **actor(8, 2, names="b.{}")},
        {},
        "several networks in it fit the environment: a, b; name one as prefix",
    ),
    "prefix": (actor(names="a.{}"), {"prefix": "b"}, "names begin with prefix 'b'; names begin with a"),
    "other prefix": (
        {**actor(names="a.{}"), **layers(8, 1, names="v.{}")},
        {"prefix": "v"},
        r"v.0.weight \(1, 8\) has 1 outputs, expected 2",
    ),
    "not finite": ({**actor(), "4.bias": torch.tensor([0.0, torch.nan])}, {}, "4.bias holds what is not a finite"),
    "whole numbers": ({**actor(), "4.bias": torch.tensor([0, 1])}, {}, "4.bias holds what is not a finite"),
    "nothing": ({"lr": 0.1}, {}, "there is no weight matrix; it holds no tensors"),
    "a list": ([torch.zeros(2)], {}, "is not a state_dict, a mapping of names to tensors, but a list"),
    "code": ({"x": Path("/")}, {}, r"cannot be read as a state_dict \(it holds pathlib\.\w*Path, not tensors alone"),
    "a model": (
        nn.Linear(8, 2),
        {},
        r"it holds torch\.nn\.\S+, not tensors alone; torch.save\(model.state_dict\(\), FILE",
    ),
    "huge": ({**actor(), "0.weight": torch.zeros(1).expand(10**9, 8)}, {}, "0.weight claims more numbers"),
    "activation": (actor(), {"activation": "rellu"}, "activation=rellu: there are .*did you mean 'relu'"),
    "argument": (actor(), {"activaton": "relu"}, "did you mean 'activation'"),
    "environment": (actor(), {"env": "swimer"}, "no environment 'swimer'.*did you mean 'swimmer'"),
    "vecnormalize": (actor(), {"vecnormalize": "x.pkl"}, "belongs to a zip of Stable-Baselines3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_one_line(tmp_path, case):
    content, said, message = WRONG[case]
    file = written(tmp_path / "p.pt", content)
    with pytest.raises(UserError, match=message) as error:
        rlexp.load_policy(file, **{"env": "swimmer", **said})
    assert "\n" not in str(error.value)


def test_names_within_names_have_an_end(tmp_path):
    nested: dict = {}
    for _ in range(30):
        nested = {"a": nested, "b": nested}
    with pytest.raises(UserError, match="too many names or mappings"):
        rlexp.load_policy(written(tmp_path / "p.pt", nested), env="swimmer")
    wide = dict.fromkeys(map(str, range(5000)), 0)
    for _ in range(3):
        wide = dict.fromkeys(map(str, range(5000)), wide)
    with pytest.raises(UserError, match="too many names or mappings"):
        rlexp.load_policy(written(tmp_path / "p.pt", wide), env="swimmer")
    (tmp_path / "q.pt").write_bytes(b"\x80\x02]q")
    with pytest.raises(UserError, match="cannot be read as a state_dict"):
        rlexp.load_policy(tmp_path / "q.pt", env="swimmer")


def test_the_environment_must_be_said(tmp_path):
    file = written(tmp_path / "p.pt", actor())
    with pytest.raises(UserError, match="which does not say its environment; name it with env"):
        rlexp.load_policy(file)
    with pytest.raises(UserError, match="is rlexp's own and says its env itself"):
        rlexp.load_policy("swimmer-start", env="swimmer")


def test_environments_have_names_and_ids():
    assert environment("Hopper-v5").expert_return == environment("hopper").expert_return is not None
    assert environment("Pendulum-v1").id == "Pendulum-v1"
    with pytest.raises(UserError, match="no environment 'Pendulum-v9'"):
        environment("Pendulum-v9")


# --- on the command line


def cartpole(tmp_path: Path) -> str:
    return str(written(tmp_path / "p.pt", {**actor(*CARTPOLE, names="actor.{}"), **layers(4, 1, names="critic.{}")}))


def test_eval_says_what_it_assumed(tmp_path, capsys):
    assert main(["eval", cartpole(tmp_path), "--env", "cartpole200", "--episodes", "2"]) == 0
    printed = capsys.readouterr().out
    assert "CartPole-v1, mean actions, n = 2" in printed
    assert "left out: critic" in printed
    assert "tanh is assumed (--activation says another)" in printed
    assert main(["eval", cartpole(tmp_path), "--env", "cartpole", "--episodes", "2", "--activation", "relu"]) == 0
    assert "is assumed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "FILE"], "name it with --env"),
        (["eval", "ppo-cartpole", "--activation", "relu"], "--activation: is about files of other programs"),
        (["eval", "FILE", "--env", "hopper"], "is not an MLP from 11 observations to 3 actions"),
        (["sigma", "ppo-hopper", "FILE"], "is not an MLP from 11 observations to 3 actions"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, words, message):
    assert main([cartpole(tmp_path) if word == "FILE" else word for word in words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_sigma_and_pairs_take_one(tmp_path, capsys):
    file = str(written(tmp_path / "p.pt", {**layers(8, 4, 2), "log_stds": torch.tensor([-0.5, -0.3])}))
    short = ["--env", "Swimmer-v5", "--activation", "relu"]
    assert main(["pairs", file, str(tmp_path / "x.safetensors"), "--trajectories", "2", *short]) == 0
    assert main(["sigma", "swimmer-start", file, "--episodes", "1", "--activation", "relu"]) == 0
    assert "| p |" in capsys.readouterr().out


# --- in training


def test_training_begins_from_one_and_says_what_was_assumed(tmp_path):
    where = cartpole(tmp_path)
    words = ["algo=ppo", "env=cartpole", f"policy.init={where}", "policy.hidden=[16,8]", "train.eval_episodes=2"]
    run = built(*words, "policy.activation=relu")
    left_out, assumed = notes(run)
    assert left_out == f"policy.init={where}: left out: critic"
    assert "policy.activation=relu is assumed, and returns " in assumed
    assert "(mean actions, n = 2)" in assumed


def test_an_expert_may_be_one(tmp_path):
    where = cartpole(tmp_path)
    run = built("algo=dagger", "env=cartpole", f"expert.policy={where}", "expert.activation=relu")
    assert notes(run) == [f"expert.policy={where}: left out: critic"]
    run = built("algo=dagger", "env=cartpole", f"expert.policy={where}", "train.eval_episodes=1")
    assert "expert.activation=tanh is assumed" in notes(run)[1]


def test_a_start_without_a_spread_gets_that_of_the_config(tmp_path):
    file = written(tmp_path / "p.pt", layers(8, 4, 2))
    run = built("algo=ppo", "env=swimmer", f"policy.init={file}", "policy.hidden=[4]", "policy.log_std=-0.7")
    ours = actor_for(describe(run.env), run.policy)
    start_weights(ours, run.policy)
    assert ours.log_std.tolist() == pytest.approx([-0.7, -0.7])
    assert torch.equal(ours.body[0].weight, torch.load(file)["0.weight"])


def test_options_without_a_file_are_one_line():
    with pytest.raises(UserError, match=r"policy\.prefix: is about the file policy\.init"):
        built("algo=ppo", "env=swimmer", "policy.prefix=actor")


# --- actions executed as they are drawn


def returned(where: str, *options: str) -> float:
    """Mean sampled return of a wide policy on Swimmer's first steps."""
    saved = rlexp.load_policy(where, clip_actions=None if not options else options[0] == "clipped")
    env = dataclasses.replace(saved.env, max_episode_steps=20)
    return rlexp.evaluate(dataclasses.replace(saved, env=env), 2, sampled=True)["return_mean"]


def test_a_policy_remembers_how_its_actions_were_executed(tmp_path):
    wide = ["algo=vpg", "env=swimmer", "policy.hidden=[]", "policy.log_std=2"]
    places = {}
    for clip in ("true", "false"):
        run = built(*wide, f"env.clip_actions={clip}")
        torch.manual_seed(0)
        spec = describe(run.env)
        policy = ActorPolicy(actor_for(spec, run.policy), spec)
        places[clip] = str(tmp_path / f"{clip}.safetensors")
        save_policy(Path(places[clip]), policy, run.env, {})
    assert returned(places["true"]) == returned(places["true"], "clipped") == returned(places["false"], "clipped")
    assert returned(places["false"]) == returned(places["true"], "as drawn")
    assert returned(places["false"]) < returned(places["true"]), "control is paid for as it is given"


def test_training_and_data_execute_them_as_drawn():
    run = built("algo=vpg", "env=swimmer", "policy.log_std=2", "env.clip_actions=false", "env.max_episode_steps=20")
    spec = describe(run.env)
    torch.manual_seed(0)
    policy = ActorPolicy(actor_for(spec, run.policy), spec, explore=True)
    episode = evaluate(policy, run.env, np.random.SeedSequence(0), 1).episodes[0]
    assert np.abs(episode.action).max() > 1
    actor = actor_for(spec, run.policy)
    rewards = []
    for each in (spec, describe(dataclasses.replace(run.env, clip_actions=True))):
        envs = VecEnv(run.env, [0])
        rewards.append(collect(envs, each, actor, torch.Generator().manual_seed(0)).reward_ET.sum())
        envs.close()
    assert rewards[0] < rewards[1]


def test_clipping_is_about_continuous_actions(capsys):
    assert main(["eval", "ppo-cartpole", "--no-clip-actions"]) == 2
    assert "clip_actions is about continuous actions" in capsys.readouterr().err
    with pytest.raises(UserError, match="true or false"):
        built("algo=ppo", "env=swimmer", "env.clip_actions=1")
