"""Policies that other programs saved: PyTorch state_dicts and Stable-Baselines3's zips.

Such files say less than ours. What is missing is given beside them (`Unsaid`), or assumed, and then said. Nothing in
them is executed.
"""

from pathlib import Path
from zipfile import is_zipfile

from rlexp.envs.spec import EnvSpec
from rlexp.policies import sb3, state_dict
from rlexp.policies.reading import Reading, Unsaid
from rlexp.util.errors import UserError

SUFFIXES = (".pt", ".pth", ".ckpt", ".zip")


def is_foreign(path: Path) -> bool:
    """Whether the file is one of another program: by its name, or because it is a zip."""
    return path.suffix in SUFFIXES or is_zipfile(path)


def files(path: Path) -> list[Path]:
    """All files that the policy in `path` is read from."""
    if not sb3.is_sb3(path):
        return [path]
    statistics = sb3.statistics_file(path, None)
    return [path] if statistics is None else [path, statistics]


def read(path: Path, env: EnvSpec, unsaid: Unsaid) -> Reading:
    """The policy in `path`, which acts in `env`. Raises UserError for what cannot be read, or is another network."""
    if sb3.is_sb3(path):
        return sb3.read(path, env, unsaid)
    if unsaid.vecnormalize is not None:
        raise UserError(f"{path}: vecnormalize belongs to a zip of Stable-Baselines3, which this is not")
    return state_dict.read(path, env, unsaid)
