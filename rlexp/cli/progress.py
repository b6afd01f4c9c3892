"""Progress of all seeds: a live table on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from rlexp.experiment.events import Event
from rlexp.experiment.job import SeedJob
from rlexp.report.words import tenths
from rlexp.util.clock import as_clock

QUIET = 30  # seconds without an evaluation after which a plain line says how far a seed is
MARKS = 41  # of recent progress, over which the rate is taken
BAR = 20  # characters
AROUND = 4  # lines of a terminal that are not seeds': the table's head and last row, the cursor's
LOOKED_FOR = ("failed", "running", "waiting", "interrupted", "done")
COLOURS = {"done": "green", "failed": "red", "running": "cyan"}


def say(text: str) -> None:
    """Print a line. Where nobody reads any more (`| head`, a lost terminal) the run goes on in silence."""
    with contextlib.suppress(OSError, ValueError):
        print(text, flush=True)


@dataclass
class Stage:
    """What goes on while an algorithm's clock stands still: so many of something are done of so many."""

    what: str
    total: int
    done: int
    first: int  # done when it was first heard of
    began: float  # then, s
    now: float

    @classmethod
    def after(cls, before: "Stage | None", what: str, done: int, total: int) -> "Stage":
        """The stage as it is now, `before` being what was known of it."""
        now = time.monotonic()
        if before is None or before.what != what or done <= before.done:
            return cls(what, total, done, done, now, now)
        return cls(what, total, done, before.first, before.began, now)

    def said(self) -> str:
        """`episodes collected: 32 of 512, 4.1/s, 0:01:57 left`."""
        text = f"{self.what}: {self.done:,} of {self.total:,}"
        if self.now <= self.began:
            return text
        rate = (self.done - self.first) / (self.now - self.began)
        return f"{text}, {rate:,.1f}/s, {as_clock((self.total - self.done) / rate)} left"


@dataclass
class Row:
    """What is known of one job."""

    budget: int
    status: str = "waiting"
    step: int = 0
    total: float | None = None  # mean return of the last evaluation
    note: str = ""
    stage: Stage | None = None
    marks: list[tuple[float, int]] = field(default_factory=list)  # (time, step) in this process
    said: float = 0.0  # when the last plain line was printed

    def take(self, event: Event) -> None:
        """Learn from what the job reports."""
        self.status = "running"
        if event.kind in ("done", "failed", "interrupted"):
            self.status = event.kind
        self.stage = Stage.after(self.stage, *event.data["stage"]) if "stage" in event.data else None
        self.note = event.text or (self.stage.said() if self.stage else "")
        if "step" in event.data:
            self.step = event.data["step"]
            self.marks = [*self.marks, (time.monotonic(), self.step)][-MARKS:]
        if event.kind == "evaluation":
            self.total = event.data["return_mean"]
        if event.kind == "done":
            self.total = event.data["final"]["return_mean"]

    def rate(self) -> float | None:
        """Steps of the algorithm's clock per second, over the last marks; None unless it is running."""
        if self.status != "running" or len(self.marks) < 2:
            return None
        first_time, first_step = self.marks[0]
        last_time, last_step = self.marks[-1]
        if last_time <= first_time:
            return None
        return (last_step - first_step) / (last_time - first_time)

    def left(self) -> str:
        """The time to the budget at the present rate, as 1:23:45; empty where that is not known."""
        rate = self.rate()
        if not rate:
            return ""
        return as_clock(max(0, self.budget - self.step) / rate)

    def share_left(self) -> float:
        """How much of the budget is to come, from 1 to 0; nothing of what has failed."""
        if self.status in ("done", "failed", "interrupted"):
            return 0.0
        return max(0.0, 1 - self.step / self.budget)


