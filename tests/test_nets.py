"""Networks and normalisers against numpy and torch.distributions."""

import math

import numpy as np
import pytest
import torch

from rlexp.envs.spec import EnvConfig, EnvSpec
from rlexp.nn.actors import ActorCritic, Normaliser, PolicyConfig, actor_for, make_actor, mlp, require_probabilities
from rlexp.nn.attention import OneHead
from rlexp.nn.segments import segment_sums
from rlexp.policies.actor import ActorPolicy
from rlexp.policies.files import load_policy, save_policy
from rlexp.util import checkpoint, paths
from rlexp.util.errors import UserError

RAW = [(200, 3.0, 5.0), (1, 100.0, 1.0), (37, -2.0, 0.1)]  # batches: size, mean, standard deviation


def actor(kind: str = "continuous", obs: int = 3, actions: int = 2, **options):
    torch.manual_seed(0)
    return make_actor(kind, obs, actions, **{"hidden": [8], "activation": "tanh", **options})


def data(width: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(mean + std * rng.normal(size=(n, width))).astype(np.float32) for n, mean, std in RAW]


def test_normaliser_is_mean_and_variance_over_everything_it_saw():
    normaliser = Normaliser(3)
    for batch in data():
        normaliser.update(batch)
    x = np.concatenate(data()).astype(np.float64)
    assert normaliser.mean == pytest.approx(x.mean(0), rel=1e-12)
    assert normaliser.var == pytest.approx(x.var(0), rel=1e-12)
    assert normaliser.count == len(x)
    out = normaliser(data()[0])
    assert out.dtype == np.float32
    assert out == pytest.approx((data()[0] - x.mean(0)) / np.sqrt(x.var(0) + 1e-8), abs=1e-5)


def test_normaliser_keeps_its_digits_far_from_zero():
    """The textbook E[x²] − E[x]² loses all of them here."""
    rng, normaliser = np.random.default_rng(0), Normaliser(1)
    x = 1e7 + rng.normal(size=(1000, 1))
    for part in np.split(x, 10):
        normaliser.update(part)
    assert normaliser.var == pytest.approx(x.var(0), rel=1e-6)


def test_a_new_normaliser_changes_nothing_and_outliers_are_clipped():
    x = np.array([[0.5, -3.0]], np.float32)
    assert Normaliser(2)(x) == pytest.approx(x)
    assert Normaliser(2, clip=2.0)(x).tolist() == [[0.5, -2.0]]
    constant = Normaliser(1)
    constant.update(np.full((5, 1), 3.0, np.float32))
    assert np.isfinite(constant(np.array([[3.0], [4.0]], np.float32))).all(), "a constant input divides by no zero"


def test_scaling_divides_by_the_deviation_and_subtracts_nothing():
    normaliser = Normaliser(1)
    normaliser.update(np.array([[4.0], [6.0], [8.0]]))
    reward_TB = np.array([[0.0, 2.0], [-2.0, 6.0]], np.float32)
    out = normaliser.scale(reward_TB)
    assert out == pytest.approx(reward_TB / np.std([4, 6, 8]))
    assert out.dtype == np.float32


def test_a_restored_normaliser_is_the_same_and_a_copy_stays_frozen(tmp_path):
    first = Normaliser(3, clip=7.0)
    first.update(data()[0])
    checkpoint.save(tmp_path / "n.safetensors", first.state_dict())
    loaded, copied = Normaliser(3), Normaliser(3)
    loaded.load_state_dict(checkpoint.load(tmp_path / "n.safetensors"))
    copied.load_state_dict(first.state_dict())
    x = data()[2]
    expected = first(x)
    assert np.array_equal(loaded(x), expected)
    first.update(data()[1])
    loaded.update(data()[1])
    assert np.array_equal(loaded(x), first(x))
    assert not np.array_equal(expected, first(x))
    assert np.array_equal(copied(x), expected)


