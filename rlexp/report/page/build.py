"""What the page says of runs, studies, sweeps and the gallery's entries."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from rlexp.report import sweeps
from rlexp.report.history import Run
from rlexp.report.judge import of_run
from rlexp.report.lines import moves, smoothed
from rlexp.report.naming import data_of, title
from rlexp.report.page.charts import Charts, Group, library
from rlexp.report.references import Entry
from rlexp.report.style import CLOCKS, GREY, nth_colour
from rlexp.report.verdict_text import details, headline
from rlexp.report.words import count, duration, spoken
from rlexp.util import stats
from rlexp.util.checkpoint import write_text

Difference = tuple[str, Any, Any]  # key, default, the run's

FINAL = {
    "return_mean": "return mean",
    "return_std": "std",
    "return_min": "min",
    "return_max": "max",
    "score": "score",
    "success_rate": "success",
}


@dataclass
class Table:
    """Rows of cells; all but the first column are numbers."""

    head: list[str]
    rows: list[list[str]]


@dataclass
class Section:
    """What stands below one heading."""

    title: str
    anchor: str
    command: str = ""
    verdict: str = ""
    remarks: list[str] = field(default_factory=list)  # what belongs beneath the verdict
    note: str = ""
    chart: str = ""
    small: list[str] = field(default_factory=list)
    table: Table | None = None
    messages: list[str] = field(default_factory=list)
    differences: list[Difference] | None = None  # None: unknown
    provenance: list[tuple[str, str]] = field(default_factory=list)
    films: list[tuple[str, str]] = field(default_factory=list)  # caption, data: address
    pictures: list[tuple[str, str]] = field(default_factory=list)
    folded: bool = False


@dataclass(frozen=True)
class Shown:
    """A run to be shown."""

    name: str
    folder: Path
    run: Run
    reference: Entry | None
    differences: list[Difference] | None


class Page:
    """A page, section by section."""

    def __init__(self, heading: str, films: str = "best"):
        """films: `best` of each seed, `all` or `none`."""
        self.heading = heading
        self.films = films
        self.charts = Charts()
        self.sections: list[Section] = []

    def together(
        self, name: str, runs: Sequence[Shown], drawn: Sequence[Shown], metric: str = "eval/return_mean"
    ) -> None:
        """A section on several runs: one chart of those that are `drawn`, one table of all."""
        groups = []
        rows = []
        places = {shown.folder for shown in drawn}
        clocks = {shown.run.clock for shown in runs}
        clock = "env_steps"  # what all algorithms count
        if len(clocks) == 1:
            clock = clocks.pop()
        for place, shown in enumerate(runs):
            lines = shown.run.lines(metric, clock)
            averaged = shown.run.averaged(lines)
            if lines and shown.folder in places:
                groups.append(Group(shown.name, {} if len(averaged) > 1 else lines, nth_colour(place), averaged))
            rows.append([shown.name, *_total(shown.run, metric)])
        section = Section(name, f"together-{len(self.sections)}")
        if groups:
            section.chart = self.charts.add(groups, CLOCKS[clock], spoken(metric))
        if len(drawn) < len(runs):
            section.note = f"Of {len(runs)} runs the {len(drawn)} with the highest returns are drawn, and shown below."
        section.table = Table(["run", "seeds", "mean", "95 % t-interval", "min", "max"], rows)
        self.sections.append(section)

    def sweep(
        self, name: str, study: Mapping[str, Any], records: Sequence[Mapping[str, Any]], pictures: Sequence[Path] = ()
    ) -> None:
        """A section on what a sweep's options did: parallel coordinates, the table with the best marked, `pictures`."""
        arms = sweeps.arms(study, records)
        best = sweeps.best(arms)
        metric = spoken(study["metric"])
        section = Section(name, f"sweep-{len(self.sections)}", command=records[0].get("command", ""))
        section.chart = self.charts.add_coordinates(arms, metric)
        section.note = "A line is a combination of options, the brighter the better; ★ is the highest mean"
        section.note += " on each environment." if len(best) > 1 else "."
        rows = []
        for arm in arms:
            mark = "★" if arm in best else ""
            interval = ""
            if arm.half is not None:
                interval = f"{_number(arm.mean - arm.half)} to {_number(arm.mean + arm.half)}"
            mean = _number(arm.mean) if arm.values else ""
            rows.append([mark, mean, interval, str(len(arm.values)), arm.missing, *arm.options.values()])
        head = ["best", metric, "95 % t-interval", "seeds", "not finished"]  # first, as options may be many
        section.table = Table([*head, *sweeps.keys(study)], rows)
        section.pictures = [(file.name, _address(file, "image/png")) for file in pictures]
        self.sections.append(section)

    def run(self, shown: Shown, *, folded: bool = False) -> None:
        """A section on one run."""
        run = shown.run
        record = run.record
        name = f"{shown.name}: {title(run)}" if folded else title(run)
        section = Section(name, f"run-{len(self.sections)}", folded=folded)
        section.command = record["command"]
        judged = of_run(shown.name, run)
        if judged is not None:
            section.verdict = headline(judged)
            section.remarks = details(judged)
        kind = record["eval"]
        episodes = count(kind["episodes"], "episode")
        points = f"{episodes} a point with {kind['actions']} actions, n = {len(run.rows)}."
        section.note = f"{points} {_what_means_are_of(run)}".strip()
        section.chart = self._returns(shown)
        section.small = self._losses(shown, share=section.chart)
        section.table = _seeds(record)
        section.messages = [f"seed {seed}: {one['message']}" for seed, one in record["seeds"].items() if one["message"]]
        section.differences = shown.differences
        section.provenance = _provenance(shown)
        section.films = self._films(shown)
        section.pictures = [
            (file.name, _address(file, "image/png"))
            for file in sorted(shown.folder.glob("*.png"))
            if file.name != "curves.png"  # the charts are these, and more
        ]
        self.sections.append(section)

    def entry(self, entry: Entry) -> None:
        """A section on a reference curve."""
        card = entry.card
        section = Section(entry.name, f"entry-{entry.name}")
        section.command = card.get("command", "")
        lines = entry.lines("return_mean", card["clock"])
        averaged = list(lines.values())
        actions = card["eval"]["actions"]
        section.note = f"{count(card['eval']['episodes'], 'episode')} a point with {actions} actions, n = {len(lines)}."
        groups = [Group(entry.name, lines, nth_colour(0), averaged)]
        section.chart = self.charts.add(groups, CLOCKS[card["clock"]], "evaluation return", height=300)
        self.sections.append(section)

    def _returns(self, shown: Shown) -> str:
        run = shown.run
        lines = run.lines("eval/return_mean")
        groups = []
        if shown.reference is not None:
            known = shown.reference.lines("return_mean", run.clock)
            name = f"gallery {shown.reference.name}"
            groups.append(Group(name, known, GREY, list(known.values()), reference=True))
        if lines:
            groups.append(Group("this run", lines, nth_colour(0), run.averaged(lines)))
        if not groups:
            return ""
        return self.charts.add(groups, CLOCKS[run.clock], "evaluation return")

    def _losses(self, shown: Shown, share: str) -> list[str]:
        run = shown.run
        charts = []
        for metric in run.metrics("loss/"):
            lines = run.lines(metric)
            if moves(lines.values()):
                averaged = [smoothed(line) for line in run.averaged(lines)]
                groups = [Group("this run", lines, nth_colour(0), averaged)]
                chart = self.charts.add(
                    groups,
                    CLOCKS[run.clock],
                    "loss",
                    title=spoken(metric),
                    height=230,
                    share=share,
                )
                charts.append(chart)
        return charts

    def _films(self, shown: Shown) -> list[tuple[str, str]]:
        found = []
        for seed in shown.run.rows:
            films = sorted((shown.folder / f"seed_{seed}" / "videos").glob("*.mp4"))
            if self.films == "none":
                films = []
            if self.films == "best":
                films = [film for film in films if film.stem.startswith(("best", "success"))] or films[:1]
            for film in films:
                found.append((f"seed {seed}, {film.stem.replace('_', ' ')}", _address(film, "video/mp4")))
        return found

    def write(self, file: Path) -> None:
        """Store the page; whoever looks while it is written sees the old one. Raises OSError."""
        script, charts = self.charts.embed()
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        text = environment.get_template("report.html").render(
            heading=self.heading,
            sections=self.sections,
            library=Markup(library()),
            script=Markup(script),
            charts={name: Markup(html) for name, html in charts.items()},
        )
        write_text(file, text)


