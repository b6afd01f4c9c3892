"""Progress of all seeds: a live table on a terminal, plain lines elsewhere."""

import os
import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from rlexp.experiment.engines.base import Job
from rlexp.experiment.events import Event


def say(text: str) -> None:
    """Print a line. Where nobody reads any more (`| head`, a lost terminal) the run goes on in silence."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")


@dataclass
class Row:
    """What is known of one job."""

    budget: int
    status: str = "waiting"
    step: int = 0
    total: float | None = None  # mean return of the last evaluation
    note: str = ""
    marks: list[tuple[float, int]] = field(default_factory=list)  # (time, step) of this process's recent progress
    said: float = 0.0

    def rate(self) -> float | None:
        """Steps of the algorithm's clock per second, over the last marks."""
        if len(self.marks) < 2 or self.marks[-1][0] <= self.marks[0][0]:
            return None
        return (self.marks[-1][1] - self.marks[0][1]) / (self.marks[-1][0] - self.marks[0][0])

    def left(self) -> str:
        rate = self.rate()
        if self.status != "running" or not rate:
            return ""
        minutes, seconds = divmod(int(max(0, self.budget - self.step) / rate), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


class Board:
    """Shows jobs; `update` takes what they report. A context manager."""

    def __init__(self, jobs: list[Job], clock: str, arms: bool):
        self.unit = clock.replace("_", " ")
        self.arms = arms
        self.rows = {self._key(job): Row(job.config.train.budget) for job in jobs}
        self.console = Console(file=sys.stdout)
        self.live = (
            Live(get_renderable=self._table, console=self.console, refresh_per_second=4)
            if self.console.is_terminal
            else None
        )

    def _key(self, job: Job) -> tuple[str, int]:
        return (job.folder.path.name if self.arms else "", job.seed)

    def __enter__(self) -> "Board":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def update(self, job: Job, event: Event) -> None:
        row = self.rows[self._key(job)]
        row.status = {"done": "done", "failed": "failed"}.get(event.kind, "running")
        if "step" in event.data:
            row.step = event.data["step"]
            row.marks = [*row.marks[-40:], (time.monotonic(), row.step)]
        if event.kind == "evaluation":
            row.total = event.data["return_mean"]
        if event.kind == "done":
            row.total = event.data["final"]["return_mean"]
        row.note = event.text
        now = time.monotonic()
        if self.live is None and (event.kind != "progress" or event.text or now - row.said > 30):
            row.said = now
            self._line(job, event, row)

    def _line(self, job: Job, event: Event, row: Row) -> None:
        parts = [
            f"{job.folder.path.name} " * self.arms + f"seed {job.seed}",
            f"{row.step:>11,}/{row.budget:,} {self.unit}",
        ]
        if row.total is not None:
            parts.append(f"return {row.total:.1f}")
        if row.status == "running" and (rate := row.rate()):
            parts.append(f"{rate:,.{0 if rate >= 10 else 2}f}/s, {row.left()} left")
        parts += [event.kind] * (event.kind in ("done", "failed", "warning")) + [event.text] * bool(event.text)
        say("  ".join(parts))

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for name in ["arm"] * self.arms + ["seed", "status", self.unit, "", "return", "per second", "left", ""]:
            table.add_column(name, justify="right" if name in (self.unit, "return", "per second", "left") else "left")
        for (arm, seed), row in self.rows.items():
            filled = min(20, int(20 * row.step / row.budget))
            rate = row.rate() if row.status == "running" else None
            colour = {"done": "green", "failed": "red", "running": "cyan"}.get(row.status, "dim")
            cells = [escape(arm)] * self.arms
            cells += [
                str(seed),
                f"[{colour}]{row.status}[/]",
                f"{row.step:,}/{row.budget:,}",
                "━" * filled + "[dim]" + "━" * (20 - filled) + "[/]",
                "" if row.total is None else f"{row.total:.1f}",
                f"{rate:,.1f}" if rate else "",
                row.left(),
                escape(row.note),
            ]
            table.add_row(*cells)
        return table
