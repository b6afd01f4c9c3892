"""CMA-ES against the formulas, against the package `cmaes`, and against known returns of fixed policies."""

import re
from dataclasses import replace

import cmaes
import numpy as np
import pytest
import torch

from rlexp.algos.base import Task
from rlexp.algos.cmaes import CMAES, CMAESPolicy, Elites, Full
from rlexp.envs.make import describe
from rlexp.envs.spec import EnvConfig, EnvSpec
from rlexp.nn.actors import ACTIVATIONS, PolicyConfig, mlp
from rlexp.policies.base import Policy
from rlexp.policies.files import save_policy
from rlexp.rollout.evaluation import evaluate
from rlexp.util import checkpoint, seeding
from rlexp.util.errors import UserError
from rlexp.util.params import OutOfRange

COURSE = {
    "variant": "elites",
    "population_size": 100,
    "elite_fraction": 0.1,
    "eps": 0.25,
    "sigma0": 10.0,
    "num_episodes": 1,
    "sample": True,
}
CARTPOLE = EnvSpec(4, "discrete", 2)


def task(env_id: str, seed: int = 0, hidden: tuple[int, ...] = (), limit: int | None = None, **kwargs) -> Task:
    env = EnvConfig(
        id=env_id,
        name="x",
        kwargs=kwargs,
        max_episode_steps=limit,
        backend="gymnasium",
        random_return=None,
        expert_return=None,
    )
    policy = PolicyConfig(hidden=list(hidden), activation="tanh", orthogonal=True, log_std=0.0, init=None)
    return Task(env, describe(env), policy, seed)


def learner(t: Task, **changes) -> CMAES:
    config = CMAES.Config(**{**COURSE, **changes})
    CMAES.check(config, 100)
    return CMAES(config, t)


def ellipsoid(x_PN: np.ndarray) -> np.ndarray:
    """Losses (P,) of a badly scaled, rotated quadratic around 1."""
    n = x_PN.shape[1]
    rotation = np.linalg.qr(np.random.default_rng(n).standard_normal((n, n)))[0]
    return (((x_PN - 1) @ rotation) ** 2 * np.logspace(0, 3, n)).sum(1)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("n", "population"), [(2, 6), (5, 8), (18, 13), (5, 100)])
def test_full_is_the_package_step_by_step(n, population, seed):
    rng = np.random.default_rng(seed)
    start = rng.standard_normal(n)
    ours, theirs = Full(start, 0.7, population), cmaes.CMA(start.copy(), 0.7, population_size=population)
    for generation in range(60):
        stretch = 3.0 if generation % 5 == 0 else 0.8  # long steps too, for which p_c must stall
        x_PN = ours.mean + stretch * (ours.ask(population, rng) - ours.mean)
        loss_P = ellipsoid(x_PN)
        theirs.tell(list(zip(x_PN, loss_P, strict=True)))
        ours.tell(x_PN[np.argsort(loss_P, kind="stable")])
        theirs._eigen_decomposition()  # symmetrises its C, as ours does at once
        pairs = [
            (ours.mean, theirs._mean),
            (ours.sigma, theirs._sigma),
            (ours.cov, theirs._C),
            (ours.path_sigma, theirs._p_sigma),
            (ours.path_cov, theirs._pc),
        ]
        for a, b in pairs:
            assert np.abs(a - b).max() <= 1e-10 * max(1.0, np.abs(b).max())


def test_full_samples_have_the_stated_covariance():
    """What the comparison with the package cannot see, as both are fed our samples."""
    search = Full(np.zeros(3), 0.5, 12)
    for seed in range(10):
        x_PN = search.ask(12, np.random.default_rng(seed))
        search.tell(x_PN[np.argsort(ellipsoid(x_PN))])
    cov = search.sigma**2 * search.cov
    whitened = (search.ask(200_000, np.random.default_rng(0)) - search.mean) @ np.linalg.inv(np.linalg.cholesky(cov)).T
    assert np.cov(whitened.T) == pytest.approx(np.eye(3), abs=0.02)
    assert np.sort(search.variances()) == pytest.approx(np.linalg.eigvalsh(cov), rel=1e-9)


