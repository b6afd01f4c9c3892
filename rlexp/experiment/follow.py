"""What a seed tells, read from its files: for whoever looks on from another process or machine."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlexp.experiment import status
from rlexp.experiment.events import Event
from rlexp.loggers.jsonl import COUNTERS

ENDED = ("done", "failed", "interrupted")


@dataclass
class Follower:
    """Follows the files of one seed, which another process writes."""

    folder: Path  # of the seed
    seed: int
    read: int = 0  # bytes of metrics.jsonl
    last: str = "waiting"  # status that was told

    def news(self) -> Iterator[Event]:
        """What has happened since the last call. Raises UserError where status.json is broken."""
        facts = status.read(self.folder) or status.waiting()  # first: rows are written before the seed is done
        rows = list(self._rows())
        if self.last == "waiting":  # of what has long been, the newest evaluation will do
            rows = [row for row in rows if _scores(row)][-1:]
        for row in rows:
            yield self._event(row)
        if facts["status"] != self.last and facts["status"] in ENDED:
            yield Event(self.seed, facts["status"], facts["message"], facts)
        self.last = facts["status"]

    @property
    def ended(self) -> bool:
        return self.last in ENDED

    def _rows(self) -> Iterator[dict[str, Any]]:
        """New whole lines of metrics.jsonl, from its beginning where a resumed seed has made it shorter."""
        file = self.folder / "metrics.jsonl"
        if not file.is_file():
            return
        if file.stat().st_size < self.read:
            self.read = 0
        with open(file, "rb") as lines:
            lines.seek(self.read)
            for line in lines:
                if not line.endswith(b"\n"):  # it is being written
                    return
                self.read += len(line)
                try:
                    yield json.loads(line)
                except ValueError:  # the seek came to lie within a line of a file that was made shorter and longer
                    continue

    def _event(self, row: dict[str, Any]) -> Event:
        counters = {name: row[name] for name in COUNTERS}
        scores = _scores(row)
        kind = "evaluation" if scores else "progress"
        return Event(self.seed, kind, "", {**counters, **scores})


def _scores(row: dict[str, Any]) -> dict[str, float]:
    """Those of the evaluation in a row of metrics, by name; none where it has none."""
    return {name.removeprefix("eval/"): value for name, value in row.items() if name.startswith("eval/")}
