"""Environments by name: those that have a config, and any other that Gymnasium knows."""

from pathlib import Path
from typing import Any

import gymnasium as gym

from rlexp.envs.spec import EnvConfig, register
from rlexp.util import paths, plugins
from rlexp.util.errors import UserError, did_you_mean, nearest


def files() -> dict[str, Path]:
    """conf/env/<name>.yaml of each environment that has one, ours or a plugin's, by name."""
    confs = [paths.CONF, *(plugin.conf() for plugin in plugins.installed())]
    found = {file.stem: file for conf in confs if conf for file in (conf / "env").glob("*.yaml")}
    found.pop("gym", None)  # which has no id of its own
    return found


def from_conf(file: Path) -> EnvConfig:
    """The environment that a config describes."""
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(OmegaConf.load(file))
    return EnvConfig(**plain)


def environment(name: str) -> EnvConfig:
    """The environment conf/env/`name`.yaml, or the one with the Gymnasium id `name`. Raises UserError for neither."""
    known = files()
    if name in known:
        return from_conf(known[name])
    for config in map(from_conf, known.values()):
        if config.id == name:
            return config
    register(name)
    if name.rpartition(":")[2] not in gym.registry:
        hint = did_you_mean(nearest(name, [*known, *gym.registry]))
        raise UserError(f"no environment '{name}' in conf/env/, and Gymnasium has no such id{hint}")
    return EnvConfig(id=name, name=name, max_episode_steps=None, random_return=None, expert_return=None)