@pytest.mark.parametrize(("n", "kept"), [(2, 10), (5, 10), (18, 10)])
def test_elites_are_mean_and_cov_plus_eps(n, kept):
    rng = np.random.default_rng(n)
    search = Elites(np.zeros(n), 10.0, kept, eps=0.25)
    assert np.cov(search.ask(100_000, rng).T) == pytest.approx(100 * np.eye(n), abs=3)
    x_PN = rng.standard_normal((100, n)) * np.arange(1, n + 1)
    search.tell(x_PN)
    cov = np.cov(x_PN[:kept].T) + 0.25 * np.eye(n)
    assert search.mean == pytest.approx(x_PN[:kept].mean(0), rel=1e-12)
    assert search.deviations_KN.T @ search.deviations_KN + search.std**2 * np.eye(n) == pytest.approx(cov, abs=1e-10)
    assert np.sort(search.variances()) == pytest.approx(np.linalg.eigvalsh(cov), rel=1e-9)
    whitened = (search.ask(200_000, rng) - search.mean) @ np.linalg.inv(np.linalg.cholesky(cov)).T
    assert np.cov(whitened.T) == pytest.approx(np.eye(n), abs=0.03)


FIXED = [((-1, -1, -1, -1, -1), 15.6), ((1, 0, 1, 0, 1), 14.4), ((0, 1, 2, 3, 4), 9.4)]  # x = (w, b), mean return


@pytest.mark.parametrize(("x", "mean"), FIXED)
def test_fixed_cartpole_policies(x, mean):
    """P(LEFT) = sigmoid(s·w + b): with action 1 as LEFT, or without sampling, other returns come out."""
    t = task("CartPole-v1", limit=200)
    policy = CMAESPolicy(np.array([x]), t.spec, [], "tanh", explore=True)
    returns = evaluate(policy, t.env, seeding.stream(0, "eval"), 1000).summary(t.env)
    assert returns["return_mean"] == pytest.approx(mean, abs=0.5)


def test_a_hard_threshold_is_another_policy():
    t = task("CartPole-v1", limit=200)
    policy = CMAESPolicy(-np.ones((1, 5)), t.spec, [], "tanh", explore=False)
    assert evaluate(policy, t.env, seeding.stream(0, "eval"), 200).summary(t.env)["return_mean"] < 10


def test_bernoulli_probability():
    x, s = np.array([[0.5, -1.0, 2.0, 0.3, 0.7]]), np.array([[0.2, -0.4, 0.1, 0.9]], np.float32)
    policy = CMAESPolicy(x, CARTPOLE, [], "tanh", explore=True)
    policy.start(100_000, np.random.default_rng(0))
    left = (policy.act(np.repeat(s, 100_000, 0)) == 0).mean()
    assert left == pytest.approx(1 / (1 + np.exp(-(s[0] @ x[0, :4] + x[0, 4]))), abs=0.005)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_layout_is_weights_then_biases_layer_by_layer(activation):
    """A candidate's n numbers are the parameters of a torch MLP, one after another; candidates are apart."""
    low, rng = np.full(2, -0.5, np.float32), np.random.default_rng(0)
    env = EnvSpec(3, "continuous", 2, low, -low)
    n = CMAESPolicy.n_parameters(env, [4, 5])
    x_PN, obs_BO = rng.standard_normal((2, n)), rng.standard_normal((6, 3)).astype(np.float32)
    actions = CMAESPolicy(x_PN, env, [4, 5], activation).act(obs_BO)
    for p in range(2):
        net = mlp([3, 4, 5, 2], activation).double()
        torch.nn.utils.vector_to_parameters(torch.from_numpy(x_PN[p]), net.parameters())
        with torch.no_grad():
            expected = net(torch.from_numpy(obs_BO[3 * p : 3 * p + 3]).double()).clamp(-0.5, 0.5).numpy()
        assert actions[3 * p : 3 * p + 3] == pytest.approx(expected, abs=1e-6)
    assert (np.abs(actions) == 0.5).any(), "the box must have been reached, or clipping is not tested"


