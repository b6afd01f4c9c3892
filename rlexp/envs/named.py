"""Environments by name: those that have a config, and any other that Gymnasium knows."""

from pathlib import Path

import gymnasium as gym

from rlexp.envs.spec import EnvConfig, register
from rlexp.util import configs
from rlexp.util.errors import UserError, did_you_mean, nearest, said_of
from rlexp.util.files import read_yaml
from rlexp.util.params import typed


def files() -> dict[str, Path]:
    """conf/env/<name>.yaml of each environment that has one, whoever's it is, by name."""
    found = {file.stem: file for _, folder in configs.folders() for file in (folder / "env").glob("*.yaml")}
    found.pop("gym", None)  # which has no id of its own
    return found


def from_conf(file: Path) -> EnvConfig:
    """The environment that a config describes. Raises UserError for a mistake in it."""
    with said_of(str(file)):
        return typed(EnvConfig, read_yaml(file), "env")


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