def test_discrete_samples_follow_the_softmax_of_the_logits():
    net = actor("discrete", actions=4)
    with torch.no_grad():
        net.body[-1].weight.mul_(4)
    obs = torch.tensor([[0.5, -1.0, 2.0]])
    n = 40_000
    noise = net.noise([n], torch.Generator().manual_seed(0))
    assert noise.shape == (n, 4)
    share = torch.bincount(net.sample(obs.expand(n, 3), noise), minlength=4) / n
    p = net(obs).softmax(-1)[0]
    assert p.max() - p.min() > 0.1, "the test itself: not all alike"
    assert share.tolist() == pytest.approx(p.tolist(), abs=0.01)
    assert net.mode(obs) == p.argmax()


def test_gaussian_samples_have_the_mean_and_deviation_they_say():
    net = actor("continuous", log_std=-1.0)
    with torch.no_grad():
        net.log_std.copy_(torch.tensor([-1.0, 0.5]))
    obs = torch.tensor([[0.5, -1.0, 2.0]])
    sample = net.sample(obs.expand(40_000, 3), net.noise([40_000], torch.Generator().manual_seed(0)))
    assert sample.mean(0).tolist() == pytest.approx(net(obs)[0].tolist(), abs=0.03)
    assert sample.std(0).tolist() == pytest.approx([math.exp(-1), math.exp(0.5)], rel=0.02)
    assert abs(torch.corrcoef(sample.T)[0, 1].item()) < 0.02
    assert torch.equal(net.mode(obs), net(obs))


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
def test_noise_comes_from_the_generator_alone(kind):
    net, state = actor(kind), torch.get_rng_state()
    a, b, c = (net.noise([4, 5], torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert a.shape == (4, 5, 2)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(state, torch.get_rng_state())


def test_categorical_log_probability_and_entropy_agree_with_torch():
    net, obs = actor("discrete", actions=5), torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    action = torch.arange(7) % 5
    theirs = torch.distributions.Categorical(logits=net(obs))
    logp, entropy = net.log_prob_entropy(obs, action)
    assert torch.allclose(logp, theirs.log_prob(action), atol=1e-6)
    assert torch.allclose(entropy, theirs.entropy(), atol=1e-6)


def test_gaussian_log_probability_and_entropy_are_summed_over_action_dims():
    net = actor("continuous", actions=3)
    with torch.no_grad():
        net.log_std.copy_(torch.tensor([-1.0, 0.0, 0.7]))
    obs, action = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0))
    theirs = torch.distributions.Independent(torch.distributions.Normal(net(obs), net.log_std.exp()), 1)
    logp, entropy = net.log_prob_entropy(obs, action)
    assert logp.shape == entropy.shape == (7,)
    assert torch.allclose(logp, theirs.log_prob(action), atol=1e-5)
    assert torch.allclose(entropy, theirs.entropy(), atol=1e-6)


def test_initial_deviation_is_the_configured_one():
    assert actor("continuous", log_std=-0.7).log_std.tolist() == pytest.approx([-0.7, -0.7])


@pytest.mark.parametrize("kind", ["discrete", "continuous"])
@pytest.mark.parametrize("hidden", [[], [8], [8, 4]])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_an_actor_is_rebuilt_from_its_spec_and_weights(tmp_path, kind, hidden, activation):
    net = actor(kind, hidden=hidden, activation=activation, orthogonal=True, log_std=-0.5)
    checkpoint.save(tmp_path / "a.safetensors", {"spec": net.spec, "state": net.state_dict()})
    tree = checkpoint.load(tmp_path / "a.safetensors")
    again = make_actor(**tree["spec"])
    again.load_state_dict(tree["state"])
    obs, noise = torch.randn(6, 3), net.noise([6], None)
    assert torch.equal(net.sample(obs, noise), again.sample(obs, noise))
    assert again.spec == net.spec


