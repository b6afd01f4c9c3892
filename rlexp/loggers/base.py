"""Where numbers go: a list of loggers, each given every row of metrics."""

from typing import Any, Protocol

Row = dict[str, Any]  # "step", "env_steps", "updates", "seconds", then metrics by name
COUNTERS = ("step", "env_steps", "updates", "seconds")


class Sink(Protocol):
    def write(self, row: Row) -> None: ...
    def close(self) -> None: ...
