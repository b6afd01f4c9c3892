"""`rlexp refresh`: what is derived from the seeds' files, made again."""

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add `refresh` to the parser's commands."""
    about = "make run.json, tables and curves of runs again, from their seeds' files"
    parser = commands.add_parser("refresh", help=about)
    parser.add_argument("folders", nargs="+", metavar="RUN", help="run or study folders")
    parser.set_defaults(run=refresh)


def refresh(args: argparse.Namespace) -> int:
    """Runs that are still going on are brought up to date, and go on."""
    from rlexp.experiment.folder import Folder
    from rlexp.experiment.study_table import write

    places = [Path(folder) for folder in args.folders]
    runs = {place: [Folder.open(run) for run in _runs(place)] for place in places}
    for place, opened in runs.items():
        for folder in opened:
            folder.refresh(draw=True)
        if (place / "study.yaml").is_file():
            write(place, [folder.record for folder in runs[place]])
        print(place)
    return 0


def _runs(place: Path) -> list[Path]:
    """The run folders that `place` stands for. A run is known by its config: run.json may be what is to be made."""
    from rlexp.report.history import folders

    if (place / "config.yaml").is_file():
        return [place]
    return list(folders(place).values())
