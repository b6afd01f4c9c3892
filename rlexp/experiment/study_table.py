"""The table of a study or a sweep: a row for each arm, and of a sweep which is best."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlexp.experiment import tables
from rlexp.report import sweeps
from rlexp.report.records import read_study
from rlexp.report.sweeps import Arm
from rlexp.report.words import tenths
from rlexp.util import checkpoint


def write(place: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Make what is derived of the arms in the study's folder: its table and its picture."""
    from rlexp.report.compare import study  # matplotlib takes a while to import

    checkpoint.write_text(place / "summary.md", summary(place.name, read_study(place), records))
    study(place)


def summary(name: str, study: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> str:
    """summary.md of a study, of what its study.yaml and the records of its arms, in that order, say."""
    metric = study["metric"].removeprefix("eval/")
    arms = sweeps.arms(study, records)
    keys = sweeps.keys(study)
    head = [*(keys or ["arm"]), "seeds", metric.replace("_", " "), "95 % t-interval", "min", "max"]
    scored = metric != "score" and any(arm.score is not None for arm in arms)
    if scored:
        head.append("score")
    head += ["not finished", "verdict"]
    best = sweeps.best(arms) if keys else []
    rows = [_row(arm, metric, scored, arm in best) for arm in arms]
    lines = [f"# {name}", "", f"`{records[0]['command']}`", "", _cells(head), "|---" * len(head) + "|", *rows]
    if best:
        lines += ["", *(_said_of_best(arm, arms) for arm in best)]
    return "\n".join(lines) + "\n"


def _row(arm: Arm, metric: str, scored: bool, best: bool) -> str:
    """An arm's row: how its seeds' final `metric` came out."""
    cells = [*(arm.options.values() or [arm.said]), str(len(arm.values))]
    cells += _numbers(arm, metric)
    if scored:
        cells.append("" if arm.score is None else tenths(arm.score))
    cells += [arm.missing, arm.verdict]
    if best:
        cells = [f"**{cell}**" if cell else "" for cell in cells]
    return _cells(cells)


def _numbers(arm: Arm, metric: str) -> list[str]:
    if not arm.values:
        return ["", "", "", ""]
    ends = ""
    if arm.half is not None:
        ends = tables.interval(metric, arm.mean, arm.half)
    return [f"{arm.mean:.4g}", ends, f"{min(arm.values):.4g}", f"{max(arm.values):.4g}"]


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _said_of_best(arm: Arm, arms: Sequence[Arm]) -> str:
    """That an arm is best of those on its environment, and how chosen that is."""
    others = [one for one in arms if one.env == arm.env and one.values]
    where = ""
    if len(others) < len(arms):
        where = f" on {arm.env}"
    text = f"Best{where}: {arm.said}, the highest mean of {len(others)}."
    if len(others) > 1:
        text += " Who is chosen by its number has had luck too: let fresh seeds confirm it."
    return text
