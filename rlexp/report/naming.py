"""What a run is called in short: its algorithm, its environment, its data."""

import re
from collections import Counter
from typing import Any

from rlexp.datasets import store
from rlexp.report.history import Run


def names(config: dict[str, Any]) -> tuple[str, str]:
    """The algorithm and the environment of a resolved config, both usable in file names."""
    algorithm = config["algo"]["_target_"].split(".")[-2]
    environment = re.sub(r"[^A-Za-z0-9.]+", "-", config["env"]["name"])
    return algorithm, environment


def data_of(config: dict[str, Any]) -> str | None:
    """The recorded data that a resolved config learns from; None where it learns from none.

    The environment's own data set rlexp/<env>/medium-v0 is `medium`, whichever way the config writes it.
    """
    buffer = config.get("buffer") or {}
    if buffer.get("path"):
        return buffer["path"]
    dataset = buffer.get("dataset")
    if not dataset:
        return None
    if dataset.startswith("minari:"):
        dataset = store.short(dataset.removeprefix("minari:"))
    _, environment = names(config)
    return dataset.removeprefix(f"{environment}/")


def title(run: Run) -> str:
    """Algorithm, environment and data of a run; until all seeds are done, also how many are in which state."""
    words = " on ".join(names(run.config))
    data = data_of(run.config)
    if data:
        words += f", {data}"
    counts = Counter(run.status(seed) for seed in run.rows)
    if set(counts) == {"done"}:
        return words
    states = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return f"{words}, {len(run.rows)} seeds: {states}"