@pytest.mark.parametrize("n_actions", [2, 4])
def test_candidates_differ_by_their_parameters_alone(n_actions):
    """Equal candidates act alike on equal observations, sampled or not; episodes of one candidate do not."""
    env = EnvSpec(3, "discrete", n_actions)
    policy = CMAESPolicy(np.zeros((5, CMAESPolicy.n_parameters(env, []))), env, [], "tanh", explore=True)
    policy.start(5 * 20, np.random.default_rng(0))
    obs_PEO = np.broadcast_to(np.random.default_rng(1).standard_normal((20, 3)), (5, 20, 3)).astype(np.float32)
    action_PE = policy.act(obs_PEO.reshape(100, 3)).reshape(5, 20)
    assert (action_PE == action_PE[0]).all()
    assert set(action_PE[0]) == set(range(n_actions))


def test_common_episodes_and_stable_order_of_ties():
    algo = learner(task("CartPole-v1", limit=200), num_episodes=3)
    return_P, _ = algo._play(np.tile([0.1, 0.2, 0.3, 0.4, 0.0], (4, 1)))
    assert (return_P == return_P[0]).all()
    algo.generation += 1
    assert (algo._play(np.tile([0.1, 0.2, 0.3, 0.4, 0.0], (4, 1)))[0] != return_P).all(), "new episodes next time"

    flat = learner(task("rlexp/Sphere-v0", optimum=[0.0, 0.0]))
    seen = []
    flat._play = lambda x_PN: (np.full(len(x_PN), 200.0), 100)
    flat.search.tell = seen.append
    flat.step()
    assert (seen[0] == flat.search.ask(100, flat.task.rng("batch", 0))).all()


def test_a_return_that_is_no_number_is_never_elite_and_shows():
    algo = learner(task("rlexp/Sphere-v0", optimum=[3.0, 4.0]))
    play = algo._play
    algo._play = lambda x_PN: (np.where(np.arange(100) == 7, np.nan, play(x_PN)[0]), 100)
    metrics = algo.step().metrics
    assert np.isfinite(algo.search.mean).all()
    assert np.isfinite(metrics["data/return_elite"])
    assert np.isnan(metrics["data/return_mean"]), "the run must stop"


@pytest.mark.parametrize("seed", range(5))
def test_sphere(seed):
    algo = learner(task("rlexp/Sphere-v0", seed, optimum=[65, 49]))
    for _ in range(100):
        progress = algo.step()
    assert np.linalg.norm(algo.search.mean - [65, 49]) < 0.5
    assert (progress.env_steps, progress.updates) == (100, 1)
    assert [algo.state_metrics()["state/mean_0"], algo.state_metrics()["state/mean_1"]] == algo.search.mean.tolist()


def test_full_sphere_converges_to_the_point():
    algo = learner(task("rlexp/Sphere-v0", optimum=[65, 49]), variant="full", population_size=None)
    assert algo.population == 6
    for _ in range(120):
        metrics = algo.step().metrics
    assert algo.search.mean == pytest.approx([65, 49], abs=1e-5)
    assert metrics["opt/sigma"] < 1e-4


@pytest.mark.parametrize("changes", [{}, {"variant": "full", "population_size": 12}])
def test_resumes_exactly(changes, tmp_path):
    whole, cut = (learner(task("CartPole-v1", 3, hidden=(4,), limit=50), **changes) for _ in range(2))
    for _ in range(3):
        whole.step()
    checkpoint.save(tmp_path / "state.safetensors", whole.state_dict())
    cut.load_state_dict(checkpoint.load(tmp_path / "state.safetensors"))
    for _ in range(3):
        assert cut.step() == whole.step()
    assert (cut.search.mean == whole.search.mean).all()


