"""The first updates of every algorithm, stored. `python -m tests.golden [ALGO ...]` writes them anew."""

from pathlib import Path
from typing import Any


def first_updates(algo: str, folder: Path) -> list[dict[str, Any]]:
    """Metrics of the first three iterations on the line world, seed 0."""
    from tests.helpers import metrics, toy, train

    train(toy(algo), folder, stop_after=3)
    return metrics(folder)
