"""`rlexp track`: give a run's rows, config, films and pictures to W&B, MLflow, Trackio, TensorBoard, ... afterwards.

Done again, it adds what has come since and nothing twice: after training with that logger, after a run without a
network, and again when the run has gone on.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add `track` to the parser's commands."""
    t = commands.add_parser("track", help="give finished runs to a logger, such as wandb or mlflow")
    t.add_argument("folder", type=Path, nargs="+", help="run folders; a study's folder stands for its arms")
    t.add_argument("--to", required=True, metavar="NAME", help="a logger: tensorboard, wandb, mlflow, trackio, ...")
    t.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of the logger, as in conf/logger/NAME.yaml; may be given several times",
    )
    t.add_argument("--json", action="store_true", help="print JSON")
    t.set_defaults(run=track)


def track(args: argparse.Namespace) -> int:
    from rlexp.experiment.track import logger_named, track
    from rlexp.report.history import folders

    logger = logger_named(args.to, args.option)
    runs = [run for folder in args.folder for run in folders(folder).values()]
    found = []
    for run in runs:
        for seed in track(run, logger):
            found.append({**asdict(seed), "folder": str(seed.folder)})
            if not args.json:
                print(
                    f"{seed.folder}: {seed.new_rows} new rows of {seed.rows}, {seed.films} films, "
                    f"{seed.pictures} pictures"
                )
    if args.json:
        print(json.dumps({"to": args.to, "seeds": found}, indent=2))
    return 0
