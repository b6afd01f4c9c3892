"""From `buffer.*` to a data set in memory."""

import functools
from dataclasses import dataclass

from rlexp.data.dataset import Dataset
from rlexp.envs import EnvConfig, EnvSpec
from rlexp.errors import UserError
from rlexp.params import Params, param


@dataclass(frozen=True, kw_only=True)
class BufferConfig(Params):
    """Recorded episodes to learn from."""

    dataset: str | None = param("name of a data set: <kind> or <robot>/<kind> of this project, or minari:<id>")
    path: str | None = param("file of recorded episodes instead: D4RL hdf5, Decision Transformer pickle, npz")
    top_percent: float = param(
        "keep only the episodes of highest return, this share of the steps", unit="%", gt=0, le=100
    )
    trajectories: int | None = param("keep only the first so many episodes; null: all", ge=1)

    @property
    def given(self) -> str | None:
        """What data are asked for, in the words of the command line; None for no data."""
        asked = {"buffer.dataset": self.dataset, "buffer.path": self.path}
        words = [f"{key}={value}" for key, value in asked.items() if value is not None]
        if len(words) > 1:
            raise UserError(f"{' and '.join(words)}: give one of the two")
        return words[0] if words else None


def load(buffer: BufferConfig, env: EnvConfig, spec: EnvSpec) -> Dataset:
    """The data set that `buffer` names for `env`, made on first use. Raises UserError."""
    data = _whole(buffer.dataset, buffer.path, env.name, env.id).top(buffer.top_percent)
    if buffer.trajectories is not None:
        if buffer.trajectories > len(data.length_E):
            raise UserError(f"buffer.trajectories={buffer.trajectories}: {data.name} has {len(data.length_E)} episodes")
        data = data.first(buffer.trajectories)
    data.check(spec)
    return data


@functools.lru_cache(maxsize=1)  # the arms of a study and the seeds of a worker mostly share one
def _whole(dataset: str | None, path: str | None, env_name: str, env_id: str) -> Dataset:
    raise UserError("no data yet")
