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

from rlexp.util import paths, trust
from rlexp.util.configs import config_dirs, folders
from rlexp.util.errors import UserError, did_you_mean, nearest
from rlexp.util.files import read_text, yaml_mistake

CONFIG_DIR = ("--config-dir", "-cd")


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
        if whose != "rlexp":
            _check_groups(whose, files, folder)
        for file in files:
            name = file.relative_to(folder).as_posix()
            other = seen.setdefault(name, whose)
            if other != whose:
                raise UserError(f"{whose}: {name} is already one of {other}'s configs; give it another name")


def _check_groups(whose: str, files: list[Path], folder: Path) -> None:
    """Raise UserError for a group whose name is nearly one of ours; others may be the package's own."""
    ours = [group.name for group in paths.CONF.iterdir() if group.is_dir()]
    for file in files:
        name = file.relative_to(folder)
        group = name.parts[0]
        close = nearest(group, ours)
        if group not in ours and close is not None:
            raise UserError(f"{whose}: {name.as_posix()}: there is no group '{group}'{did_you_mean(close)}")


def take(words: Sequence[str]) -> list[str]:
    """The command line without --config-dir and trust=true, which are obeyed for the rest of this process. Raises
    UserError where they are wrong."""
    rest = take_config_dirs(words)
    for word in rest:
        if word.startswith("trust="):
            _trust(word.removeprefix("trust="))
    return [word for word in rest if not word.startswith("trust=")]


def take_config_dirs(words: Sequence[str]) -> list[str]:
    """The command line without --config-dir, whose folders are searched for the rest of this process. Raises
    UserError where there is none such."""
    rest = []
    left = iter(words)
    for word in left:
        flag, equals, value = word.partition("=")
        if flag not in CONFIG_DIR:
            rest.append(word)
        elif equals:
            add_config_dir(value)
        else:
            add_config_dir(next(left, ""))
    return rest


def add_config_dir(folder: str) -> None:
    """Search for configs in `folder` too, in this process; modules that its files name are admitted. Raises
    UserError."""
    place = Path(folder).expanduser()
    if not folder or not place.is_dir():
        raise UserError(f"--config-dir: there is no folder '{folder}'")
    place = place.resolve()
    if place not in config_dirs:
        config_dirs.append(place)
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


def compose(words: Iterable[str]) -> DictConfig:
    """The composed config of `python main.py *words`. Raises UserError or Hydra's errors."""
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