@pytest.mark.parametrize("changes", [{}, {"variant": "full", "population_size": 12}])
def test_a_saved_state_does_not_change_under_later_steps(changes):
    algo = learner(task("rlexp/Sphere-v0", optimum=[65, 49]), **changes)
    algo.step()
    state = algo.state_dict()
    before = [np.array(part) for part in state["search"].values()]
    for _ in range(2):
        algo.step()
    assert all((a == b).all() for a, b in zip(before, state["search"].values(), strict=True))


def test_reported_policy_is_the_mean():
    algo = learner(task("CartPole-v1", limit=50))
    for _ in range(2):
        algo.step()
    policy = algo.policy()
    assert policy.x_PN.tolist() == [algo.search.mean.tolist()]
    reported = policy.x_PN.clone()
    algo.step()
    assert (policy.x_PN == reported).all(), "a policy once handed out is frozen"


@pytest.mark.parametrize("hidden", [(), (8, 4)])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1", "Pendulum-v1"])
def test_policy_rebuilt_from_its_file_acts_the_same(env_id, hidden, tmp_path):
    t = task(env_id, hidden=hidden)
    x = np.random.default_rng(0).standard_normal((1, CMAESPolicy.n_parameters(t.spec, hidden)))
    obs_BO = np.random.default_rng(1).standard_normal((50, t.spec.obs_dim)).astype(np.float32)
    for explore in (False, True):
        ours = CMAESPolicy(x, t.spec, hidden, "silu", explore)
        checkpoint.save(tmp_path / "p", {"spec": ours.spec(), "state": ours.state_dict()})
        tree = checkpoint.load(tmp_path / "p")
        again = Policy.kinds["cmaes"].from_spec(tree["spec"], tree["state"])
        actions = []
        for policy in (ours, again):
            policy.start(50, np.random.default_rng(5))
            actions.append([policy.act(obs_BO).tolist() for _ in range(20)])
        assert actions[0] == actions[1]
        varies = any(a != actions[0][0] for a in actions[0])
        assert varies == (explore and t.spec.kind == "discrete")


@pytest.mark.parametrize(
    ("env_id", "hidden", "activation", "said"),
    [
        (
            "InvertedPendulum-v5",
            [],
            "tanh",
            "has continuous actions and layers of [4, 1]; this run",
        ),
        (
            "CartPole-v1",
            [3],
            "tanh",
            "layers of [4, 3, 1], tanh; this run's policy has discrete actions",
        ),
        ("CartPole-v1", [], "relu", None),  # without hidden layers there is nothing to activate
    ],
)
def test_starts_from_a_policy_of_its_own_shape_only(env_id, hidden, activation, said, tmp_path):
    theirs, file = task(env_id, hidden=hidden), tmp_path / "p.safetensors"
    x = np.arange(1.0, 1 + CMAESPolicy.n_parameters(theirs.spec, hidden))[None]
    save_policy(file, CMAESPolicy(x, theirs.spec, hidden, activation), theirs.env, {})
    ours = task("CartPole-v1")
    ours = replace(ours, policy=replace(ours.policy, init=str(file)))
    if said is None:
        assert np.array_equal(learner(ours).search.mean, x[0])
    else:
        with pytest.raises(UserError, match=re.escape(said)):
            learner(ours)


def test_refuses_what_cannot_work():
    t = task("CartPole-v1")
    with pytest.raises(OutOfRange, match="null"):
        learner(t, population_size=None)
    with pytest.raises(OutOfRange, match="fewer than 2"):
        learner(t, population_size=10)
    with pytest.raises(UserError, match="n = 4,545 parameters"):
        learner(task("CartPole-v1", hidden=(64, 64)), variant="full")
