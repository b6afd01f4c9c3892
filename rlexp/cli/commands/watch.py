"""`rlexp watch`: the live table of a run that another process works on, from its files."""

import argparse
import time
from pathlib import Path
from typing import Any

LOOK_EVERY = 1.0  # s


def add(commands: Any) -> None:
    """Add `watch` to the parser's commands."""
    about = "look on at a run that another process or machine works on, until its seeds have ended"
    parser = commands.add_parser("watch", help=about)
    parser.add_argument("folder", metavar="RUN", help="run or study folder")
    parser.set_defaults(run=watch)


def watch(args: argparse.Namespace) -> int:
    """Changes nothing. Returns 1 where a seed has failed or was interrupted."""
    from rlexp.cli.progress import Board
    from rlexp.experiment.folder import Folder
    from rlexp.experiment.job import SeedJob
    from rlexp.report.history import folders

    place = Path(args.folder)
    opened = [Folder.open(run) for run in folders(place).values()]
    jobs = [SeedJob(folder.path.resolve(), seed) for folder in opened for seed in folder.config["seeds"]]
    budgets = {folder.path.resolve(): folder.config["train"]["budget"] for folder in opened}
    followers = [job.follow() for job in jobs]
    with Board(jobs, budgets, opened[0].clock, arms=(place / "study.yaml").is_file()) as board:
        while True:
            for job, follower in zip(jobs, followers, strict=True):
                for event in follower.news():
                    board.update(job, event)
            if all(follower.ended for follower in followers):
                break
            time.sleep(LOOK_EVERY)
    return int(any(follower.last != "done" for follower in followers))
