"""What runs on a GPU. The CPU stands in for it where it can; the rest is skipped where there is none."""

import contextlib
import gc
import importlib
import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch

from rlexp.nn import actors, capture
from rlexp.nn.capture import EAGER, MOST, Captured
from rlexp.nn.learner import Learner
from tests.helpers import ALGOS, ROOT, built, command
from tests.test_learner import batches, flat, loss, net

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def benchmarks(monkeypatch):
    """Modules of benchmarks/, by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module
    for name in ("common", "gpu", "gpu_worker"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("algo", ALGOS)
def test_every_algorithm_knows_a_gpu(algo):
    assert built(
        f"algo={algo}", "env=hopper" if algo in ("sac", "diffusion") else "env=lineworld"
    ).algo_class.devices == {
        "cpu",
        "cuda",
    }


def test_on_a_cpu_a_function_is_called_as_it_is():
    seen = []
    twice = Captured(lambda b: seen.append(b["x"]) or 2 * b["x"], "cpu")
    for i in range(EAGER + 2):
        assert torch.equal(twice({"x": torch.full((2,), i)}), torch.full((2,), 2 * i))
    assert len(seen) == EAGER + 2
    assert not twice.recordings


def test_a_recording_replays_what_has_been_copied_to_its_place(monkeypatch):
    """A graph that computes when it is replayed stands for one on a GPU."""
    calls = []

    def double(b):
        calls.append(b["x"].shape)
        return 2 * b["x"]

    def record(self, inputs):
        places = {name: x.clone() for name, x in inputs.items()}
        output = torch.empty_like(places["x"])
        return SimpleNamespace(replay=lambda: output.copy_(2 * places["x"])), places, output

    monkeypatch.setattr(Captured, "_record", record)
    monkeypatch.setattr(capture, "moved", lambda inputs, _: dict(inputs))
    twice = Captured(double, "cpu")
    twice.device = SimpleNamespace(type="cuda")
    found = [twice({"x": torch.full((3,), i)}) for i in range(EAGER + 3)]
    assert [x.tolist() for x in found] == [[2 * i] * 3 for i in range(EAGER + 3)], "results are not overwritten"
    assert len(calls) == EAGER, "then it is replayed"
    assert twice({"x": torch.ones(5)}).tolist() == [2] * 5, "other shapes begin anew"
    assert twice({"x": torch.ones(3, dtype=torch.int32)}).tolist() == [2] * 3, "and so do other types"
    for size in range(20):
        for _ in range(EAGER + 1):
            twice({"x": torch.ones(size)})
    assert len(twice.recordings) == MOST


def test_no_garbage_is_collected_while_a_recording_is_made(monkeypatch):
    """What a collected recording frees would spoil the one that is being made."""
    collecting = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", SimpleNamespace)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: contextlib.nullcontext())
    Captured(lambda b: collecting.append(gc.isenabled()) or b["x"], "cpu")._record({"x": torch.ones(2)})
    assert collecting == [False]
    assert gc.isenabled()


def test_both_ways_to_take_a_gradient_agree():
    model = torch.nn.ModuleDict({"used": net(), "idle": torch.nn.Linear(3, 2)})
    learner = Learner(model, lambda m, b: loss(m["used"], b), lr=0.1)
    batch, found = batches(1)[0], []
    for device in ("cpu", "cuda"):
        learner.device = torch.device(device)
        found.append(learner._gradient(loss(model["used"], batch)[0]).clone())
    assert torch.equal(*found)
    assert found[0].any()


def test_measuring_learns_nothing():
    model, batch = net(), batches(1)[0]
    learner, before = Learner(model, loss, lr=0.1), flat(model)
    assert learner.measure(batch) == {"loss/mse": pytest.approx(loss(model, batch)[0].item())}
    assert torch.equal(flat(model), before)
    assert not learner.grad.any()


def test_a_network_acts_on_the_cpu():
    here = net()
    assert actors.on_cpu(here) is here


def test_the_benchmark_checks_and_goes_on_where_it_was(tmp_path):
    words = ["--device", "cpu", "--parts", "correctness", "--algos", "vpg", "--out", str(tmp_path / "out")]
    first = command("benchmarks/gpu.py", *words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "| vpg | 3 | 0.0e+00 | 0.0e+00 | 0.0e+00 | 0 | yes | yes |" in first.stdout
    lines = (tmp_path / "out" / "results.jsonl").read_text()
    again = command("benchmarks/gpu.py", *words, cwd=tmp_path)
    assert (tmp_path / "out" / "results.jsonl").read_text() == lines
    assert again.stdout.splitlines()[4:] == first.stdout.splitlines()[4:]


def test_the_benchmark_finds_and_packs_runs(benchmarks, monkeypatch, tmp_path):
    gpu, common = benchmarks("gpu"), benchmarks("common")
    monkeypatch.setattr(common, "ROOT", tmp_path)
    words = ["main_mp.py", "algo=dt", "seeds=[0]"]
    folder = tmp_path / "runs" / "day" / "time_dt_hopper"
    (folder / "seed_0" / "checkpoints").mkdir(parents=True)
    for name in ("final", "best", "step_000000000020"):
        (folder / "seed_0" / "checkpoints" / f"{name}.safetensors").touch()
    seeds = {"0": {"status": "done", "step": 20, "seconds": 3.2, "final": {"return_mean": 7.0}}}
    facts = {"command": "python main_mp.py algo=dt 'seeds=[0]'", "finished": "now", "seeds": seeds}
    assert gpu.made(words) is None
    (folder / "run.json").write_text(json.dumps(facts))
    assert gpu.made(words) == folder
    assert gpu.made(["main_mp.py", "algo=dt"]) is None
    gpu.pack(tmp_path, {"": words})
    with gpu.tarfile.open(tmp_path / "time_dt_hopper.tar.gz") as archive:
        names = {name.removeprefix("day/time_dt_hopper/") for name in archive.getnames()}
    assert names == {"run.json", "seed_0/checkpoints/final.safetensors"}
    assert "| 0 | done | 20 | 3 | 7.0 | nan |" in gpu.report(gpu.Results(tmp_path / "none"), [folder])


@needs_gpu
@pytest.mark.parametrize("algo", ALGOS)
def test_a_gpu_computes_what_the_cpu_does(benchmarks, algo):
    found = benchmarks("gpu_worker").correct(algo, "cuda")
    assert found["first"] < 1e-3
    assert found["repeats"], "bit for bit"
    assert found["graphs"], "bit for bit, whether recorded or not"
    assert found["recordings"] or algo == "cmaes"


@needs_gpu
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_on_a_gpu_keeps_the_share_and_the_mean(p):
    from rlexp.nn.dropout import add_dropout, dropout

    x = torch.ones(1000, 1000, device="cuda")
    for y in (dropout(x, p), add_dropout(x, x, p) - 1):
        kept = y != 0
        assert abs(float(kept.float().mean()) - (1 - p)) < 5 * math.sqrt(p * (1 - p) / x.numel())
        torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - p)))
