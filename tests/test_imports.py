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

# What may be imported inside a function. In cli/ that is anything: --help, --cfg job and rlexp list answer at once, and
# so each command imports what it needs when it is called. Elsewhere it is these packages, and these modules of ours.
OPTIONAL = {
    "envpool",
    "mlflow",
    "optuna",
    "pyarrow",
    "ray",
    "submitit",
    "trackio",
    "wandb",
}  # extras, or a package's extra; never at the top
SLOW = {  # half a second and more, which whoever does not need them need not wait for
    "PIL": "films",
    "filelock": "data sets",
    "google": "event files",
    "gymnasium": "data sets",
    "h5py": "data sets",
    "imageio_ffmpeg": "films",
    "importlib": "entry points",
    "minari": "data sets",
    "mujoco": "a simulator",
    "omegaconf": "configs",
    "rich": "progress",
    "scipy": "statistics",
    "tensorboard": "event files",
    "torch": "networks",
    "yaml": "configs",
}
DRAWING = {  # matplotlib, which a worker process need not wait for
    ("experiment/folder.py", "rlexp.report.curves"),
    ("experiment/study_table.py", "rlexp.report.compare"),
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def imports(file):
    """(module or package, whether the statement stands in a function) that `file` imports; of rlexp by its full name,
    of others by their first."""
    tree = ast.parse(file.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    inside = {node for function in functions for node in ast.walk(function)}
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    for_types = {node for block in blocks for node in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield own_or_first(name.name), node in inside or node in for_types
        if isinstance(node, ast.ImportFrom):
            base = origin(file, node)
            for name in node.names:
                whole = f"{base}.{name.name}"
                yield own_or_first(whole if is_module(whole) else base), node in inside


def origin(file, node):
    """What stands behind `from`, without dots at its beginning."""
    if node.level == 0:
        return node.module
    parts = file.relative_to(PACKAGE.parent).parts[: -node.level]
    return ".".join([*parts, *filter(None, [node.module])])


def is_module(name):
    place = PACKAGE.parent / name.replace(".", "/")
    return place.is_dir() or place.with_suffix(".py").is_file()


def own_or_first(name):
    first = name.split(".")[0]
    return name if first == "rlexp" else first


def own_imports(file):
    return {module for module, _ in imports(file) if module.split(".")[0] == "rlexp"}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def short(file):
    return file.relative_to(PACKAGE).as_posix()


def floor(name):
    """Of a file or folder in rlexp/. What lies in no folder stands on the roof: it may import all, and nobody it."""
    return FLOORS.index(name) if name in FLOORS else len(FLOORS)


@pytest.mark.parametrize("file", modules(), ids=short)
def test_imports_run_down(file):
    own = floor(short(file).split("/")[0])
    for module in own_imports(file) - {"rlexp"}:
        assert floor(module.split(".")[1]) <= own, f"{short(file)} imports {module}"


def test_rlexp_itself_imports_nothing_of_rlexp_so_that_all_may_import_its_version():
    assert own_imports(PACKAGE / "__init__.py") == set()


def test_no_module_imports_itself_by_way_of_others():
    names = {
        f"rlexp.{short(file).removesuffix('.py').removesuffix('/__init__').replace('/', '.')}": file
        for file in modules()
    }
    graph = {name: own_imports(file) & set(names) for name, file in names.items()}
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
    files = [file for file in modules() if not short(file).startswith("cli/")]
    found = {(short(file), module) for file in files for module, inside in imports(file) if inside}
    ours = {(file, module) for file, module in found if module.startswith("rlexp.")}
    assert ours == DRAWING
    assert {module for _, module in found - ours} == OPTIONAL | set(SLOW)


def test_optional_packages_are_imported_inside_functions_only():
    top = {(short(file), module) for file in modules() for module, inside in imports(file) if not inside}
    assert not [where for where in top if where[1] in OPTIONAL]


@pytest.mark.parametrize("algo", ALGOS)
def test_algorithms_know_neither_runs_nor_each_other(algo):
    file = PACKAGE / "algos" / f"{algo}.py"
    for module in own_imports(file):
        assert not module.startswith("rlexp.algos") or module == "rlexp.algos.base"
    assert "hydra" not in file.read_text()
    assert "omegaconf" not in file.read_text()


@pytest.mark.parametrize(
    "module", ["cli.launch", "cli.main", "report.courses_page", "report.curves", "report.scene", "util.stats"]
)
def test_needs_no_torch_to_import(module):
    code = f"import sys, rlexp.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
