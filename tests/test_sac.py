"""SAC: its maths against plain torch, time limits against terminations, the replay buffer, squashing and boxes."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from rlexp.algos.sac import SAC, SquashedActor
from rlexp.buffers.replay import Replay
from rlexp.envs.make import describe
from rlexp.experiment.task import make_task
from rlexp.util.errors import UserError
from tests.helpers import built


def make(*overrides, seed=0):
    words = [
        "algo=sac",
        "env=gym",
        "env.id=Pendulum-v1",
        "policy.hidden=[16]",
        "algo.batch_size=32",
        "algo.buffer_size=500",
    ]
    run = built(*words, "algo.num_steps=20", "algo.learning_starts=20", *overrides)
    torch.manual_seed(0)  # Adam's first step jumps where a gradient is nearly 0: weights are the same each time
    return SAC(run.algo, make_task(run, describe(run.env), seed))


def batch_of(algo, n=32, seed=3):
    batch = algo.replay.sample(n, np.random.default_rng(seed))
    noise = torch.randn(2, *batch["action"].shape, generator=torch.Generator().manual_seed(seed))
    return batch | {"noise": noise[0], "noise_next": noise[1]}


def test_log_prob_is_that_of_a_squashed_gaussian():
    actor = SquashedActor(3, 2, [16], "tanh")
    obs, noise = torch.randn(50, 3), torch.randn(50, 2)
    action, logp = actor.sample(obs, noise)
    mean, log_std = actor(obs)
    oracle = Independent(TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)]), 1)
    torch.testing.assert_close(logp, oracle.log_prob(action), atol=1e-4, rtol=1e-4)


def test_log_prob_stays_finite_where_tanh_saturates():
    actor = SquashedActor(1, 1, [], "tanh")
    with torch.no_grad():
        actor.body[0].bias.copy_(torch.tensor([40.0, 0.0]))
    logp = actor.sample(torch.zeros(1, 1), torch.zeros(1, 1))[1]
    assert logp.item() == pytest.approx(-0.5 * np.log(2 * np.pi) - 2 * (np.log(2) - 40), rel=1e-5)


def oracle_update(critics, targets, actor, alpha, b, gamma, lr, tau, target_entropy):
    """One update as the paper's pseudocode has it, with torch's own optimiser and distributions."""

    def draw(obs, noise):
        mean, log_std = actor.body(obs).chunk(2, -1)
        u = mean + log_std.clamp(-20, 2).exp() * noise
        logp = Normal(mean, log_std.clamp(-20, 2).exp()).log_prob(u) - torch.log(1 - u.tanh() ** 2)
        return u.tanh(), logp.sum(-1)

    def q(nets, obs, action):
        return [net(torch.cat([obs, action], -1)).squeeze(-1) for net in nets]

    with torch.no_grad():
        action, logp = draw(b["next_obs"], b["noise_next"])
        y = b["reward"] + gamma * (1 - b["terminated"]) * (
            torch.min(*q(targets, b["next_obs"], action)) - alpha.exp() * logp
        )
    optimiser = torch.optim.Adam([p for net in critics for p in net.parameters()], lr=lr)
    sum(0.5 * torch.nn.functional.mse_loss(value, y) for value in q(critics, b["obs"], b["action"])).backward()
    optimiser.step()
    for net in critics:
        net.requires_grad_(False)
    action, logp = draw(b["obs"], b["noise"])
    optimiser = torch.optim.Adam([*actor.body.parameters()], lr=lr)
    (alpha.detach().exp() * logp - torch.min(*q(critics, b["obs"], action))).mean().backward()
    optimiser.step()
    optimiser = torch.optim.Adam([alpha], lr=lr)
    (-alpha * (logp.detach() + target_entropy)).mean().backward()
    optimiser.step()
    with torch.no_grad():
        for net, target in zip(critics, targets, strict=True):
            for p, t in zip(net.parameters(), target.parameters(), strict=True):
                t.mul_(1 - tau).add_(tau * p)


@pytest.mark.parametrize("compile", [False, True])
def test_one_update_agrees_with_plain_torch(compile):
    algo = make(f"train.compile={str(compile).lower()}", "algo.alpha=0.3", "algo.tau=0.1")
    algo.step()
    algo.critic.ema.mul_(0.9)  # targets that differ from the critics
    critics = [copy.deepcopy(net) for net in (algo.critic.net.first, algo.critic.net.second)]
    targets = [copy.deepcopy(net) for net in (algo.q_target.first, algo.q_target.second)]
    actor, batch = copy.deepcopy(algo.actor.net), batch_of(algo)
    batch["terminated"][::3] = 1.0
    alpha = actor.log_alpha.detach().clone().requires_grad_()
    metrics = algo.critic.update(batch) | algo.actor.update(batch)
    oracle_update(critics, targets, actor, alpha, batch, 0.99, 3e-4, 0.1, -1.0)
    for ours, theirs in (
        (algo.critic.net.first, critics[0]),
        (algo.critic.net.second, critics[1]),
        (algo.q_target.first, targets[0]),
        (algo.q_target.second, targets[1]),
        (algo.actor.net.body, actor.body),
    ):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a.detach(), b.detach(), atol=2e-6, rtol=1e-5)
    assert algo.actor.net.log_alpha.item() == pytest.approx(alpha.item(), abs=1e-6)
    assert metrics["opt/alpha"].item() == pytest.approx(0.3, rel=1e-5)


def test_alpha_is_fixed_where_it_is_not_tuned():
    algo = make("algo.autotune=false", "algo.alpha=0.2")
    algo.step()
    algo.step()
    assert algo.actor.net.log_alpha.item() == pytest.approx(np.log(0.2))


class TwoSteps(gym.Env):
    """Observation counts up; after two steps it ends, by itself or by a time limit."""

    metadata = {"render_modes": []}

    def __init__(self, render_mode=None, terminates=True):
        self.observation_space = gym.spaces.Box(-10, 10, (1,), np.float32)
        self.action_space = gym.spaces.Box(np.float32(-2), np.float32(4), (1,), np.float32)
        self.terminates = terminates
        self.seen = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        over = self.t == 2
        return np.full(1, self.t, np.float32), float(action[0]), over and self.terminates, over, {}


gym.register("SacTwoSteps-v0", TwoSteps)


@pytest.mark.parametrize("terminates", [True, False])
def test_replay_keeps_final_observations_and_terminations(terminates):
    algo = make(
        "env.id=SacTwoSteps-v0", f"+env.kwargs.terminates={terminates}", "algo.learning_starts=100", "algo.num_steps=6"
    )
    algo.step()
    batch = algo.replay.rows[:6]
    obs, action, reward, next_obs, terminated = batch.T
    assert obs.tolist() == [0, 1] * 3
    assert next_obs.tolist() == [1, 2] * 3, "what the action led to, not the first observation of the next episode"
    assert terminated.tolist() == [0, float(terminates)] * 3
    assert reward == pytest.approx(1 + 3 * action, abs=1e-6), (
        "actions in [-1, 1] are executed scaled to the box [-2, 4]"
    )


def test_policy_acts_in_the_box():
    algo = make("env.id=SacTwoSteps-v0")
    with torch.no_grad():
        algo.actor.net.body[-1].bias.copy_(torch.tensor([50.0, -5.0]))
    assert algo.policy().act(np.zeros((3, 1), np.float32)) == pytest.approx(4.0)


def test_policy_is_a_copy():
    algo = make()
    policy = algo.policy()
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    algo.step(), algo.step()
    assert all(torch.equal(before[k], v) for k, v in policy.state_dict().items())


def test_needs_a_box():
    with pytest.raises(UserError, match="no bounds"):
        make("env=sphere", "env.id=rlexp/Sphere-v0")


def test_replay_overwrites_the_oldest_and_samples_what_is_there():
    replay = Replay(5, 1, 1)
    for i in range(0, 8, 2):
        x = np.array([[i], [i + 1.0]])
        replay.add(x, -x, x[:, 0], x + 1, np.array([False, True]))
        drawn = replay.sample(200, np.random.default_rng(0))
        there = set(range(max(0, i + 2 - 5), i + 2))
        assert set(drawn["obs"].squeeze(1).tolist()) == there
        assert torch.equal(drawn["action"], -drawn["obs"])
        assert torch.equal(drawn["next_obs"], drawn["obs"] + 1)
        assert torch.equal(drawn["terminated"], drawn["reward"] % 2)
    again = Replay(5, 1, 1)
    again.load_state_dict(replay.state_dict())
    for ring in (replay, again):
        ring.add(np.array([[9.0]]), np.zeros((1, 1)), np.zeros(1), np.zeros((1, 1)), np.zeros(1))
    np.testing.assert_array_equal(replay.rows, again.rows)
