"""The one place where configs are composed: rlexp's `conf`, the `conf` of each plugin, and the user's --config-dir.

A name stands once: two files of the same group and name, in whichever folders, are an error, not a priority.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import GrammarParseError, OmegaConfBaseException
from yaml import YAMLError

from rlexp.util import paths, plugins, trust
from rlexp.util.errors import UserError
from rlexp.util.files import read_text, yaml_mistake

_config_dirs: list[Path] = []  # given with --config-dir to this process


def folders() -> list[tuple[str, Path]]:
    """(whose, folder) of all configs, ours first. Raises UserError for a plugin that is not there."""
    found = [("rlexp", paths.CONF)]
    for plugin in plugins.installed():
        if folder := plugin.conf():
            found.append((f"plugin {plugin.name}", folder))
    return found + [(f"--config-dir {folder}", folder) for folder in _config_dirs]


def check() -> None:
    """Raise UserError for a folder without groups, or a name that stands twice."""
    if not (paths.CONF / "config.yaml").is_file():
        raise UserError(f"{paths.CONF}: no configuration there; was rlexp installed from its repository or a wheel?")
    seen: dict[str, str] = {}
    for whose, folder in folders():
        files = sorted(folder.glob("*/**/*.yaml"))
        stray = [] if whose == "rlexp" else sorted(folder.glob("*.yaml"))
        if stray or not files:
            what = f"{stray[0].name} lies in no group" if stray else "has no group of configs"
            raise UserError(f"{whose}: {what}; a config is <group>/<name>.yaml, such as {folder}/algo/mine.yaml")
        for file in files:
            name = file.relative_to(folder).as_posix()
            other = seen.setdefault(name, whose)
            if other != whose:
                raise UserError(f"{whose}: {name} is already one of {other}'s configs; give it another name")


def groups() -> list[str]:
    """Names of all groups: algo, env, and so on."""
    return sorted({group.name for _, folder in folders() for group in folder.iterdir() if group.is_dir()})


def choices(group: str) -> list[str]:
    """Names of all configs of a group, whoever's they are; none for what is no group."""
    return sorted(file.stem for _, folder in folders() for file in (folder / group).glob("*.yaml"))


def find(group: str, choice: str) -> Path | None:
    """The file of a choice, or None."""
    files = (folder / group / f"{choice}.yaml" for _, folder in folders())
    return next((file for file in files if file.is_file()), None)


def take(words: Sequence[str]) -> list[str]:
    """The command line without --config-dir and trust=true, which are obeyed for the rest of this process. Raises
    UserError where they are wrong."""
    rest, left = [], iter(words)
    for word in left:
        flag, equals, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            add_config_dir(value if equals else next(left, ""))
        elif flag == "trust":
            _trust(value)
        else:
            rest.append(word)
    return rest


def add_config_dir(folder: str) -> None:
    """Search for configs in `folder` too, in this process; modules that its files name are admitted. Raises
    UserError."""
    place = Path(folder)
    if not folder or not place.is_dir():
        raise UserError(f"--config-dir: there is no folder '{folder}'")
    place = place.resolve()
    if place not in _config_dirs:
        _config_dirs.append(place)
    check()
    trust.admit(_named_in(place))


def _named_in(folder: Path) -> Iterator[str]:
    """Names of modules in the files of a folder of configs. A file that cannot be read is left to Hydra."""
    for file in folder.glob("*/**/*.yaml"):
        try:
            node = OmegaConf.to_container(OmegaConf.load(file))
        except (YAMLError, OmegaConfBaseException, OSError, ValueError):
            continue
        yield from trust.names_in(node)
        yield from trust.names_in({file.parent.name: node})


def _trust(value: str) -> None:
    if value not in ("true", "false"):
        raise UserError(f"trust: '{value}' is not true or false")
    if value == "true":
        trust.admit_all()


def compose(words: Iterable[str], config_dirs: Iterable[Path] = ()) -> DictConfig:
    """The composed config of `python main.py *words`. Raises UserError or Hydra's errors."""
    with _also(config_dirs):
        register()
        before = GlobalHydra.instance().hydra  # that of main.py, where a study or a sweep composes its parts
        GlobalHydra.instance().clear()
        try:
            with hydra.initialize_config_dir(str(paths.CONF), version_base="1.3"), mistakes_named():
                return hydra.compose("config", list(words))
        finally:
            GlobalHydra.instance().hydra = before


@contextmanager
def mistakes_named() -> Iterator[None]:
    """Within, what a yaml parser makes of a broken config is a UserError that names file and, if it can, line."""
    try:
        yield
    except (YAMLError, UnicodeError, GrammarParseError, OSError, HydraException) as error:
        if isinstance(error, HydraException) and str(error).strip():
            raise  # it says what is wrong
        mark = getattr(error, "problem_mark", None)
        if mark is not None:
            raise UserError(yaml_mistake(mark.name, error)) from None
        for _, folder in folders():
            for file in sorted(folder.glob("*/**/*.yaml")):
                _check_readable(file)
        raise


def _check_readable(file: Path) -> None:
    """Raise UserError where a config is no yaml, or no mapping."""
    read_text(file)
    try:
        node = OmegaConf.load(file)
    except (YAMLError, OmegaConfBaseException, OSError) as error:
        raise UserError(yaml_mistake(file, error)) from None
    if not isinstance(node, DictConfig):
        raise UserError(f"{file}: is no mapping of keys to values")


@contextmanager
def _also(config_dirs: Iterable[Path]) -> Iterator[None]:
    before = list(_config_dirs)
    try:
        for folder in config_dirs:
            add_config_dir(str(folder))
        yield
    finally:
        _config_dirs[:] = before


def register() -> None:
    """Let Hydra search what `folders` says, in whatever it composes in this process. Raises UserError for what is
    wrong with that."""
    check()
    Plugins.instance().register(Others)


class Others(SearchPathPlugin):
    """Adds the folders that are not rlexp's own to Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        _, *others = folders()
        for whose, folder in others:
            search_path.append(whose, f"file://{folder}")
