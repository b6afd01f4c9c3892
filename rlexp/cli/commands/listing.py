"""`rlexp list`: runs with their scores and verdicts, a sweep in one line; filtered, sorted, the first of many.

Only what is shown is read: of each run its run.json. There is no index that could be wrong.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rlexp.cli.commands import print_json
from rlexp.report.words import phrase, tenths
from rlexp.util.errors import UserError, did_you_mean, nearest

LIMIT = 50  # lines, unless others are asked for
SORTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "date": lambda run: run["started"],
    "score": lambda run: (_or_least(run["score"]), _or_least(run["return_mean"])),
    "return": lambda run: _or_least(run["return_mean"]),
    "name": lambda run: run["run"],
}


def _or_least(value: float | None) -> float:
    return -math.inf if value is None else value


def add(commands: Any) -> None:
    """Add `list` to the parser's commands."""
    ls = commands.add_parser("list", help="runs and sweeps with their scores")
    ls.add_argument("folder", nargs="?", default="runs", help="where to look (default runs); a sweep: its combinations")
    ls.add_argument("--algo", help="only runs of this algorithm")
    ls.add_argument("--env", help="only runs on this environment")
    ls.add_argument("--sort", choices=tuple(SORTS), default="date", help="newest (default), best, or in order of names")
    how_many = ls.add_mutually_exclusive_group()
    how_many.add_argument("--limit", type=int, metavar="N", help=f"lines shown (default {LIMIT}; of --json all)")
    how_many.add_argument("--all", action="store_true", help="show every line")
    ls.add_argument("--json", action="store_true", help="print JSON")
    ls.set_defaults(run=list_runs)


def list_runs(args: argparse.Namespace) -> int:
    """A line for each run and sweep below a folder, or one JSON list; a warning for each whose record is broken."""
    root = Path(args.folder)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit: must be ≥ 1, not {args.limit}")
    found = []
    named: dict[str, set[str]] = {"algo": set(), "env": set()}  # what there is, for a name that nothing has
    for place in _places(root, inside=True):
        try:
            found += _facts(place, {"algo": args.algo, "env": args.env}, named)
        except UserError as error:  # one bad folder: the others are listed
            print(f"warning: {error}", file=sys.stderr)
    for key, known in named.items():
        wanted = getattr(args, key)
        if wanted is not None and wanted not in known:
            hint = did_you_mean(nearest(wanted, sorted(known)))
            raise UserError(f"--{key} {wanted}: no run in {root} is of that{hint}")
    found.sort(key=lambda run: run["run"])
    if args.sort != "name":
        found.sort(key=SORTS[args.sort], reverse=True)
    limit = args.limit
    if limit is None and not args.all and not args.json:
        limit = LIMIT
    shown = found[:limit]
    if args.json:
        print_json(shown)
        return 0
    width = max([len(run["run"]) for run in shown], default=3)
    print(f"{'run':{width}}  done   return mean (95 % t-interval)   score  verdict")
    for run in shown:
        print(_line(run, width))
    if len(shown) < len(found):
        print(f"{len(found) - len(shown):,} more; --all shows them")
    return 0


def _places(folder: Path, inside: bool = False) -> Iterator[Path]:
    """The runs and sweeps below `folder`. What lies in a run's folder is not looked into; with `inside`, what lies in a
    sweep's is."""
    names = set(os.listdir(folder))
    if "run.json" in names:
        yield folder
        return
    if "study.yaml" in names and not inside and _is_sweep(folder / "study.yaml"):
        yield folder
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _places(folder / entry.name)


def _is_sweep(file: Path) -> bool:
    """Whether a study is a sweep, told without reading yaml, which takes a while."""
    return "\nsweep:" in file.read_text(encoding="utf-8", errors="replace")


def _facts(place: Path, wanted: dict[str, str | None], named: dict[str, set[str]]) -> list[dict[str, Any]]:
    """What the list says of a run, or of a sweep by those of its runs that are wanted. Raises UserError."""
    from rlexp.report.records import read_record, read_study  # nothing of it needs torch

    if (place / "run.json").is_file():
        record = read_record(place)
        return [_of_run(place, record)] if _fits(place, record, wanted, named) else []
    study = read_study(place)
    kept = {}
    for arm, words in study["arms"].items():
        if (place / arm / "run.json").is_file():
            record = read_record(place / arm)
            if _fits(place / arm, record, wanted, named):
                kept[arm] = (words, record)
    return [_of_sweep(place, study, kept)] if kept else []


def _fits(place: Path, record: dict[str, Any], wanted: dict[str, str | None], named: dict[str, set[str]]) -> bool:
    """Whether a run is of the wanted algorithm and environment; remembers what it is of."""
    if not any(wanted.values()):
        return True
    known = {key: record.get(key) for key in wanted}
    if None in known.values():  # a record of before it said so
        from rlexp.report.naming import names
        from rlexp.report.records import read_config

        known = dict(zip(("algo", "env"), names(read_config(place)), strict=True))
    for key, name in known.items():
        named[key].add(str(name))
    return all(name is None or known[key] == name for key, name in wanted.items())


def _of_run(place: Path, record: dict[str, Any]) -> dict[str, Any]:
    states = [facts["status"] for facts in record["seeds"].values()]
    final = record["final"]
    returns = final.get("return_mean") or {}
    verdict = record.get("verdict") or {}
    return {
        "run": str(place),
        "started": record.get("started", ""),
        "seeds": len(states),
        "done": states.count("done"),
        "failed": states.count("failed"),
        "return_mean": returns.get("mean"),
        "t95": returns.get("t95"),
        "score": (final.get("score") or {}).get("mean"),
        "verdict": verdict.get("verdict"),
        "reference": verdict.get("reference"),
    }


def _of_sweep(place: Path, study: dict[str, Any], kept: dict[str, tuple[list[str], dict[str, Any]]]) -> dict[str, Any]:
    """A sweep as a run: the seeds of all its combinations, and how the best came out, where there is one best."""
    from rlexp.report import sweeps

    records = [record for _, record in kept.values()]
    runs = [_of_run(place / arm, record) for arm, (_, record) in kept.items()]
    arms = sweeps.arms({**study, "arms": {arm: words for arm, (words, _) in kept.items()}}, records)
    best = sweeps.best(arms)
    facts = {**dict.fromkeys(runs[0]), "run": str(place), "started": min(run["started"] for run in runs)}
    facts |= {key: sum(run[key] for run in runs) for key in ("seeds", "done", "failed")}
    if len(best) == 1:  # on several environments each has its own
        facts |= {"return_mean": best[0].mean, "t95": best[0].half, "score": best[0].score}
    return {**facts, "sweep": sweeps.keys(study), "combinations": len(arms), "best": [arm.said for arm in best]}


def _line(run: dict[str, Any], width: int) -> str:
    total = ""
    if run["return_mean"] is not None:
        total = tenths(run["return_mean"])
    if run["t95"]:
        total += f" ± {tenths(run['t95'])}"
    if run["t95"] == 0:
        total = f"all {total}"
    score = ""
    if run["score"] is not None:
        score = tenths(run["score"])
    done = f"{run['done']}/{run['seeds']}"
    line = f"{run['run']:{width}}  {done:5}  {total:28}  {score:>5}"
    if run["verdict"]:
        line += f"  {phrase(run['verdict'], run['reference'])}"
    if "sweep" in run:
        line += f"  sweep of {run['combinations']}"
        if run["best"] and run["sweep"]:
            line += f"; best: {', '.join(run['best'])}"
    if run["failed"]:
        line += f"  {run['failed']} failed"
    return line
