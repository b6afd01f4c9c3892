"""`rlexp check`: is my curve right? A run, or a file of anybody's curves, beside its reference.

Exit codes: 0 identical, matches or better; 1 worse; 3 cannot tell, unusual (one seed) or incomparable; 2 a mistake.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.cli.commands import add_columns, columns, print_json
from rlexp.util.errors import UserError, among, did_you_mean, nearest

if TYPE_CHECKING:
    from rlexp.report.sides import Side

CODES = {"identical": 0, "matches": 0, "better": 0, "worse": 1}
UNDECIDED = 3


def add(commands: Any) -> None:
    """Put the command on the `rlexp` command line."""
    c = commands.add_parser("check", help="is my curve right? runs or files of curves beside a reference")
    c.add_argument(
        "places",
        nargs="+",
        metavar="RUN|FILE|ENTRY",
        help="run folders, anybody's files of curves, entries of the gallery; several are seeds of one experiment",
    )
    c.add_argument(
        "--reference",
        metavar="ENTRY|RUN|FILE",
        help="what to compare with (default: the gallery's entry with the run's settings)",
    )
    add_columns(c)
    c.add_argument("--json", action="store_true", help="print JSON")
    c.set_defaults(run=check)


def check(args: argparse.Namespace) -> int:
    """Say the verdict, or one JSON object."""
    from rlexp.report import verdict_text
    from rlexp.report.judge import judge

    run = _run(args)
    reference = _reference(args, run)
    judged = judge(run, reference)
    if args.json:
        print_json(judged.facts())
    else:
        print(verdict_text.headline(judged))
        for line in verdict_text.details(judged):
            print(f"- {line}")
    return CODES.get(judged.word, UNDECIDED)


def _run(args: argparse.Namespace) -> "Side":
    """What is to be judged, its seeds together."""
    from rlexp.report.references import entries
    from rlexp.report.sides import of_entry, pooled

    known = entries()
    of_gallery = {place: entry for place in args.places if (entry := _entry(place, known)) is not None}
    others = [Path(place) for place in args.places if place not in of_gallery]
    for place in others:
        hint = did_you_mean(nearest(str(place), known))
        if hint and not place.exists():
            raise UserError(f"{place}: no run, no file, no entry of the gallery{hint}")
    folders = [place for place in others if _is_folder_of_ours(place)]
    files = [place for place in others if place not in folders]
    sides = [*map(of_entry, of_gallery.values()), *map(_of_folder, folders)]
    if files:
        sides.append(_of_files(files, args))
    return pooled(sides)


def _entry(place: str, known: dict[str, Path]) -> Path | None:
    """The csv of an entry of the gallery, by its name or where it lies; None of all else."""
    csv = Path(place).resolve()
    if csv in (file.resolve() for file in known.values()):
        return csv
    return None if Path(place).exists() else known.get(place)


def _is_folder_of_ours(place: Path) -> bool:
    return any((place / name).is_file() for name in ("run.json", "study.yaml", "config.yaml"))


def _of_folder(folder: Path) -> "Side":
    from rlexp.report.history import Run
    from rlexp.report.sides import of_run

    if (folder / "study.yaml").is_file():
        raise UserError(f"{folder}: is a study; check its arms, e.g. {folder}/<arm>")
    side = of_run(str(folder), Run.read(folder))
    if not side.lines:
        raise UserError(f"{folder}: has no evaluation yet")
    return side


def _of_files(files: list[Path], args: argparse.Namespace) -> "Side":
    from rlexp.report import sides

    return sides.of_files(files, **columns(args))


def _reference(args: argparse.Namespace, run: "Side") -> "Side":
    """What to compare with: named, or the nearest entry of the gallery."""
    from rlexp.report.references import reference_of
    from rlexp.report.sides import of_entry

    if args.reference is not None:
        return _named(args.reference, args)
    file = reference_of(run.about)
    if file is not None:
        return of_entry(file)
    if not run.about.get("config"):
        raise UserError(f"{run.name}: does not say what it is a curve of; name a --reference{_entries_for(run)}")
    from rlexp.report.naming import names

    what = " on ".join(names(run.about["config"]))
    raise UserError(f"{run.name}: the gallery has no entry of {what}; name a --reference, of the gallery or a run")


def _named(reference: str, args: argparse.Namespace) -> "Side":
    """The side that --reference names. Raises UserError."""
    from rlexp.report.references import entries
    from rlexp.report.sides import of_entry

    known = entries()
    entry = _entry(reference, known)
    if entry is not None:
        return of_entry(entry)
    place = Path(reference)
    if _is_folder_of_ours(place):
        return _of_folder(place)
    if place.exists():
        return _of_files([place], args)
    hint = did_you_mean(nearest(reference, known))
    raise UserError(f"--reference {reference}: no entry of the gallery, no run, no file{hint}")


def _entries_for(run: "Side") -> str:
    """Entries of the environment that a file names, or else of any."""
    from rlexp.report.references import card, entries

    env = run.about.get("env")
    known = entries()
    fitting = [name for name, file in known.items() if (card(file).get("config") or {}).get("env", {}).get("id") == env]
    if env and fitting:
        return f"; of {env} there are {', '.join(fitting)}"
    return f"; there are {among(known)}"
