"""Reference curves that come with the project: gallery/<algo>_<env>[-<variant>].csv, .json and .png.

.csv holds the rows of the run's curve.csv, .json its card (command, commit, versions, every seed with its status and
final score), .png the picture. A new run of like settings is drawn over it.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlexp.loggers.jsonl import read
from rlexp.report import cloned
from rlexp.report.curves import curves
from rlexp.report.naming import names
from rlexp.report.records import read_config, read_record
from rlexp.report.references import Entry
from rlexp.util import paths, strict_json
from rlexp.util.errors import UserError

# What a card keeps of run.json, beside the seeds.
CARD = (
    "command",
    "resumed",
    "commit",
    "dirty",
    "versions",
    "hardware",
    "inputs",
    "started",
    "finished",
    "seconds",
    "clock",
    "eval",
    "final",
)


def publish(
    run_folder: Path,
    variant: str | None = None,
    *,
    replace: bool = False,
    played: Callable[[list[str]], dict[str, Any]] | None = None,
) -> Path:
    """Make a gallery entry of a run whose seeds have all ended; failed ones stay in it. Returns the csv.

    played: plays the last policies of the seeds that are done (`rlexp.report.played`), for the card; called once all
        else has been found to be in order

    Raises UserError for a folder that is no run, or whose seeds have not ended, and for an entry that is there already
    unless `replace`.
    """
    if (run_folder / "study.yaml").is_file():
        raise UserError(f"{run_folder}: is a study; publish its arms, e.g. {run_folder}/<arm>")
    if not (run_folder / "run.json").is_file():
        raise UserError(f"{run_folder}: no run folder (it has no run.json)")
    if variant is not None:
        check_name("--variant", variant)
    record = read_record(run_folder)
    _check_ended(run_folder, record)
    config = read_config(run_folder)
    gallery = paths.own_gallery()
    gallery.mkdir(exist_ok=True)
    name = "_".join(names(config))
    if variant:
        name += f"-{variant}"
    entry = gallery / f"{name}.csv"
    if entry.exists() and not replace:
        raise UserError(f"{entry}: is there already; --replace it, or give this one a --variant")
    facts = {key: record.get(key) for key in CARD}
    card = {"name": name, **facts, "seeds": record["seeds"], "config": config}
    done = [seed for seed, one in record["seeds"].items() if one["status"] == "done"]
    card["metrics"] = {seed: last_metrics(run_folder / f"seed_{seed}") for seed in done}
    clones = cloned.returns(run_folder)
    if clones:
        card["cloned"] = clones
    if played is not None:
        card["played"] = played(done)
    for left in gallery.glob(f".{name}.*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=gallery) as aside:
        made = Path(aside) / entry.name
        shutil.copyfile(run_folder / "curve.csv", made)
        write_card(made.with_suffix(".json"), card)
        Entry.read(made)  # whatever is wrong with it is found before it is there
        curves(run_folder, made.with_suffix(".png"), reference=False)
        move_whole(made, entry)
    return entry


def last_metrics(seed_folder: Path) -> dict[str, float]:
    """The last number of each metric of a seed's training, evaluations aside, by its name."""
    found: dict[str, float] = {}
    for row in read(seed_folder / "metrics.jsonl"):
        found |= {name: value for name, value in row.items() if "/" in name and not name.startswith("eval/")}
    return found


def move_whole(made: Path, entry: Path) -> None:
    """Put the csv `made`, its card and picture in place of `entry`'s. Whoever looks meanwhile, or after this process
    was killed, finds an entry or none: the csv, by which entries are found, goes first and comes last."""
    entry.unlink(missing_ok=True)
    for end in (".json", ".png", ".csv"):
        part = made.with_suffix(end)
        if part.exists():
            os.replace(part, entry.with_suffix(end))


def _check_ended(run_folder: Path, record: dict[str, Any]) -> None:
    """Raises UserError unless every seed is done or failed, and one at least is done."""
    status = {seed: facts["status"] for seed, facts in record["seeds"].items()}
    unfinished = {seed: word for seed, word in status.items() if word not in ("done", "failed")}
    if unfinished:
        states = ", ".join(f"seed {seed} is {word}" for seed, word in unfinished.items())
        how = f"finish it first: rlexp train resume={run_folder}"
        raise UserError(f"{run_folder}: {states}; {how}")
    if "done" not in status.values():
        raise UserError(f"{run_folder}: every seed failed; there is no curve to refer to")


def check_name(option: str, name: str) -> None:
    """Raises UserError for a name that is not one part of a file's name on every system."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", name):
        raise UserError(f"{option} {name}: letters, digits, dots and dashes only")


def write_card(path: Path, card: dict[str, Any]) -> None:
    """Write a card as JSON that reads well."""
    path.write_text(strict_json.dumps(card, indent=2) + "\n")