def test_orthogonal_layers_have_gain_root_two_and_the_last_its_own():
    torch.manual_seed(0)
    net = mlp([4, 16, 8, 3], "tanh", orthogonal=True, last_gain=0.01)
    layers = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    for layer, gain in zip(layers, (math.sqrt(2), math.sqrt(2), 0.01), strict=True):
        assert torch.linalg.svdvals(layer.weight).tolist() == pytest.approx([gain] * min(layer.weight.shape), rel=1e-5)
        assert not layer.bias.any()
    assert type(net[-1]) is torch.nn.Linear, "nothing bends the output"


def config(**changes) -> PolicyConfig:
    plain = {"hidden": [8, 8], "activation": "relu", "orthogonal": False, "log_std": 0.0, "init": None}
    return PolicyConfig(**{**plain, **changes})


ENV = {"id": "x", "name": "x", "max_episode_steps": None, "backend": "gymnasium"}
ENV |= {"random_return": None, "expert_return": None}
BOX = EnvSpec(3, "continuous", 2, np.array([-1, 0], np.float32), np.array([1, 5], np.float32))


def test_residual_layers_add_to_their_input_where_widths_agree():
    torch.manual_seed(0)
    net = mlp([8, 8, 8, 4, 4, 4], "relu", residual=True)
    weights = [p for p in net.parameters() if p.ndim == 2]
    biases = [p for p in net.parameters() if p.ndim == 1]
    x = out = torch.randn(5, 8)
    adds = [False, True, False, True, False]  # the first layer reads observations and the last one writes actions
    for i, add in enumerate(adds):
        layer = out @ weights[i].T + biases[i]
        layer = layer if i == 4 else layer.relu()
        out = out + layer if add else layer
    assert torch.allclose(net(x), out, atol=1e-6)
    assert not torch.allclose(net(x), mlp([8, 8, 8, 4, 4, 4], "relu")(x))


def test_a_residual_network_begins_with_the_weights_of_a_plain_one():
    nets = []
    for residual in (False, True):
        torch.manual_seed(0)
        nets.append(ActorCritic(BOX, config(residual=residual)))
    for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        assert torch.equal(a, b)
    x = torch.randn(5, 3)
    assert not torch.allclose(nets[0].actor(x), nets[1].actor(x))
    assert not torch.allclose(nets[0].critic(x), nets[1].critic(x))


def test_bounded_means_fill_the_action_space_and_do_not_leave_it():
    torch.manual_seed(0)
    net = actor_for(BOX, config(hidden=[], bounded=True))
    x = 1000 * torch.randn(500, 3)
    assert torch.allclose(net(x).amin(0), torch.tensor([-1.0, 0.0]), atol=1e-3)
    assert torch.allclose(net(x).amax(0), torch.tensor([1.0, 5.0]), atol=1e-3)
    assert torch.allclose(net(x), torch.tensor([0.0, 2.5]) + torch.tensor([1.0, 2.5]) * net.body(x).tanh(), atol=1e-6)
    assert actor_for(BOX, config())(x).abs().max() > 5
    assert actor_for(EnvSpec(3, "discrete", 4), config(bounded=True))(x).abs().max() > 5, "logits have no bounds"
    boundless = EnvSpec(3, "continuous", 1, np.array([-np.inf], np.float32), np.array([np.inf], np.float32))
    with pytest.raises(UserError, match=r"policy\.bounded=false"):
        actor_for(boundless, config(bounded=True))


def test_a_deterministic_actor_has_one_action_and_no_probabilities():
    net, x = actor_for(BOX, config(), deterministic=True), torch.randn(7, 3)
    noise = net.noise([7], torch.Generator().manual_seed(0))
    assert noise.shape == (7, 2)
    assert torch.equal(net.sample(x, noise), net(x))
    assert torch.equal(net.mode(x), net(x))
    action = torch.randn(7, 2)
    assert torch.allclose(net.imitation_loss(x, action).mean(), torch.nn.functional.mse_loss(net(x), action))
    with pytest.raises(UserError, match=r"algo\.head=gaussian"):
        net.log_prob_entropy(x, action)
    with pytest.raises(UserError, match=r"algo\.head=gaussian"):
        require_probabilities(net)


