"""From `buffer.*` to a data set in memory."""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlexp.buffers.dataset import Dataset
from rlexp.datasets import formats, generate, recipes, store
from rlexp.envs.spec import EnvConfig, EnvSpec, task_of
from rlexp.util.errors import UserError, did_you_mean, nearest, said_of
from rlexp.util.params import Params, param


@dataclass(frozen=True, kw_only=True)
class BufferConfig(Params):
    """Recorded episodes to learn from."""

    dataset: str | None = param("name of a data set: <kind> or <robot>/<kind> of this project, or minari:<id>")
    path: str | None = param("file of recorded episodes instead: hdf5, npz or pickle, see rlexp/datasets/formats.py")
    top_percent: float = param(
        "keep only the episodes of highest return, this share of the steps", unit="%", gt=0, le=100
    )
    trajectories: int | None = param("keep only the first so many episodes; null: all", ge=1)
    clip_actions: bool = param("actions outside of the environment's bounds are clipped, not refused", default=False)

    @property
    def given(self) -> str | None:
        """What data are asked for, in the words of the command line; None for no data. A file goes before a name: the
        name may be an algorithm's default."""
        if self.path is not None:
            return f"buffer.path={self.path}"
        if self.dataset is not None:
            return f"buffer.dataset={self.dataset}"
        return None

    @property
    def limited(self) -> str | None:
        """What limits or changes them, in the words of the command line; None where nothing does."""
        if self.top_percent < 100:
            return f"buffer.top_percent={self.top_percent:g}"
        if self.trajectories is not None:
            return f"buffer.trajectories={self.trajectories}"
        if self.clip_actions:
            return "buffer.clip_actions=true"
        return None


def load(buffer: BufferConfig, env: EnvConfig, spec: EnvSpec) -> Dataset:
    """The data set that `buffer` names for `env`, made on first use. Raises UserError."""

    with said_of("buffer.path" if buffer.path is not None else f"buffer.dataset={buffer.dataset}"):
        if buffer.path is not None:
            file = Path(buffer.path).expanduser()
            data = _once(_file, (file, env.time_limit), file.stat().st_mtime_ns if file.is_file() else 0)
        else:
            data = named(str(buffer.dataset), env)
        data = fitted(data, spec, "buffer.clip_actions=true", clip=buffer.clip_actions)
    with said_of(f"buffer.top_percent={buffer.top_percent:g}"):
        data = data.top(buffer.top_percent)
    if buffer.trajectories is not None:
        if buffer.trajectories > len(data.length_E):
            raise UserError(f"buffer.trajectories={buffer.trajectories}: {data.name} has {len(data.length_E)} episodes")
        data = data.first(buffer.trajectories)
    return data


def missing(buffer: BufferConfig, env: EnvConfig) -> list[generate.Missing]:
    """What would be made before `load` could give the data; empty where all is here, or comes from elsewhere. Raises
    UserError for what has no such name."""
    if buffer.path is not None or buffer.dataset is None or buffer.dataset.startswith("minari:"):
        return []
    with said_of(f"buffer.dataset={buffer.dataset}"):
        _, owner, kind = find(buffer.dataset, env.name).removesuffix("-v0").split("/")
        if kind not in recipes.table().get(owner, {}):
            return []
        _require_same(recipes.environment(owner).task, env)
        return generate.missing(owner, kind)


def fitted(data: Dataset, spec: EnvSpec, option: str, *, clip: bool) -> Dataset:
    """`data` with actions as the environment has them. Raises UserError where they cannot come from it.

    option: what the user says for `clip`, with which actions outside of the bounds are clipped
    """
    data.check_numbers()
    action = data.action
    if spec.kind == "discrete" and action.shape[1:] == (1,) and (action == np.round(action)).all():
        data = replace(data, action=action[:, 0].astype(np.int64))  # Berkeley's files have them as floats
    if clip and spec.kind == "continuous" and action.shape[1:] == (spec.n_actions,):
        data = replace(data, action=np.clip(action, spec.low_A, spec.high_A))
    data.check(spec, f"; {option} clips them")
    return data


def _file(what: tuple[Path, int | None]) -> Dataset:
    return formats.read(*what)


@functools.lru_cache(maxsize=1)  # the arms of a study and the seeds of a worker mostly share one
def _once(read: Callable[[Any], Dataset], what: Any, changed: Any) -> Dataset:
    return read(what)


def named(name: str, env: EnvConfig) -> Dataset:
    """The data set that `env` calls `name`: made, or downloaded, where it is not on this machine. Raises UserError."""

    dataset_id = find(name, env.name)
    if not name.startswith("minari:"):
        _, owner, kind = dataset_id.removesuffix("-v0").split("/")
        if kind in recipes.table().get(owner, {}):
            _require_same(recipes.environment(owner).task, env)
            generate.ensure(owner, kind)
    elif not store.exists(dataset_id):
        store.download(dataset_id)
    _require_same(task_of(store.env_id(dataset_id) or env.id), env)
    return _once(store.read, dataset_id, store.changed(dataset_id))


def _require_same(recorded: str, env: EnvConfig) -> None:
    if recorded != env.task:
        raise UserError(f"was recorded in {recorded}, env={env.name} is {env.task}")


def find(name: str, env_name: str | None = None) -> str:
    """Minari's id of what is called `name`: one of this project's recipes, or stored. Raises UserError for neither."""

    if name.startswith("minari:"):
        dataset_id = name.removeprefix("minari:")
        store.folder(dataset_id)  # raises for what is no id
        return dataset_id
    env, _, kind = name.rpartition("/")
    env = env or env_name or ""
    if not re.fullmatch(r"[-\w]+", env) or not re.fullmatch(r"[-\w]+", kind):
        raise UserError("is no name of a data set: <kind>, <env>/<kind> or minari:<id>")
    known = kinds()
    if env not in known:
        hint = did_you_mean(nearest(env, known)) or ";"
        raise UserError(f"there are no data sets of env={env}{hint} there are of {', '.join(known)}")
    if kind not in known[env]:
        hint = did_you_mean(nearest(kind, known[env])) or ";"
        raise UserError(f"{env} has no data set '{kind}'{hint} it has {', '.join(known[env])}")
    return store.own_id(env, kind)


def kinds() -> dict[str, list[str]]:
    """All data sets of this project, by environment: those with a recipe, and those imported on this machine."""

    known = {env: list(of) for env, of in recipes.table().items()}
    for dataset_id in store.local():
        own = re.fullmatch(r"rlexp/([-\w]+)/([-\w]+)-v0", dataset_id)
        if own is None:
            continue
        kinds_of_env = known.setdefault(own[1], [])
        if own[2] not in kinds_of_env:
            kinds_of_env.append(own[2])
    return known
