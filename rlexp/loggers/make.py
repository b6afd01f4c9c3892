"""From group `logger` of a config to loggers that work, and that cannot hurt training."""

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlexp.loggers.base import LoggedSeed, Logger, Row, Status
from rlexp.util import targets, watchdog
from rlexp.util.errors import UserError
from rlexp.util.files import named
from rlexp.util.params import Params, typed


@dataclass(frozen=True)
class Chosen:
    """One logger of a config, checked."""

    name: str
    logger_class: type[Logger]
    config: Params

    def plain(self) -> dict[str, Any]:
        """What config.yaml holds of it."""
        target = f"{self.logger_class.__module__}.{self.logger_class.__qualname__}"
        return {"_target_": target, **asdict(self.config)}


def chosen(group: Mapping[str, Any]) -> tuple[Chosen, ...]:
    """The loggers of group `logger` (name -> `_target_` and options). Imports their modules, not what they log to.

    Raises UserError where there is no such class, an option is wrong, or a package is missing.
    """
    found = []
    for name, node in group.items():
        where = f"logger.{name}"
        if not isinstance(node, Mapping) or "_target_" not in node:
            raise UserError(f"{where}: is no logger; choose them with logger=NAME or 'logger=[NAME,NAME]'")
        logger_class = targets.find(node["_target_"], Logger, f"{where}._target_")
        options = {key: value for key, value in node.items() if key != "_target_"}
        config = typed(logger_class.Config, options, where)
        _check_packages(logger_class, where)
        found.append(Chosen(str(name), logger_class, config))
    return tuple(found)


def _check_packages(logger_class: type[Logger], where: str) -> None:
    for package in logger_class.packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:  # without an origin it is a folder that happens to be called so
            install = logger_class.install or package
            raise UserError(f"{where}: the package {package} is not installed; pip install '{install}'")


class Loggers:
    """The loggers of one seed. What one of them raises becomes a warning, and that one is given nothing more."""

    def __init__(self, choice: Iterable[Chosen], seed: LoggedSeed, history: Iterable[Row] = ()):
        """Open the trackers. `history`: rows that were logged before; each tracker is given those that it lacks."""
        self.warnings: list[str] = []
        self.given = 0  # rows that were new to a tracker
        self._open: dict[str, Logger] = {}
        self._last: dict[str, int] = {}
        for each in choice:
            self._guard(each.name, self._begin, each, seed)
        for row in history:
            self.log(row)

    def _begin(self, choice: Chosen, seed: LoggedSeed) -> None:
        logger = choice.logger_class(choice.config, seed)
        self._open[choice.name] = logger
        self._last[choice.name] = int(logger.last_step())

    def _guard(self, name: str, action: Callable[..., None], *arguments: Any) -> None:
        try:
            watchdog.alive(name)
            action(*arguments)
            watchdog.alive()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a network, a disk, a tracker that exits or hangs: training goes on
            self._open.pop(name, None)
            self.warnings.append(f"logger {name} is given up: {named(error)}")

    def log(self, row: Row) -> None:
        """Give `row` to every logger whose tracker has not got its step yet."""
        for name, logger in list(self._open.items()):
            if row["step"] > self._last[name]:
                self._guard(name, logger.log, row)
                self.given += 1

    def log_film(self, path: Path, step: int) -> None:
        for name, logger in list(self._open.items()):
            self._guard(name, logger.log_film, path, step)

    def log_picture(self, path: Path, step: int) -> None:
        for name, logger in list(self._open.items()):
            self._guard(name, logger.log_picture, path, step)

    def close(self, status: Status) -> None:
        for name, logger in list(self._open.items()):
            self._guard(name, logger.close, status)
        self._open.clear()

    def take_warnings(self) -> list[str]:
        """What went wrong since the last call."""
        taken = self.warnings
        self.warnings = []
        return taken