@pytest.mark.parametrize(("kind", "action"), [("discrete", torch.arange(7) % 2), ("continuous", torch.ones(7, 2))])
def test_other_actors_imitate_by_likelihood(kind, action):
    net, x = actor(kind), torch.randn(7, 3)
    assert torch.equal(net.imitation_loss(x, action), -net.log_prob_entropy(x, action)[0])


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_policy_file_keeps_the_architecture(tmp_path, deterministic):
    net = actor_for(BOX, config(residual=True, bounded=True), deterministic=deterministic)
    net.load_state_dict({name: 3 * tensor for name, tensor in net.state_dict().items()})
    policy, x = ActorPolicy(net, BOX), np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    save_policy(tmp_path / "p.safetensors", policy, EnvConfig(**ENV), {})
    again = load_policy(tmp_path / "p.safetensors").policy
    assert np.array_equal(again.act(x), policy.act(x))
    assert again.actor.spec == net.spec
    assert type(again.actor) is type(net)


@pytest.mark.parametrize("file", sorted(paths.POLICIES.glob("*.safetensors")), ids=lambda file: file.stem)
def test_shipped_policies_load(file):
    policy = load_policy(file).policy
    width = policy.env.obs_dim
    policy.start(2, np.random.default_rng(0))
    assert len(policy.act(np.zeros((2, width), np.float32))) == 2


def test_sums_of_pieces_of_different_lengths():
    x_MN = torch.arange(12.0).reshape(2, 6)
    assert segment_sums(x_MN, torch.tensor([1, 0, 3, 2])).tolist() == [[0, 0, 6, 9], [6, 0, 24, 21]]


def test_a_normalised_policy_acts_alike_on_observations_of_either_precision():
    spec = EnvSpec(3, "continuous", 2, np.full(2, -1, np.float32), np.full(2, 1, np.float32))
    normaliser = Normaliser(3)
    normaliser.update(np.random.default_rng(0).normal(3, 7, (100, 3)))
    policy = ActorPolicy(make_actor("continuous", 3, 2, hidden=[8], activation="tanh"), spec, normaliser)
    obs_BO = np.random.default_rng(1).normal(3, 7, (500, 3)).astype(np.float32)
    assert np.array_equal(policy.act(obs_BO), policy.act(obs_BO.astype(np.float64)))


@pytest.mark.parametrize("same", [True, False], ids=["itself", "a memory"])
def test_one_head_is_plain_attention_with_its_gradients(same):
    torch.manual_seed(0)
    q, k, v, out = (torch.nn.Linear(6, 6).double() for _ in range(4))
    x, bias = torch.randn(4, 3, 6).double().requires_grad_(), torch.randn(3, 3 if same else 5).double()
    memory = x if same else torch.randn(4, 5, 6).double().requires_grad_()
    inputs = [x, memory, *(p for layer in (q, v, out) for p in layer.parameters()), k.weight]
    score = q(x) @ k(memory).mT / 6**0.5 + bias  # a bias of keys is no matter to a softmax
    expected = out(score.softmax(-1) @ v(memory))
    head = OneHead.of(q.weight, q.bias, k.weight, v.weight, v.bias, out)
    gradients = torch.autograd.grad(expected.sin().sum(), inputs)
    weight = head.scores(x, memory, bias).softmax(-1)
    for found in (head.attend(x, memory, bias), head.read(weight, memory)):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found.sin().sum(), inputs, retain_graph=True), gradients)
    dropped = weight * torch.randint(0, 2, weight.shape)
    torch.testing.assert_close(head.read(dropped, memory), out(dropped @ v(memory)))
