"""DAgger: who acts, who labels, what is kept."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from rlexp.algos import dagger
from rlexp.algos.base import Task
from rlexp.algos.dagger import DAgger
from rlexp.envs.make import describe
from rlexp.experiment.task import make_task
from rlexp.nn.actors import Normaliser, make_actor
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.files import save_policy
from rlexp.rollout.evaluation import evaluate
from rlexp.util import checkpoint, seeding
from rlexp.util.errors import UserError
from tests.helpers import Unsaved, built


class Drift(gym.Env):
    """2 to 9 steps, drawn at each reset. Shows (number of the episode, steps done, sum of executed actions)."""

    observation_space = gym.spaces.Box(-99, 99, (3,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.length = self.np_random.normal(), int(self.np_random.integers(2, 10))
        self.t, self.place = 0, 0.0
        return self._obs(), {}

    def step(self, action):
        assert np.abs(action).max() <= 1
        self.t += 1
        self.place += float(action[0])
        return self._obs(), 1.0, False, self.t == self.length, {}

    def _obs(self):
        return np.array([self.number, self.t, self.place], np.float32)


gym.register("rlexp_test/Drift-v0", entry_point=Drift)
DRIFT = ["algo=dagger", "env=gym", "env.id=rlexp_test/Drift-v0", "policy=linear", "expert.policy=x"]
ROUND = ["algo.updates_per_round=6", "algo.log_every=2", "algo.episodes_per_round=8", "algo.batch_size=64"]


class Leaves(Unsaved):
    """Wants beyond the bounds, and remembers: the size of its action is how often it has been asked."""

    def start(self, batch, rng):
        self.asked, self.paid = np.zeros(batch), np.zeros(batch)

    def act(self, obs_BO):
        assert (self.paid == self.asked).any(), "whoever still plays was paid 1 for every step, and heard of it"
        self.asked += 1
        return np.where(obs_BO[:, :1] > 0, self.asked[:, None] / 10, -7).astype(np.float32)

    def observe(self, reward_B):
        self.paid += reward_B


def wanted(obs_NO: np.ndarray) -> np.ndarray:
    """What `Leaves` says of these, inside the bounds."""
    return np.where(obs_NO[:, :1] > 0, (obs_NO[:, 1:2] + 1) / 10, -1).astype(np.float32)


def make(*words: str, expert=None) -> DAgger:
    run = built(*words)
    spec = describe(run.env)
    torch.manual_seed(0)
    return DAgger(run.algo, Task(run.env, spec, run.policy, 0, expert=expert or make_task(run, spec, 0).expert))


def lineworld(*words: str) -> DAgger:
    return make("algo=dagger", "env=lineworld", *ROUND, *words)


def recorded(monkeypatch) -> list[tuple[list, list]]:
    """(observations, executed actions) of each episode, of each round, as the simulator had them."""
    rounds, play = [], dagger.play

    def spy(env, seeds, act, observe):
        seen = []
        episodes = play(env, seeds, lambda obs: (seen.append(obs.copy()), act(obs))[1], observe)
        obs = [np.stack(seen)[: len(e.reward_T), b] for b, e in enumerate(episodes)]
        rounds.append((obs, [e.action for e in episodes]))
        return episodes

    monkeypatch.setattr(dagger, "play", spy)
    return rounds


def test_learner_acts_and_expert_labels(monkeypatch):
    algo, rounds = lineworld("algo.beta=0"), recorded(monkeypatch)
    learner = algo.policy()
    algo.step()
    obs, action = (np.concatenate(part) for part in rounds[0])
    assert np.array_equal(action, learner.act(obs))
    assert np.array_equal(algo.obs_NO, obs)
    assert np.array_equal(algo.label, algo.task.expert.act(obs))
    assert (action != algo.label).mean() > 0.2, "the test itself: they disagree"


def test_beta_one_is_behaviour_cloning_of_the_experts_episodes(monkeypatch):
    algo, rounds = lineworld("algo.beta=1"), recorded(monkeypatch)
    for _ in range(4):
        algo.step()
    obs, action = (np.concatenate([e for played in rounds for e in played[part]]) for part in (0, 1))
    assert np.array_equal(algo.obs_NO, obs)
    assert np.array_equal(algo.label, action)
    assert np.array_equal(action, algo.task.expert.act(obs))


def test_beta_mixes_step_by_step(monkeypatch):
    algo, rounds = lineworld("algo.beta=0.3", "algo.episodes_per_round=100"), recorded(monkeypatch)
    learner = algo.policy()
    algo.step()
    obs, action = (np.array(part) for part in rounds[0])  # (B, T, …): all episodes are 20 steps
    theirs, ours = (p.act(obs.reshape(-1, 2)).reshape(100, 20) for p in (algo.task.expert, learner))
    apart = theirs != ours
    by_expert = (action == theirs)[apart]
    assert ((action == theirs) | (action == ours)).all()
    assert by_expert.mean() == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / apart.sum()))
    per_episode = [(action == theirs)[e][apart[e]].mean() for e in range(100) if apart[e].sum() > 9]
    assert len(per_episode) > 10
    assert np.std(per_episode) < 0.25, "by whole episodes it would be 0.46"
    assert len({tuple(row) for row in (action == theirs)[apart.sum(1) > 15]}) > 1, "nor all episodes alike"


def test_labels_are_inside_the_bounds_of_live_steps_only_and_in_step_with_an_expert_who_remembers():
    """Whatever it wants, and though episodes end at different times."""
    algo = make(*DRIFT, *ROUND, "algo.normalise_obs=false", expert=Leaves())
    for _ in range(4):
        algo.step()
    assert np.array_equal(algo.label, wanted(algo.obs_NO))
    assert algo.label.min() == -1
    assert (algo.obs_NO[:, 0] > 0).any()
    names, lengths = np.unique(algo.obs_NO[:, 0], return_counts=True)
    assert len(names) == 16
    assert len(set(lengths)) > 3
    for name, length in zip(names, lengths, strict=True):
        steps = algo.obs_NO[algo.obs_NO[:, 0] == name][:, 1]
        assert steps.tolist() == list(range(length)), "every step once, none after the end"
    assert lengths.max() <= 9


def test_expert_standardises_by_its_own_statistics_and_is_asked_for_its_mean(tmp_path):
    stats = Normaliser(3)
    stats.update(np.random.default_rng(0).normal(5, [1, 3, 9], size=(50, 3)).astype(np.float32))
    torch.manual_seed(1)
    run = built(*DRIFT)
    net = make_actor("continuous", 3, 1, hidden=[4], activation="tanh")
    expert = ActorPolicy(net, describe(run.env), stats, explore=True)
    save_policy(tmp_path / "e.safetensors", expert, run.env, {})
    algo = make(*DRIFT, *ROUND, f"expert.policy={tmp_path / 'e.safetensors'}")
    for _ in range(4):
        algo.step()
    label = net.mode(torch.from_numpy(stats(algo.obs_NO))).detach().numpy()
    assert algo.label == pytest.approx(label.clip(-1, 1), abs=1e-6)
    assert np.ptp(algo.label) > 0.1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["env=bipedal", "expert.policy=diffusion-bipedal"], "goes on from what it did itself"),
        (["env=gridworld", "expert.policy=ppo-cartpole"], "is of CartPole-v1, the environment is"),
        (["env=halfcheetah", "expert.policy=walker2d-medium"], "is of Walker2d-v5, the environment is HalfCheetah-v5"),
        (["env=cartpole"], r"cartpole-expert: .*\(shipped for cartpole: .*ppo-cartpole"),
    ],
)
def test_experts_who_cannot_say_what_to_do(words, said):
    with pytest.raises(UserError, match=said):
        make("algo=dagger", *ROUND, *words)


def test_an_expert_that_is_not_there_is_named_once():
    with pytest.raises(UserError, match=r"^expert\.policy=nowhere: no such run folder"):
        make(*DRIFT, *ROUND, "expert.policy=nowhere")


def test_data_are_aggregated_never_replaced_and_all_are_learned_from():
    algo, sizes = lineworld("algo.batch_size=512"), []
    batches, update = [], algo.learner.update
    algo.learner.update = lambda batch: (batches.append(batch), update(batch))[1]
    for round_ in range(4):
        first = algo.obs_NO.copy(), algo.label.copy()
        for part in range(3):
            progress = algo.step()
            assert progress.env_steps == (0 if part else 160)
            assert progress.updates == 2
            assert progress.metrics["data/labels"] == 160 * (round_ + 1)
            assert ("data/return_mean" in progress.metrics) == (part == 0)
        sizes.append(len(algo.obs_NO))
        assert np.array_equal(algo.obs_NO[: len(first[0])], first[0])
        assert np.array_equal(algo.label[: len(first[1])], first[1])
    assert sizes == [160, 320, 480, 640]
    learned = np.unique(torch.cat([b["obs"] for b in batches[-6:]]).numpy(), axis=0)
    held = np.unique(algo.obs_stats(algo.obs_NO), axis=0)
    assert np.array_equal(learned, held), "six batches of 512 of 640 steps: each is among them"


def test_each_label_stands_beside_its_own_state():
    algo = make(*DRIFT, *ROUND, "algo.normalise_obs=false", expert=Leaves())
    batches, update = [], algo.learner.update
    algo.learner.update = lambda batch: (batches.append(batch), update(batch))[1]
    for _ in range(6):
        algo.step()
    for batch in batches:
        assert np.array_equal(batch["action"].numpy(), wanted(batch["obs"].numpy()))


def test_rounds_play_new_episodes_of_the_newest_learner(monkeypatch):
    algo, rounds = lineworld("algo.lr=1e-2"), recorded(monkeypatch)
    for _ in range(4):
        learner = algo.policy()
        algo.step()
    obs, action = (np.concatenate(part) for part in rounds[1])
    assert np.array_equal(action, learner.act(obs))
    starts = [tuple(map(tuple, np.array(played[0])[:, 0])) for played in rounds]
    assert len(rounds) == 2
    assert starts[0] != starts[1]
    assert len(set(starts[0])) > 1


def test_statistics_are_those_of_all_data():
    algo = lineworld()
    for _ in range(7):
        algo.step()
    x = algo.obs_NO.astype(np.float64)
    assert algo.obs_stats.mean == pytest.approx(x.mean(0), rel=1e-9)
    assert algo.obs_stats.var == pytest.approx(x.var(0), rel=1e-9)
    assert np.array_equal(algo.policy().normaliser.mean, algo.obs_stats.mean)


@pytest.mark.parametrize(
    ("schedule", "beta", "decay", "course"),
    [
        ("constant", 0.7, 0.0, [0.7, 0.7, 0.7, 0.7]),
        ("linear", 0.7, 0.3, [0.7, 0.4, 0.1, 0.0]),
        ("exponential", 0.8, 0.5, [0.8, 0.4, 0.2, 0.1]),
        ("exponential", 1.0, 0.0, [1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_beta_schedules(schedule, beta, decay, course):
    words = [f"algo.beta={beta}", f"algo.beta_schedule={schedule}", f"algo.beta_decay={decay}"]
    algo = lineworld(*words, "algo.episodes_per_round=1", "algo.log_every=6")
    assert [algo.step().metrics["opt/beta"] for _ in course] == pytest.approx(course)


def test_beta_falls_in_play_as_it_is_logged(monkeypatch):
    words = ["algo.beta=1", "algo.beta_schedule=exponential", "algo.beta_decay=0", "algo.log_every=6"]
    algo, rounds = lineworld(*words), recorded(monkeypatch)
    algo.step()
    learner = algo.policy()
    algo.step()
    for (obs, action), actor in zip(rounds, (algo.task.expert, learner), strict=True):
        assert np.array_equal(np.concatenate(action), actor.act(np.concatenate(obs)))


def test_rounds_keep_their_length_where_steps_do_not_divide_it():
    algo = lineworld("algo.log_every=4")
    done = [algo.step() for _ in range(4)]
    assert [p.updates for p in done] == [4, 2, 4, 2]
    assert [p.env_steps for p in done] == [160, 0, 160, 0]


@pytest.mark.parametrize("steps", [3, 4])
def test_continues_exactly_in_the_middle_of_a_round_and_between(tmp_path, steps):
    whole, cut, again = (lineworld() for _ in range(3))
    for _ in range(steps):
        whole.step()
        cut.step()
    checkpoint.save(tmp_path / "c.safetensors", cut.state_dict())
    again.load_state_dict(checkpoint.load(tmp_path / "c.safetensors"))
    for _ in range(4):
        assert again.step() == whole.step()
    assert torch.equal(again.learner.theta, whole.learner.theta)
    assert np.array_equal(again.obs_NO, whole.obs_NO)


def test_weights_bring_the_statistics_that_they_were_trained_on(tmp_path):
    first = lineworld()
    first.step()
    save_policy(tmp_path / "p.safetensors", first.policy(), first.task.env, {})
    second = lineworld(f"policy.init={tmp_path / 'p.safetensors'}")
    assert np.array_equal(second.policy().normaliser.mean, first.obs_stats.mean)
    assert np.array_equal(second.policy().act(first.obs_NO), first.policy().act(first.obs_NO))


def test_reaches_the_expert_on_continuous_actions():
    """The learner of an expert who steers to 0: linear, so it can be had exactly."""

    class Steers(Unsaved):
        def act(self, obs_BO):
            return np.clip(0.2 - 0.1 * obs_BO[:, 2:], -1, 1).astype(np.float32)

    algo = make(*DRIFT, "algo.lr=1e-2", "algo.updates_per_round=100", "algo.episodes_per_round=8", expert=Steers())
    for _ in range(10):
        algo.step()
    fresh = evaluate(algo.policy(), algo.task.env, seeding.stream(0, "eval"), 10)
    expert = evaluate(Steers(), algo.task.env, seeding.stream(0, "eval"), 10)
    for ours, theirs in zip(fresh.episodes, expert.episodes, strict=True):
        assert ours.action == pytest.approx(theirs.action, abs=0.02)
