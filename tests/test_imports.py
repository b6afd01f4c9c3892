"""Imports run one way, and what need not be fast to import torch does not import it."""

import ast
import subprocess
import sys

import pytest

from tests.helpers import ALGOS, ROOT

# Each layer may import itself partly and the layers before it, nothing after.
LAYERS = [
    {"errors", "params", "paths", "math", "processes", "stats"},
    {"capture", "seeding", "ckpt", "envs", "decoder", "denoise", "nets", "learner", "log"},
    {"data"},
    {"algo"},
    {"policies", "preferences", "replay", "rollout"},
    {"algos"},
    {"config", "film", "gallery", "history", "plot", "folder", "api"},
    {"run"},
    {"execute", "board", "panels", "plan", "explain"},
    {"launch", "sweep", "histograms", "scatter", "commands", "cli"},
]
LEVEL = {module: level for level, layer in enumerate(LAYERS) for module in layer}
FOR_ALGOS = {
    "algo",
    "capture",
    "data",
    "decoder",
    "denoise",
    "envs",
    "errors",
    "learner",
    "math",
    "nets",
    "params",
    "policies",
    "preferences",
    "replay",
    "rollout",
    "seeding",
}


def imported(file):
    """First-level modules of rlexp that `file` imports anywhere."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "rlexp":
            yield from ([node.module.split(".")[1]] if "." in node.module else [name.name for name in node.names])


def files():
    return [f for f in sorted((ROOT / "rlexp").rglob("*.py")) if f.name != "__init__.py" or f.parent.name != "rlexp"]


@pytest.mark.parametrize("file", files(), ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_run_one_way(file):
    module = file.relative_to(ROOT / "rlexp").parts[0].removesuffix(".py")
    if module in ("config", "folder", "algo", "launch", "execute"):  # names for annotations, or inside functions
        return
    if file.parts[-2:] == ("data", "shards.py"):  # plays policies, once it is asked to
        return
    for other in imported(file):
        if other != "__version__":
            assert LEVEL[other] <= LEVEL[module], f"{file.name} imports {other}"


def test_every_module_has_a_layer():
    names = {f.relative_to(ROOT / "rlexp").parts[0].removesuffix(".py") for f in files()}
    assert names - {"__init__"} == set(LEVEL)


@pytest.mark.parametrize("algo", ALGOS)
def test_algorithms_know_neither_runs_nor_each_other(algo):
    source = (ROOT / "rlexp" / "algos" / f"{algo}.py").read_text()
    modules = set(imported(ROOT / "rlexp" / "algos" / f"{algo}.py"))
    assert modules <= FOR_ALGOS
    assert "hydra" not in source
    assert "omegaconf" not in source


@pytest.mark.parametrize("module", ["launch", "plot", "gallery", "cli", "stats"])
def test_needs_no_torch_to_import(module):
    code = f"import sys, rlexp.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
