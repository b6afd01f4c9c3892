"""Trackio: one run a seed, on this machine: `trackio show`. `pip install 'rlexp[trackio]'`."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.loggers.base import LoggedSeed, Logger, Row, Status, film_name
from rlexp.util.params import Params, param


class Trackio(Logger):
    """A Trackio run. It is known again by its name, which therefore ends in a part of the seed's identity."""

    packages = ("trackio",)
    install = "rlexp[trackio]"

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        project: str = param("Trackio project")
        space: str | None = param("Hugging Face Space to send everything to; null: stay on this machine")

    def __init__(self, config: Config, seed: LoggedSeed):
        import trackio

        self.trackio = trackio
        with contextlib.redirect_stdout(io.StringIO()):
            self.run = trackio.init(
                project=config.project,
                space_id=config.space,
                name=f"{seed.name}-{seed.identity()[:4]}",
                group=seed.group,
                config=seed.config,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        last = self.run._initial_last_step
        self.last = -1 if last is None else last
        self.media = self._names_of_media()

    def _names_of_media(self) -> set[tuple[str, int]]:
        """Names and steps of the films and pictures that are there already."""
        from trackio.sqlite_storage import SQLiteStorage

        logs = SQLiteStorage.get_logs(self.run.project, self.run.name, run_id=self.run.id)
        return {(key, log["step"]) for log in logs for key in log if key.startswith(("films/", "pictures/"))}

    def last_step(self) -> int:
        return self.last

    def log(self, row: Row) -> None:
        self.run.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])

    def log_film(self, path: Path, step: int) -> None:
        self._log_medium(f"films/{film_name(path)}", self.trackio.Video(str(path)), step)

    def log_picture(self, path: Path, step: int) -> None:
        self._log_medium(f"pictures/{path.stem}", self.trackio.Image(str(path)), step)

    def _log_medium(self, name: str, medium: Any, step: int) -> None:
        if (name, step) not in self.media:
            self.run.log({name: medium}, step=step)
            self.media.add((name, step))

    def close(self, status: Status) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.trackio.finish()  # of the current run, which this one is
