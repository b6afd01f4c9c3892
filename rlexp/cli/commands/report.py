"""`rlexp report`: one HTML file with everything that runs have to show, to hand in or to send."""

import argparse
import functools
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.util.errors import UserError

if TYPE_CHECKING:
    from rlexp.report.page.build import Difference, Page, Shown

MANY = 50  # runs, from which on only the best have sections
SECTIONS = 16


def add(commands: Any) -> None:
    """Add `report` to the parser's commands."""
    about = "one HTML file of runs, studies, sweeps or the gallery: curves that zoom, tables, films"
    parser = commands.add_parser("report", help=about)
    parser.add_argument("folder", type=Path, nargs="*", metavar="RUN", help="run, study or sweep folders")
    parser.add_argument("--gallery", action="store_true", help="the reference curves instead of runs")
    what = "file to write (default: report.html in the folder, of several in this one)"
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help=what)
    parser.add_argument(
        "--films",
        choices=("best", "all", "none"),
        default="best",
        help="of each seed (default best)",
    )
    parser.set_defaults(run=report)


def report(args: argparse.Namespace) -> int:
    """Write the page, and print where it is."""
    file = _output(args)
    _check(args.folder)
    from rlexp.report.page.build import Page

    if args.gallery:
        page = Page("Reference curves", args.films)
        _gallery(page)
    else:
        page = Page(", ".join(place.resolve().name for place in args.folder), args.films)
        _runs(page, args.folder)
    page.write(file)
    print(f"{file} ({file.stat().st_size / 1e6:.1f} MB)")
    return 0


def _output(args: argparse.Namespace) -> Path:
    """Where the page goes. Raises UserError for what cannot be asked for."""
    if args.gallery == bool(args.folder):
        raise UserError("rlexp report: name run, study or sweep folders, or --gallery")
    file = args.output
    if file is None:
        file = Path("report.html")
        if len(args.folder) == 1:
            file = args.folder[0] / file
    if file.suffix != ".html":
        raise UserError(f"--output: {file} must end in .html")
    if args.output and not file.parent.is_dir():
        raise UserError(f"--output: there is no folder {file.parent}")
    return file


def _check(places: list[Path]) -> None:
    """Raises UserError for what is no run, before what draws is imported."""
    from rlexp.report.history import folders

    for place in places:
        folders(place)


def _gallery(page: "Page") -> None:
    from rlexp.report.references import Entry, entries

    for file in entries().values():
        page.entry(Entry.read(file))


def _runs(page: "Page", places: list[Path]) -> None:
    """A study's or sweep's runs first together, then folded each; a single run's section stands open."""
    from rlexp.report import sweeps
    from rlexp.report.history import folders
    from rlexp.report.records import read_study

    shown = []
    for place in places:
        shown.append([_shown(name, folder) for name, folder in folders(place).items()])
    every = [one for runs in shown for one in runs]
    several = len(every) > 1
    drawn = _best(every) if len(every) > MANY else every
    for place, runs in zip(places, shown, strict=True):
        if (place / "study.yaml").is_file():
            study = read_study(place)
            if sweeps.keys(study):
                pictures = [place / "tuning.png"] if (place / "tuning.png").is_file() else []
                page.sweep(f"{study['title']}", study, [one.run.record for one in runs], pictures)
    if several:
        study = _study(places)
        title = study.get("title", "All runs")
        if sweeps.keys(study):
            title += ": curves"  # the sweep's own section has its name
        page.together(title, every, drawn, study.get("metric", "eval/return_mean"))
    for one in drawn:
        page.run(_whole(one), folded=several)


def _study(places: list[Path]) -> dict[str, Any]:
    """The study that is all that is shown; else nothing."""
    from rlexp.report.records import read_study

    if len(places) == 1 and (places[0] / "study.yaml").is_file():
        return read_study(places[0])
    return {}


def _best(runs: "list[Shown]") -> "list[Shown]":
    """The few with the highest final returns, in their order."""

    def final(one: "Shown") -> float:
        return float(one.run.record["final"].get("return_mean", {}).get("mean", -math.inf))

    kept = {one.folder for one in sorted(runs, key=final, reverse=True)[:SECTIONS]}
    return [one for one in runs if one.folder in kept]


@functools.cache
def _usual(algorithm: str, environment: str, env_id: str) -> dict[str, Any]:
    """All options by dotted key, as `algo=... env=...` alone would give them, with the id where it must be named.
    Raises whatever is wrong with that."""
    from rlexp.experiment.compose import compose
    from rlexp.experiment.config import build
    from rlexp.util.configs import choices
    from rlexp.util.params import flat

    words = [f"algo={algorithm}", f"env={environment}"]
    if environment not in choices("env"):
        words[1:] = ["env=gym", f"env.id={env_id}"]
    return flat(build(compose(words)).plain)


def _shown(name: str, folder: Path) -> "Shown":
    """A run without what takes a while to find."""
    from rlexp.report.history import Run
    from rlexp.report.page.build import Shown

    return Shown(name, folder, Run.read(folder), reference=None, differences=None)


def _whole(shown: "Shown") -> "Shown":
    from rlexp.report.references import entry_of

    run = shown.run
    return replace(shown, reference=entry_of(run.about), differences=_differences(run.config))


def _differences(config: dict[str, Any]) -> "list[Difference] | None":
    """Options whose value is not what `algo=... env=...` alone would give; None where that cannot be said."""
    from rlexp.report.naming import names
    from rlexp.util.params import flat

    try:
        usual = _usual(*names(config), config["env"]["id"])
    except Exception:  # an algorithm of a plugin that is not installed, a key of before
        return None
    here = flat(config)
    found = []
    for key, value in here.items():
        if key.split(".")[0] in ("resume", "runs", "reference"):
            continue
        if usual.get(key) != value:
            found.append((key, usual.get(key, "–"), value))
    return found
