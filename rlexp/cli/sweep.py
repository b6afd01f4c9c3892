"""Sweeps (`-m`): every combination is checked before the first starts, and all run on one engine."""

from typing import TYPE_CHECKING

from rlexp.util.errors import UserError
from rlexp.util.processes import limit_threads

if TYPE_CHECKING:
    from rlexp.engines.base import Engine
    from rlexp.experiment.work import Work

HYDRAS = "{}: a sweep here tries all combinations, side by side on engine=..., in a folder below runs=...; "
HYDRAS += "Hydra's sweepers and launchers have no part in it"


def plan(words: list[str]) -> "tuple[Work, Engine]":
    """Compose and check all combinations that the options `words` stand for. Returns them as work, and the engine to
    run them on. Raises UserError, or Hydra's errors, before anything is written."""
    from omegaconf import OmegaConf

    from rlexp.experiment import overrides
    from rlexp.experiment.hydra_errors import combination

    for word in words:
        if word.startswith("-"):
            raise UserError(f"{word}: goes without -m")
        key = word.lstrip("+~").partition("=")[0]
        if key.split(".")[0].split("/")[0] == "hydra":
            raise UserError(HYDRAS.format(word))
        if key == "resume":
            raise UserError(f"{word}: goes on with all combinations of a sweep; write it without -m")
        if key == "study":
            raise UserError(f"{word}: has arms of its own; write it without -m")
    swept = overrides.sweep(words)
    first = combination(swept.common, swept.varied[0])
    threads = OmegaConf.select(first, "train.threads")
    limit_threads(threads if isinstance(threads, int) and threads > 0 else 1)

    from rlexp.cli.progress import say
    from rlexp.experiment.config import make_engine
    from rlexp.experiment.plan import sweep

    engine = make_engine(OmegaConf.to_container(first.engine, resolve=True))
    return sweep(swept, first, say, engine.at_once), engine
