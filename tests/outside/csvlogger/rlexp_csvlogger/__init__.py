"""A logger that writes one metric a line: step, name, value."""

import csv
from dataclasses import dataclass
from pathlib import Path

from rlexp.loggers.base import LoggedSeed, Logger, Row, Status
from rlexp.util.params import Params, param


class CSV(Logger):
    @dataclass(frozen=True, kw_only=True)
    class Config(Params):
        file: str = param("where, in the seed's folder")
        delimiter: str = param("between columns", choices=(",", ";", "|"))

    def __init__(self, config: Config, seed: LoggedSeed):
        path = seed.folder / config.file
        self.delimiter = config.delimiter
        self.last = -1
        if path.is_file():
            rows = list(csv.reader(path.open(), delimiter=config.delimiter))
            self.last = max((int(step) for step, *_ in rows), default=-1)
        self.file = path.open("a", newline="")
        self.out = csv.writer(self.file, delimiter=config.delimiter)

    def last_step(self) -> int:
        return self.last

    def log(self, row: Row) -> None:
        self.out.writerows([row["step"], name, value] for name, value in row.items() if name != "step")
        self.file.flush()

    def log_film(self, path: Path, step: int) -> None:
        self.out.writerow([step, "film", path.name])

    def log_picture(self, path: Path, step: int) -> None:
        self.out.writerow([step, "picture", path.name])

    def close(self, status: Status) -> None:
        self.file.close()
