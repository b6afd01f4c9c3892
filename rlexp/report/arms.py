"""What can stand side by side: runs, the arms of a study, entries of the gallery, anybody's files of curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlexp.report import foreign
from rlexp.report.history import Run, folders
from rlexp.report.lines import Line
from rlexp.report.references import Entry, entries
from rlexp.report.sides import require_no_runs
from rlexp.util.errors import UserError, did_you_mean, nearest

COUNTERS = ("step", "env_steps", "updates")
Columns = Mapping[str, str | None]  # step, value, seed: of a foreign file, where the names are not usual ones


def read(place: str, columns: Columns) -> dict[str, Run]:
    """The runs that `place` stands for, by what they are called in a picture. Raises UserError for what is none."""
    path = Path(place)
    if (path / "study.yaml").is_file() or (path / "run.json").is_file():
        return {name: Run.read(folder) for name, folder in folders(path).items()}
    known = entries()
    if place in known:
        return {place: of_entry(Entry.read(known[place]))}
    require_no_runs(path)
    if foreign.is_foreign(path):
        return {path.name if path.is_dir() else path.stem: of_curves(foreign.read(path, **columns))}
    hint = did_you_mean(nearest(place, known))
    raise UserError(f"{place}: no run or study folder, entry of the gallery, or file of curves{hint}")


def of_entry(entry: Entry) -> Run:
    """An entry as a run whose rows are its evaluations."""
    rows: dict[str, list[dict[str, Any]]] = {seed: [] for seed in entry.card["seeds"]}
    for cells in entry.rows:
        row = {_metric(name): float(cell) for name, cell in cells.items() if name != "seed" and cell}
        rows[cells["seed"]].append(row)
    return Run(entry.card.get("config") or {}, {**entry.card, "seeds": _with_finals(entry.card["seeds"], rows)}, rows)


def of_curves(curves: foreign.Curves) -> Run:
    """Somebody's curves as a run. What they count their steps in stands for all clocks."""
    rows = {seed: _rows(line) for seed, line in curves.lines.items()}
    seeds = _with_finals({seed: {"status": "done"} for seed in rows}, rows)
    config = {"env": {"id": curves.env}} if curves.env else {}
    record = {"clock": curves.clock or "env_steps", "seeds": seeds, "training": curves.evaluation is False}
    return Run(config, record, rows)


def _rows(line: Line) -> list[dict[str, Any]]:
    found = []
    for x, y in zip(*line, strict=True):
        found.append({**dict.fromkeys(COUNTERS, float(x)), "eval/return_mean": float(y)})
    return found


def _metric(column: str) -> str:
    """The metric that a column of curve.csv holds: `eval/score` of `score`."""
    is_metric = column not in (*COUNTERS, "seconds") and "/" not in column
    return f"eval/{column}" if is_metric else column


def _with_finals(seeds: Mapping[str, Any], rows: Mapping[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The seeds' facts, each with the last evaluation as final score where it has none."""
    found = {}
    for seed, facts in seeds.items():
        final = {}
        if rows[seed]:
            final = {name.removeprefix("eval/"): value for name, value in rows[seed][-1].items() if "eval/" in name}
        found[seed] = {"final": final, **facts}
    return found