class Board:
    """Shows jobs; `update` takes what they report. A context manager."""

    def __init__(self, jobs: list[SeedJob], budgets: dict[Path, int], clock: str, arms: bool):
        """`budgets`: of each run folder; `clock`: env_steps or updates; `arms`: tell jobs apart by their run's folder
        too."""
        self.unit = clock.replace("_", " ")
        self.arms = arms
        self.rows = {self._key(job): Row(budgets[job.run_folder]) for job in jobs}
        self.rate = 0.0  # budgets per second, of all jobs that run
        self.live: Live | None = None
        self.console = Console(file=sys.stdout)
        if self.console.is_terminal:
            self.live = Live(get_renderable=self._table, console=self.console, refresh_per_second=4)

    def _key(self, job: SeedJob) -> tuple[str, int]:
        """(arm, seed); the arm is empty where there is only one run."""
        arm = job.run_folder.name if self.arms else ""
        return arm, job.seed

    def _all_left(self) -> str:
        """The time to the end of all jobs, as 1:23:45, at the rate of those that run now; between two jobs at the last
        rate that was known. A job takes as long as another, whatever its budget. Empty where that is not known."""
        rates = [rate / row.budget for row in self.rows.values() if (rate := row.rate())]
        self.rate = sum(rates) or self.rate
        left = sum(row.share_left() for row in self.rows.values())
        if self.rate == 0 or left == 0:
            return ""
        return as_clock(left / self.rate)

    def __enter__(self) -> "Board":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def update(self, job: SeedJob, event: Event) -> None:
        """Take an event of a job: the table shows it, or a line is printed where it is news."""
        row = self.rows[self._key(job)]
        row.take(event)
        if self.live:
            return
        now = time.monotonic()
        is_news = event.kind != "progress" or event.text != ""
        if is_news or now - row.said > QUIET:
            row.said = now
            say(self._line(job, event, row))

    def _line(self, job: SeedJob, event: Event, row: Row) -> str:
        arm, seed = self._key(job)
        name = f"{arm} seed {seed}".strip()
        if len(self.rows) > 1:
            place = list(self.rows).index((arm, seed)) + 1
            name += f" ({place} of {len(self.rows)})"
        parts = [name, f"{row.step:>11,}/{row.budget:,} {self.unit}"]
        if row.total is not None:
            parts.append(f"return {tenths(row.total)}")
        rate = row.rate()
        if rate:
            digits = 0 if rate >= 10 else 2
            parts.append(f"{rate:,.{digits}f}/s, {row.left()} left")
        everything = self._all_left()
        if everything and len(self.rows) > 1:
            parts.append(f"all {len(self.rows)}: {everything} left")
        if event.kind in ("done", "failed", "warning"):
            parts.append(event.kind)
        if row.note:
            parts.append(row.note)
        return "  ".join(parts)

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        if self.arms:
            table.add_column("arm")
        table.add_column("seed")
        table.add_column("status")
        table.add_column(self.unit, justify="right")
        table.add_column("")
        for name in ("return", "per second", "left"):
            table.add_column(name, justify="right")
        table.add_column("")
        room = max(1, self.console.height - AROUND)
        for (arm, seed), row in self._shown(room):
            cells = [str(seed), *_cells(row)]
            if self.arms:
                cells.insert(0, escape(arm))
            table.add_row(*cells)
        if len(self.rows) > 1:
            cells = ["all", *self._total()]
            table.add_row(*cells[:1], *[""] * self.arms, *cells[1:], style="bold")
        return table

    def _total(self) -> list[str]:
        """What the table says of all jobs: how many are done, how far they are together, and the time left."""
        count = len(self.rows)
        done = sum(row.status == "done" for row in self.rows.values())
        reached = sum(min(1.0, row.step / row.budget) for row in self.rows.values()) / count
        filled = int(BAR * reached)
        bar = "━" * filled + "[dim]" + "━" * (BAR - filled) + "[/]"
        return [f"{done} of {count} done", f"{reached:.0%}", bar, "", "", self._all_left(), ""]

    def _shown(self, room: int) -> list[tuple[tuple[str, int], Row]]:
        """The rows that there is room for, in their order; those first that somebody looks for."""
        rows = list(self.rows.items())
        if len(rows) <= room:
            return rows
        order = {status: place for place, status in enumerate(LOOKED_FOR)}
        wanted = sorted(range(len(rows)), key=lambda place: order.get(rows[place][1].status, len(order)))
        return [rows[place] for place in sorted(wanted[:room])]


def _cells(row: Row) -> list[str]:
    """What the table says of a job beside its name."""
    colour = COLOURS.get(row.status, "dim")
    filled = min(BAR, int(BAR * row.step / row.budget))
    rate = row.rate()
    return [
        f"[{colour}]{row.status}[/]",
        f"{row.step:,}/{row.budget:,}",
        "━" * filled + "[dim]" + "━" * (BAR - filled) + "[/]",
        "" if row.total is None else tenths(row.total),
        f"{rate:,.1f}" if rate else "",
        row.left(),
        escape(row.note),
    ]
