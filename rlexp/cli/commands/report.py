"""`rlexp report`: one HTML file with everything that runs have to show, to hand in or to send."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.util.errors import UserError

if TYPE_CHECKING:
    from rlexp.report.page.build import Difference, Page, Shown


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
        choices=("last", "all", "none"),
        default="last",
        help="of each seed (default last)",
    )
    parser.set_defaults(run=report)


def report(args: argparse.Namespace) -> int:
    """Write the page, and print where it is."""
    from rlexp.report.page.build import Page

    file = _output(args)
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
    several = sum(len(runs) for runs in shown) > 1
    for place, runs in zip(places, shown, strict=True):
        if (place / "study.yaml").is_file():
            study = read_study(place)
            if sweeps.keys(study):
                page.sweep(f"{study['title']}", study, [one.run.record for one in runs])
    if several:
        page.together("All runs", [one for runs in shown for one in runs])
    for runs in shown:
        for one in runs:
            page.run(one, folded=several)


def _shown(name: str, folder: Path) -> "Shown":
    from rlexp.report.history import Run
    from rlexp.report.page.build import Shown
    from rlexp.report.references import entry_of

    run = Run.read(folder)
    return Shown(name, folder, run, entry_of(run.about), _differences(run.config))


def _differences(config: dict[str, Any]) -> "list[Difference] | None":
    """Options whose value is not what `algo=... env=...` alone would give; None where that cannot be said."""
    from rlexp.experiment.compose import compose
    from rlexp.experiment.config import build
    from rlexp.report.naming import names
    from rlexp.util.configs import choices
    from rlexp.util.params import flat

    algorithm, environment = names(config)
    words = [f"algo={algorithm}", f"env={environment}"]
    if environment not in choices("env"):
        words[1] = "env=gym"
    try:
        default = build(compose(words)).plain
    except Exception:  # an algorithm of a plugin that is not installed, a key of before
        return None
    usual = flat(default)
    here = flat(config)
    found = []
    for key, value in here.items():
        if key.split(".")[0] in ("resume", "runs", "reference"):
            continue
        if usual.get(key) != value:
            found.append((key, usual.get(key, "–"), value))
    return found
