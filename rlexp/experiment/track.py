"""Runs given to loggers after the fact, from what their folders hold; and loggers by name, wherever one is chosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlexp.experiment import hydra_errors
from rlexp.experiment.compose import compose
from rlexp.loggers.base import LoggedSeed, Status
from rlexp.loggers.make import Chosen, Loggers, chosen
from rlexp.report.history import Run
from rlexp.util.errors import UserError


@dataclass(frozen=True)
class Tracked:
    """What a tracker has been given of one seed."""

    folder: Path  # the seed's
    rows: int
    new_rows: int
    films: int
    pictures: int


def group(name: str, words: list[str]) -> dict[str, Any]:
    """A group of the config that is composed of `words` (logger=NAME, logger.NAME.OPTION=VALUE). Raises UserError."""
    try:
        return OmegaConf.to_container(compose(words)[name], resolve=True)  # type: ignore[return-value]
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(hydra_errors.hydra_error(error, words)) from None


def logger_named(name: str, options: list[str]) -> Chosen:
    """The logger conf/logger/`name`.yaml with `options` (KEY=VALUE). Raises UserError."""
    found = chosen(group("logger", [f"logger={name}", *(f"logger.{name}.{option}" for option in options)]))
    if len(found) != 1:
        raise UserError(f"logger={name}: is {len(found)} loggers; name one")
    return found[0]


def track(run_folder: Path, logger: Chosen) -> list[Tracked]:
    """Give `logger` the rows, films and pictures of a run's seeds that its tracker lacks. Raises UserError."""
    run = Run.read(run_folder)
    return [_track_seed(run_folder, run, int(seed), logger) for seed, rows in run.rows.items() if rows]


def _track_seed(run_folder: Path, run: Run, seed: int, logger: Chosen) -> Tracked:
    folder = run_folder / f"seed_{seed}"
    rows = run.rows[str(seed)]
    films = sorted((folder / "videos").glob("*.mp4"))
    pictures = sorted(run_folder.glob("*.png"))
    end = rows[-1]["step"]
    loggers = Loggers([logger], LoggedSeed(folder, seed, run.config), history=rows)
    for film in films:
        loggers.log_film(film, end)
    for picture in pictures:
        loggers.log_picture(picture, end)
    loggers.close(_status(run.record["seeds"][str(seed)]))
    for warning in loggers.take_warnings():
        raise UserError(f"{folder}: {warning}")
    return Tracked(folder, len(rows), loggers.given, len(films), len(pictures))


def _status(facts: Mapping[str, Any]) -> Status:
    if facts["status"] in ("done", "failed"):
        return facts["status"]
    return "interrupted"