def _what_means_are_of(run: Run) -> str:
    """Where seeds are left out of means, which ones are in."""
    done = sum(run.status(seed) == "done" for seed in run.rows)
    if done == len(run.rows):
        return ""
    if done > 1:
        return "Means are of seeds that are done."
    return "Until two seeds are done, means are of all that have not failed, as far as all of them have come."


def _seeds(record: Mapping[str, Any]) -> Table:
    """A row a seed, then the mean with its interval."""
    finals = {seed: one.get("final") or {} for seed, one in record["seeds"].items()}
    columns = [name for name in FINAL if any(name in final for final in finals.values())]
    rows = []
    for seed, one in record["seeds"].items():
        scores = [_number(finals[seed].get(name)) for name in columns]
        rows.append([seed, one["status"], f"{one['step']:,}", *scores])
    total = record.get("final", {})
    if total.get("n", 0) > 1:
        means = []
        for name in columns:
            cell = total.get(name) or {}
            text = _number(cell.get("mean"))
            if cell.get("t95"):
                text += f" ± {_number(cell['t95'])}"
            means.append(f"all {text}" if cell.get("t95") == 0 else text)
        rows.append([f"mean of {total['n']}, ± 95 % t-interval", "", "", *means])
    return Table(["seed", "status", record["clock"].replace("_", " "), *(FINAL[name] for name in columns)], rows)


def _total(run: Run, metric: str) -> list[str]:
    """Seeds, mean, interval, least and most of the last value of the seeds that are done."""
    lines = run.lines(metric)
    last = [float(y[-1]) for seed, (_, y) in lines.items() if run.status(seed) == "done"]
    seeds = str(len(last))
    missing = len(run.rows) - len(last)
    if missing:
        seeds += f" ({missing} not finished)"
    if not last:
        return [seeds, "", "", "", ""]
    mean, half = stats.t_interval(last)
    interval = ""
    if len(last) > 1:
        interval = f"{_number(mean - half)} to {_number(mean + half)}"
    return [seeds, _number(mean), interval, _number(min(last)), _number(max(last))]


def _provenance(shown: Shown) -> list[tuple[str, str]]:
    record = shown.run.record
    commit = record.get("commit") or "unknown"
    if record.get("dirty"):
        commit += ", with changes that are not committed"
    facts = {
        "run": shown.folder.name,
        "started": record.get("started", ""),
        "took": duration(record["seconds"]) if "seconds" in record else "",
        "commit": commit,
        "versions": ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items()),
        "machine": ", ".join(f"{name} {value}" for name, value in record.get("hardware", {}).items()),
        "data": data_of(shown.run.config) or "",
        "inputs": ", ".join(f"{name} {value}" for name, value in record.get("inputs", {}).items()),
    }
    return [(name, value) for name, value in facts.items() if value]


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _address(file: Path, kind: str) -> str:
    """The file's content, as a data: address."""
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"
