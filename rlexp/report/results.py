"""README's table of what the commands reach, from the gallery's cards: `rlexp results`. conf/results.yaml chooses."""

from dataclasses import dataclass

from rlexp.report.measured import Measured, at_end
from rlexp.report.references import Entry, entries
from rlexp.report.words import with_interval
from rlexp.util import paths, stats
from rlexp.util.errors import UserError
from rlexp.util.files import read_yaml

HEAD = "| command | | seeds | mean | of each seed | of | beside |\n|---|---|---|---|---|---|---|"
SHOWN = 5  # seeds whose numbers are all listed; of more, the least and the largest


@dataclass(frozen=True)
class Result:
    """A row: an entry and its number at the end."""

    name: str
    command: str
    about: str
    beside: str
    metric: str
    found: Measured
    failed: int  # seeds that are not done


def results() -> list[Result]:
    """The rows of conf/results.yaml, in its order. Raises UserError for one that is no entry of the gallery."""
    known = entries()
    rows = []
    for name, facts in read_yaml(paths.CONF / "results.yaml").items():
        if name not in known:
            raise UserError(f"conf/results.yaml: {name} is no entry of the gallery")
        entry = Entry.read(known[name])
        metric = facts.get("metric", "return_mean")
        found = at_end(entry, metric)
        failed = len(entry.card["seeds"]) - len(found.values)
        about, beside = facts["about"], facts.get("beside", "")
        rows.append(Result(name, entry.card["command"], about, beside, metric, found, failed))
    return rows


def markdown(rows: list[Result]) -> str:
    """The table, as README has it."""
    return "\n".join([HEAD, *map(_row, rows)])


def _row(row: Result) -> str:
    seeds = str(len(row.found.values))
    if row.failed:
        seeds += f", and {row.failed} failed"
    cells = [f"`{row.command}`", row.about, seeds, mean(row.found), each(row.found), played(row.found), row.beside]
    return f"| {' | '.join(cells)} |"


def mean(found: Measured) -> str:
    """With its 95 % t-interval over seeds, where there are several."""
    middle, half = stats.t_interval(list(found.values.values()))
    return with_interval(middle, half)


def each(found: Measured) -> str:
    """The seeds' numbers, or from the least to the largest."""
    values = list(found.values.values())
    if len(values) <= SHOWN:
        return ", ".join(f"{value:.4g}" for value in values)
    return f"{min(values):.4g} to {max(values):.4g}"


def played(found: Measured) -> str:
    """What each seed's number is the mean of."""
    kind = "fresh episodes" if found.is_fresh else "episodes of the last evaluation"
    return f"{found.episodes} {kind}, {found.actions} actions"
