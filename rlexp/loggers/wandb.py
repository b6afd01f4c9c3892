"""Weights & Biases: one run a seed, grouped by the run's name. `pip install 'rlexp[wandb]'`.

Nothing asks for a login. Without one, and without WANDB_MODE, a seed is written to its folder; `wandb login` and
`wandb sync runs/DAY/RUN/seed_*/wandb/offline-run-*` send it later.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.loggers.base import LoggedSeed, Logger, Row, Status, film_name
from rlexp.util.params import Params, param

FINISH_SECONDS = 60  # that an unreachable server may hold up the end of a seed; the data stay on disk


class WandB(Logger):
    """A W&B run whose steps are the algorithm's own."""

    packages = ("wandb",)
    install = "rlexp[wandb]"

    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        project: str = param("W&B project")
        entity: str | None = param("user or team; null: the one that is logged in")
        mode: str | None = param(
            "null: WANDB_MODE, else online where somebody is logged in, else offline",
            choices=("online", "offline"),
        )

    def __init__(self, config: Config, seed: LoggedSeed):
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # of W&B's errors to its makers
        import wandb

        self.wandb = wandb
        settings = wandb.Settings(
            silent=True,
            console="off",
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
        )
        wandb.setup(settings)
        mode = _mode(wandb, config.mode)
        identity = seed.identity()
        known = -1
        if mode == "offline":
            known = max(_steps(seed.folder / "wandb", identity), default=-1)
        self.run = wandb.init(
            project=config.project,
            entity=config.entity,
            mode=mode,
            dir=seed.folder,
            id=identity,
            resume="allow",
            reinit="create_new",
            name=seed.name,
            group=seed.group,
            config=seed.config,
            settings=settings,
        )
        self.last = max(known, self.run.starting_step - 1)

    def last_step(self) -> int:
        return self.last

    def log(self, row: Row) -> None:
        self.run.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])

    def log_film(self, path: Path, step: int) -> None:
        self._log_medium(f"films/{film_name(path)}", self.wandb.Video(str(path), format="mp4"), step)

    def log_picture(self, path: Path, step: int) -> None:
        self._log_medium(f"pictures/{path.stem}", self.wandb.Image(str(path)), step)

    def _log_medium(self, name: str, medium: Any, step: int) -> None:
        """Add it to the row of `step`; to the summary where that row is closed: W&B's steps never go back."""
        if step > self.last:
            self.run.log({name: medium}, step=step)
        else:
            self.run.summary[name] = medium

    def close(self, status: Status) -> None:
        self.run.finish(exit_code=int(status != "done"))


def _mode(wandb: Any, asked: str | None) -> str:
    """The mode that `asked` for, or the environment, or that is possible. Raises RuntimeError where it is not."""
    usual = wandb.setup().settings.mode
    if asked != "online" and usual != "online":
        return asked or usual
    if asked == "offline":
        return asked
    if wandb.login(prompt=False, verify=False):
        return "online"
    if asked == "online":
        raise RuntimeError("nobody is logged in; use `wandb login`, or logger.wandb.mode=offline")
    return "offline"


def _steps(folder: Path, identity: str) -> Iterator[int]:
    """Steps of the rows in the files that W&B wrote into `folder` for the run called `identity`.

    What a killed process had logged may not have reached its file, hence nothing but the file tells.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    for file in folder.glob(f"*run-*-{identity}/run-{identity}.wandb"):
        for data in _records(file.read_bytes()):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                yield record.history.step.num


def _records(data: bytes) -> Iterator[bytes]:
    """Records of a file in LevelDB's log format, behind W&B's header of 7 bytes; up to where it breaks off.

    Blocks of 32 KiB hold chunks: checksum (4 bytes), length (2), kind (1: whole, 2: first, 3: middle, 4: last), data.
    """
    position = 7
    parts = b""
    while position + 7 <= len(data):
        rest_of_block = 32768 - position % 32768
        if rest_of_block < 7:  # padding
            position += rest_of_block
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        begin = position + 7
        position = begin + length
        if position > len(data) or kind == 0:
            return
        parts += data[begin:position]
        if kind in (1, 4):
            yield parts
            parts = b""
