"""Policies that other programs saved: PyTorch state_dicts and Stable-Baselines3's zips.

Such files say less than ours. What is missing is given beside them (`Unsaid`), or assumed, and then said. Nothing in
them is executed.
"""

from pathlib import Path
from zipfile import is_zipfile

from rlexp.envs.spec import EnvSpec
from rlexp.policies import state_dict
from rlexp.policies.reading import Reading, Unsaid
from rlexp.util.errors import UserError

SUFFIXES = (".pt", ".pth", ".ckpt", ".zip")


def is_foreign(path: Path) -> bool:
    """Whether the file is one of another program: by its name, or because it is a zip."""
    return path.suffix in SUFFIXES or is_zipfile(path)


def read(path: Path, env: EnvSpec, unsaid: Unsaid) -> Reading:
    """The policy in `path`, which acts in `env`. Raises UserError for what cannot be read, or is another network."""
    if unsaid.vecnormalize is not None:
        raise UserError(f"{path}: vecnormalize belongs to a zip of Stable-Baselines3, which this is not")
    return state_dict.read(path, env, unsaid)
