"""Which modules a name may import. Importing executes code, so names that come from files are not followed blindly.

Admitted are rlexp's own modules, those of installed plugins, and what the user typed in this command: an option, or a
file in the folder of `--config-dir`. Names in a run folder or a policy file are none of these: anything else in them is
refused, unless the command says `trust=true` (main.py) or `--trust` (rlexp). What is admitted stands in an environment
variable, so that processes started by this one know it too.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlexp.util import plugins
from rlexp.util.errors import UserError, said_of

VARIABLE = "RLEXP_TRUSTED"  # top-level packages with commas between, or * for all
HINT = "trust=true (main.py) or --trust (rlexp) admits it, if you trust whoever made that file"


def names_in(node: Any) -> Iterator[str]:
    """All names in the config `node` that import a module: each `_target_`, the environment's id and backend."""
    if isinstance(node, list):
        for value in node:
            yield from names_in(value)
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        yield str(node["_target_"])
    env = node.get("env")
    if isinstance(env, dict):
        yield from environment_names(env.get("id"), env.get("backend"))
    for value in node.values():
        yield from names_in(value)


def environment_names(env_id: Any, backend: Any) -> Iterator[str]:
    """The names among an environment's id ('module:Name-v0') and backend ('module:Class') that import a module."""
    if ":" in str(env_id):
        yield str(env_id)
    if ":" in str(backend) or "." in str(backend):
        yield str(backend)


@contextmanager
def said_by(file: Path) -> Iterator[None]:
    """Within, what is composed was not typed: `file` says it, so that its names are not admitted but required to be."""
    _files.append(file)
    try:
        yield
    finally:
        _files.pop()


_files: list[Path] = []


def admit(names: Iterable[str]) -> None:
    """Admit the packages of `names`, which the user typed, in this process and those it starts. Raises UserError where
    it is a file that says them."""
    if _files:
        with said_of(str(_files[-1])):
            require(names)
        return
    packages = {_package(name) for name in names}
    if packages:
        os.environ[VARIABLE] = ",".join(sorted(packages | _given()))


def admit_all() -> None:
    """Admit every name: the user said so."""
    os.environ[VARIABLE] = "*"


def admitted(name: str) -> bool:
    """Whether the module of `name` may be imported."""
    given, package = _given(), _package(name)
    return "*" in given or package in given or any(plugin.package == package for plugin in plugins.installed())


def require(names: Iterable[str]) -> None:
    """Raise UserError for the first of `names`, which come from a file, that is not admitted."""
    for name in names:
        if not admitted(name):
            raise UserError(
                f"names '{name}', which is neither rlexp's own nor an installed plugin's, and importing it would run "
                f"its code; {HINT}"
            )


def _given() -> set[str]:
    return {"rlexp", *filter(None, os.environ.get(VARIABLE, "").split(","))}


def _package(name: str) -> str:
    return name.split(":")[0].split(".")[0]
