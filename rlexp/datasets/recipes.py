"""Which data sets this project has, and from which policies each is made: `gallery/datasets.yaml`.

A *share* is one policy's part of a data set. A *ladder* is a folder of snapshots of one training run, at equal
distances from the untrained policy on; each plays for the share of training until the next. Together they stand for
what training would have left in a replay buffer, a little younger: a buffer holds what every policy between them did
too, and of SAC's first steps uniform actions, not the untrained policy's.
"""

import hashlib
import json
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlexp.envs import named
from rlexp.envs.spec import EnvConfig
from rlexp.util import checkpoint, paths
from rlexp.util.errors import UserError, did_you_mean, nearest

FILE = paths.GALLERY / "datasets.yaml"
GENERATOR = 1  # goes up when the same recipe gives other episodes


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One of `policy`, `ladder` and `parts`."""

    policy: str | None = None  # a name in gallery/policies, or a file
    ladder: str | None = None  # a folder in gallery/policies with policy_<step>.safetensors, or any folder
    until: str | None = None  # ladder: the policy at whose training step it ends; null: one distance after its last
    parts: tuple[str, ...] = ()  # other kinds of the same environment, one after another
    steps: int | None = None  # ladder: the training step at which it ends, unless given
    episodes: int | None = None  # instead of steps: so many whole episodes
    sampled: bool = False  # sampled instead of mean actions; a ladder's are always sampled


@dataclass(frozen=True)
class Share:
    """So many steps, or so many whole episodes, of one policy."""

    path: Path
    steps: int | None
    episodes: int | None
    sampled: bool
    unsaid: tuple[tuple[str, Any], ...] = ()  # of another program's file: what it does not say itself

    @property
    def amount(self) -> int:
        return self.steps or self.episodes or 0


def table() -> dict[str, dict[str, Recipe]]:
    """All recipes, by environment and kind."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(OmegaConf.load(FILE))
    assert isinstance(plain, dict)
    return {str(env): {kind: Recipe(**keys) for kind, keys in kinds.items()} for env, kinds in plain.items()}


def environment(name: str) -> EnvConfig:
    """The environment conf/env/`name`.yaml, ours or a plugin's, on Gymnasium: data are made there, whatever a run
    changes of it. Raises UserError where there is none."""
    if name == "gym":
        raise UserError("environment gym has no id of its own; name one that has: conf/env/<name>.yaml")
    known = named.files()
    if name not in known:
        hint = did_you_mean(nearest(name, known)) or "; one of your own is DIR/env/NAME.yaml with --config-dir DIR"
        raise UserError(f"no environment '{name}'{hint}")
    return named.from_conf(known[name]).on_gymnasium()


def seed(dataset_id: str) -> int:
    """Each data set has chance of its own, and none of it in common with training seeds 0, 1, 2, …"""
    return 2**32 + zlib.crc32(dataset_id.encode())


def shares(recipe: Recipe) -> list[Share]:
    """Whose episodes they are, in order. Raises UserError where a policy is not there."""
    if recipe.ladder is None:
        assert recipe.policy is not None
        return [Share(_file(recipe.policy), recipe.steps, recipe.episodes, recipe.sampled)]
    files = _files(recipe)
    starts = [int(file.stem.removeprefix("policy_")) for file in files]
    if recipe.until:
        end = _trained(_file(recipe.until))
    else:
        end = starts[-1] + (starts[-1] - starts[0]) // (len(starts) - 1)
    files = [file for file, start in zip(files, starts, strict=True) if start < end]
    edges = [*starts[: len(files)], end]
    scale = (recipe.steps or end - edges[0]) / (end - edges[0])
    at = [round(scale * (edge - edges[0])) for edge in edges]
    return [Share(f, b - a, None, True) for f, a, b in zip(files, at[:-1], at[1:], strict=True) if b > a]


def fingerprint(env: str, kind: str) -> str | None:
    """What the episodes depend on: recipe and policies, as one word; None where a policy is not at hand."""
    recipe = table()[env][kind]
    digest = hashlib.sha256(json.dumps([GENERATOR, env, kind, asdict(recipe)]).encode())
    for part in recipe.parts:
        theirs = fingerprint(env, part)
        if theirs is None:
            return None
        digest.update(theirs.encode())
    try:
        files = [] if recipe.parts else _files(recipe)
        if recipe.until and not recipe.parts:
            files.append(_file(recipe.until))
        for file in files:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    except UserError:
        return None
    return digest.hexdigest()[:16]


def _files(recipe: Recipe) -> list[Path]:
    if recipe.ladder is None:
        return [_file(recipe.policy or "")]
    folder = paths.POLICIES / recipe.ladder if (paths.POLICIES / recipe.ladder).is_dir() else Path(recipe.ladder)
    found = sorted(folder.glob("policy_*.safetensors"), key=lambda file: int(file.stem.removeprefix("policy_")))
    if len(found) < 2:
        raise UserError(f"{folder}: no ladder of policies there (two or more policy_<step>.safetensors)")
    return found


def _file(name: str) -> Path:
    path = Path(name) if name.endswith(".safetensors") else paths.POLICIES / f"{name}.safetensors"
    if not path.is_file():
        raise UserError(f"its policy '{name}' is not there ({path})")
    return path


def _trained(file: Path) -> int:
    return int(checkpoint.load(file, "policy")["card"]["step"])
