"""What a run's results depend on: the part of its config that stays as it was when the run is resumed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rlexp.util.former_keys import renamed

# What may change when a run is resumed, because nothing that has been done depends on it.
FREE_ON_RESUME = (
    *("train.budget", "train.keep", "train.snapshot_every", "train.patience"),
    *("video", "logger", "seeds", "reference", "workers"),
    "algo.iterations",  # DPO's, with the budget
    *("buffer.dataset", "buffer.path"),  # the same data, wherever they are now: their digest is remembered
)
GROUPS = ("algo", "env", "train", "policy", "buffer", "expert")


def essentials(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run's config that may not change, by dotted name: plain data, as JSON gives it back."""
    found = {
        f"{group}.{key}": value
        for group in GROUPS
        for key, value in config.get(group, {}).items()
        if f"{group}.{key}" not in FREE_ON_RESUME
    }
    return json.loads(json.dumps(found))


def difference(before: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first option of `before`, essentials of an earlier time, that is another in `config`: its name, its value
    then and now. None where they agree; an option that has another name by now is the same."""
    algo = renamed({key.removeprefix("algo."): value for key, value in before.items() if key.startswith("algo.")})
    others = {key: value for key, value in before.items() if not key.startswith("algo.")}
    now = essentials(config)
    for key, value in {**{f"algo.{key}": value for key, value in algo.items()}, **others}.items():
        if now.get(key) != value:
            return key, value, now.get(key)
    return None


def digest(config: Mapping[str, Any]) -> str:
    """A word that is the same for the same essentials."""
    return hashlib.sha256(json.dumps(essentials(config), sort_keys=True).encode()).hexdigest()[:16]
