"""Packages that plug into rlexp: what is installed under the entry-point group `rlexp.plugins`, imported when needed.

A package becomes a plugin by one entry point that names its module:

    [project.entry-points."rlexp.plugins"]
    mine = "my_package"

Its folder `conf`, where it has one, joins the search path of configs without an import. The module itself is imported
in whatever process first needs something of the package (an algorithm, a policy, a simulator, a logger, an environment
that Gymnasium does not know yet), and may register environments when it is.
"""

import functools
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from rlexp.util.errors import UserError
from rlexp.util.files import named

GROUP = "rlexp.plugins"


@dataclass(frozen=True)
class Plugin:
    """An installed entry point."""

    name: str
    module: str

    @property
    def package(self) -> str:
        """The top-level package, to which all names belong that the plugin is trusted with."""
        return self.module.split(".")[0]

    def conf(self) -> Path | None:
        """The folder `conf` beside the module's own files; None where there is none. Imports nothing."""
        spec = _spec(self.module)
        if spec is None:
            raise UserError(f"plugin {self.name}: there is no module '{self.module}'")
        for place in spec.submodule_search_locations or ():
            if (Path(place) / "conf").is_dir():
                return Path(place) / "conf"
        return None

    def load(self) -> None:
        """Import the module, once a process. Raises UserError where that fails."""
        try:
            _import(self.module)
        except UserError as error:
            raise UserError(f"plugin {self.name}: {error}") from None


@functools.lru_cache(maxsize=1)
def installed() -> tuple[Plugin, ...]:
    """All plugins, by name. Raises UserError where two have the same name."""
    from importlib.metadata import entry_points  # takes a while to import

    found: dict[str, Plugin] = {}
    for entry in sorted(entry_points(group=GROUP)):
        plugin = Plugin(entry.name, entry.value.split(":")[0].strip())
        other = found.setdefault(plugin.name, plugin)
        if other != plugin:
            raise UserError(f"plugin {plugin.name}: '{other.module}' and '{plugin.module}' are both called that")
    return tuple(found.values())


def load_all() -> None:
    """Import all plugins, for what they register. Raises UserError for one that cannot be imported."""
    for plugin in installed():
        plugin.load()


def find_here() -> None:
    """Let modules in the current folder be found, after all others: what the user types may lie there."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def import_module(name: str) -> ModuleType:
    """The module `name`, its plugin first if it belongs to one. Raises UserError where it is not there or, outside of
    rlexp, fails to import; an error in rlexp's own files shows its traceback."""
    for plugin in installed():
        if plugin.package == name.split(".")[0]:
            plugin.load()
    return _import(name)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise UserError(f"there is no module '{name}'") from None
        if name.split(".")[0] == "rlexp":
            raise
        raise UserError(f"'{name}' cannot be imported: {said_with_place(error)}") from None


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is; unlike importlib's `find_spec` it does not import the packages above it."""
    first, *rest = name.split(".")
    spec = importlib.util.find_spec(first) if first else None
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec


@contextmanager
def told_of_exits() -> Iterator[None]:
    """Within, somebody's code that exits, which would end the program without a word and perhaps as if all were well,
    is a UserError."""
    try:
        yield
    except (SystemExit, GeneratorExit) as error:
        raise UserError(f"code that rlexp called ends the program: {said_with_place(error)}") from None


def said_with_place(error: BaseException) -> str:
    """An exception in one line, with the place in its author's file."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    said = named(error)
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    if not frames:
        return said
    return f"{frames[-1].filename}, line {frames[-1].lineno}: {said}"
