"""Where configs are found: rlexp's `conf`, the `conf` of each plugin, and the folders that --config-dir named."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlexp.util import paths, plugins

config_dirs: list[Path] = []  # absolute, given with --config-dir to this process


def folders() -> list[tuple[str, Path]]:
    """(whose, folder) of all configs, ours first. Raises UserError for a plugin that is not there."""
    found = [("rlexp", paths.CONF)]
    for plugin in plugins.installed():
        folder = plugin.conf()
        if folder is not None:
            found.append((f"plugin {plugin.name}", folder))
    return found + [(f"--config-dir {folder}", folder) for folder in config_dirs]


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


@contextmanager
def forgetting() -> Iterator[None]:
    """The folders that are added within are searched within only."""
    before = list(config_dirs)
    try:
        yield
    finally:
        config_dirs[:] = before
