"""The one update, against torch's own optimisers."""

import copy
import resource
import shutil

import pytest
import torch
from torch import nn

from rlexp.nn.learner import Learner, mean_metrics
from rlexp.util import checkpoint
from rlexp.util.memory import keep_freed


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def loss(model, batch):
    error = (model(batch["x"]) - batch["y"]).square().mean()
    return error, {"loss/mse": error}


def batches(n: int) -> list[dict[str, torch.Tensor]]:
    """Gradients differ a hundredfold in size, so that clipping acts on some and not on others."""
    generator = torch.Generator().manual_seed(1)
    sizes = [10.0 ** (i % 3 - 1) for i in range(n)]
    return [
        {"x": torch.randn(5, 3, generator=generator), "y": size * torch.randn(5, 2, generator=generator)}
        for size in sizes
    ]


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("eps", [1e-8, 1e-5])
@pytest.mark.parametrize("fused", [False, True])
def test_fifty_steps_agree_with_torch(clip, decay, eps, fused):
    ours, theirs = net(), net()
    learner = Learner(ours, loss, lr=3e-3, eps=eps, weight_decay=decay, clip=clip, fused=fused)
    kind = torch.optim.AdamW if decay else torch.optim.Adam
    optimiser = kind(theirs.parameters(), lr=3e-3, eps=eps, weight_decay=decay)
    clipped = 0
    for i, batch in enumerate(batches(50)):
        lr = 3e-3 * (1 - i / 50)  # a schedule
        optimiser.param_groups[0]["lr"] = lr
        optimiser.zero_grad()
        loss(theirs, batch)[0].backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), clip if clip is not None else float("inf"))
        optimiser.step()
        metrics = learner.update(batch, lr)
        assert float(metrics["opt/grad_norm"]) == pytest.approx(float(norm), rel=1e-4), "the norm before clipping"
        clipped += clip is not None and float(norm) > clip
        assert torch.allclose(flat(ours), flat(theirs), rtol=0, atol=1e-6)
    assert not clip or 5 < clipped < 45


def test_metrics_are_those_of_the_loss_before_the_step():
    model = net()
    batch = batches(1)[0]
    before = loss(model, batch)[0].item()
    metrics = Learner(model, loss, lr=0.1).update(batch)
    assert float(metrics["loss/mse"]) == pytest.approx(before)
    assert not any(value.requires_grad for value in metrics.values())
    assert loss(model, batch)[0].item() < before
    assert mean_metrics([{"a": torch.tensor(1.0)}, {"a": torch.tensor(4.0)}]) == {"a": 2.5}
    assert mean_metrics([]) == {}


def test_a_parameter_the_loss_does_not_use_stays_where_it_is():
    model = nn.ModuleDict({"used": net(), "idle": nn.Linear(3, 2)})
    learner = Learner(model, lambda m, b: loss(m["used"], b), lr=0.1)
    before = flat(model["idle"])
    for batch in batches(3):
        learner.update(batch)
    assert torch.equal(flat(model["idle"]), before)


@pytest.mark.parametrize("fused", [False, True])
def test_average_of_the_weights(fused):
    model = net()
    learner = Learner(model, loss, lr=0.01, ema=0.9, fused=fused)
    expected = flat(model).double()
    for batch in batches(20):
        learner.update(batch)
        expected = 0.9 * expected + 0.1 * flat(model).double()
    assert torch.allclose(learner.ema.double(), expected, atol=1e-6)
    assert not torch.allclose(learner.ema, flat(model), atol=1e-3)
    assert Learner(net(), loss, lr=0.01).ema is None


def test_module_parameters_are_views_of_theta_also_after_loading():
    model, other = net(), net(1)
    learner, source = Learner(model, loss, lr=0.01), Learner(other, loss, lr=0.01)
    source.update(batches(1)[0])
    learner.load_state_dict(source.state_dict())
    assert torch.equal(flat(model), flat(other))
    for batch in batches(3):
        learner.update(batch)
        assert torch.equal(flat(model), learner.theta)
    with torch.no_grad():
        learner.theta.zero_()
    assert not flat(model).any()
    assert torch.equal(flat(other), source.theta), "loading copies: the two do not share memory"


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_saved_learner_continues_identically(tmp_path, ema):
    options = {"lr": 0.01, "clip": 0.5, "weight_decay": 0.1, "ema": ema}
    first = Learner(net(), loss, **options)
    for batch in batches(7):
        first.update(batch)
    checkpoint.save(tmp_path / "l.safetensors", first.state_dict())
    second = Learner(net(1), loss, **options)
    second.load_state_dict(checkpoint.load(tmp_path / "l.safetensors"))
    for batch in batches(7):
        metrics = [learner.update(batch) for learner in (first, second)]
        assert metrics[0] == metrics[1]
    a, b = first.state_dict(), second.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_learning_takes_the_weights_the_network_has_and_leaves_copies_alone():
    model = net()
    start, twin = flat(model), copy.deepcopy(model)
    learner = Learner(model, loss, lr=0.01)
    assert torch.equal(flat(model), start)
    learner.update(batches(1)[0])
    assert torch.equal(flat(twin), start)


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "cl"))), reason="torch.compile needs a C++ compiler")
def test_the_compiled_update_agrees_with_the_eager_one():
    nets = [nn.ModuleDict({"used": net(), "idle": nn.Linear(3, 2)}) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    options = {"lr": 0.01, "clip": 0.5, "weight_decay": 0.1, "ema": 0.9}
    eager, compiled = (
        Learner(model, lambda m, b: loss(m["used"], b), **options, compile=flag)
        for model, flag in zip(nets, (False, True), strict=True)
    )
    for i, batch in enumerate(batches(30)):
        lr = 0.01 * (1 - i / 30)
        a, b = eager.update(batch, lr), compiled.update(batch, lr)
        assert a.keys() == b.keys()
        assert all(float(a[name]) == pytest.approx(float(b[name]), rel=1e-4) for name in a)
    for name, value in eager.state_dict().items():
        assert torch.allclose(value, compiled.state_dict()[name], atol=1e-5), name
    assert torch.equal(flat(nets[1]), compiled.theta)


@pytest.mark.slow
def test_compiled_learners_of_equal_shapes_do_not_run_each_others_code():
    """Only tensors are guarded, so a loss or a clip of another learner must not be found in its place."""

    def doubled(net, batch):
        value, metrics = loss(net, batch)
        return 2 * value, metrics

    batch = batches(1)[0]
    pairs = []
    for objective in (loss, doubled):
        for clip in (None, 1e-3):
            for compile in (False, True):
                torch.manual_seed(0)
                pairs.append(Learner(net(), objective, lr=1e-2, clip=clip, eps=1e-2, compile=compile))
    for _ in range(5):
        for learner in pairs:
            learner.update(batch)
    for eager, compiled in zip(pairs[::2], pairs[1::2], strict=True):
        torch.testing.assert_close(compiled.theta, eager.theta, rtol=1e-4, atol=1e-6)
    assert len({round(float(learner.theta.norm()), 4) for learner in pairs}) > 2, "they must differ to tell"


def test_freed_memory_is_kept_for_the_next_update():
    if not keep_freed():
        pytest.skip("not glibc")
    faults = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        len([torch.ones(2**21) for _ in range(8)])  # 64 MB, 16,384 pages
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    assert faults[-1] < 1000
