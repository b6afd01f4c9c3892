"""The folders of rlexp are floors: imports run down only, whatever needs not be fast to import stands in functions."""

import ast
import subprocess
import sys

import pytest

from tests.helpers import ALGOS, ROOT

PACKAGE = ROOT / "rlexp"

# From the ground up. A module may import its own floor and those below it.
FLOORS = [
    "util",
    "engines",
    "envs",
    "loggers",
    "nn",
    "buffers",
    "policies",
    "rollout",
    "datasets",
    "algos",
    "report",
    "experiment",
    "cli",
]

# Where a module of rlexp is imported inside a function, and why.
STARTUP = "--help, --cfg job and rlexp list answer at once: no torch, no matplotlib until they are needed"
MATPLOTLIB = "matplotlib takes half a second to import, which a worker process need not wait for"
INSIDE_FUNCTIONS = {
    "cli/commands/check.py": STARTUP,
    "cli/commands/chunks.py": STARTUP,
    "cli/commands/compare.py": STARTUP,
    "cli/commands/data.py": STARTUP,
    "cli/commands/data_info.py": STARTUP,
    "cli/commands/doctor.py": STARTUP,
    "cli/commands/evaluate.py": STARTUP,
    "cli/commands/foreign.py": STARTUP,
    "cli/commands/pictures.py": STARTUP,
    "cli/commands/preferences.py": STARTUP,
    "cli/commands/refresh.py": STARTUP,
    "cli/commands/report.py": STARTUP,
    "cli/commands/rlhf.py": STARTUP,
    "cli/commands/runs.py": STARTUP,
    "cli/commands/targets.py": STARTUP,
    "cli/commands/track.py": STARTUP,
    "cli/launch.py": STARTUP,
    "cli/sweep.py": STARTUP,
    "experiment/folder.py": MATPLOTLIB,
    "experiment/work.py": MATPLOTLIB,
}


def imports(file):
    """(module or package of rlexp, whether the statement stands in a function) that `file` imports."""
    tree = ast.parse(file.read_text())
    inside = {
        node for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "rlexp":
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                place = PACKAGE.parent / whole.replace(".", "/")
                is_module = place.is_dir() or place.with_suffix(".py").is_file()
                yield (whole if is_module else node.module), node in inside


def modules():
    return [file for file in sorted(PACKAGE.rglob("*.py")) if file.parent != PACKAGE]


def short(file):
    return file.relative_to(PACKAGE).as_posix()


def floor(module):
    return FLOORS.index(module.split(".")[1])


@pytest.mark.parametrize("file", modules(), ids=short)
def test_imports_run_down(file):
    own = FLOORS.index(short(file).split("/")[0])
    for module, _ in imports(file):
        if module != "rlexp":
            assert floor(module) <= own, f"{short(file)} imports {module}"


def test_no_module_imports_itself_by_way_of_others():
    names = {
        f"rlexp.{short(file).removesuffix('.py').removesuffix('/__init__').replace('/', '.')}": file
        for file in modules()
    }
    graph = {name: {module for module, _ in imports(file)} & set(names) for name, file in names.items()}
    done = set()

    def visit(name, way):
        assert name not in way, " -> ".join([*way, name])
        if name not in done:
            for other in graph[name]:
                visit(other, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_every_folder_is_a_floor():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == set(FLOORS)
    assert {path.name for path in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py", "testing.py"}


def test_imports_inside_functions_are_known_by_name():
    found = {short(file) for file in modules() for _, inside in imports(file) if inside}
    assert found == set(INSIDE_FUNCTIONS)


@pytest.mark.parametrize("algo", ALGOS)
def test_algorithms_know_neither_runs_nor_each_other(algo):
    file = PACKAGE / "algos" / f"{algo}.py"
    for module, _ in imports(file):
        assert not module.startswith("rlexp.algos") or module == "rlexp.algos.base"
    assert "hydra" not in file.read_text()
    assert "omegaconf" not in file.read_text()


@pytest.mark.parametrize("module", ["cli.launch", "cli.main", "report.curves", "report.references", "util.stats"])
def test_needs_no_torch_to_import(module):
    code = f"import sys, rlexp.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
