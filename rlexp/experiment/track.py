"""Runs given to loggers after the fact, from what their folders hold; and loggers by name, wherever one is chosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rlexp.experiment.hydra_errors import composed, no_such
from rlexp.loggers.base import LoggedSeed, Status
from rlexp.loggers.make import Chosen, Loggers, chosen
from rlexp.report.history import Run
from rlexp.util import configs
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
    return OmegaConf.to_container(composed(words)[name], resolve=True)  # type: ignore[return-value]


def logger_named(name: str, options: list[str]) -> Chosen:
    """The logger conf/logger/`name`.yaml with `options` (KEY=VALUE). Raises UserError."""
    if "," in name:
        raise UserError(f"--to {name}: takes one logger; track once for each, --to {name.split(',')[0]} first")
    if name not in configs.choices("logger"):
        raise UserError(no_such("logger", name))
    for option in options:
        if "=" not in option:
            raise UserError(f"--option {option}: takes KEY=VALUE, as in conf/logger/{name}.yaml")
    found = chosen(group("logger", [f"logger={name}", *(f"logger.{name}.{option}" for option in options)]))
    if len(found) != 1:
        raise UserError(f"--to {name}: is {len(found)} loggers; name one")
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
