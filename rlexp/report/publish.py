"""Reference curves that come with the project: gallery/<algo>_<env>[-<variant>].csv, .json and .png.

.csv holds the rows of the run's curve.csv, .json its card (command, commit, versions, every seed with its status and
final score), .png the picture. A new run of the same algorithm and environment shows the entry under its own curve.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from rlexp.policies.files import find_policy, load_policy, seed_number
from rlexp.report.curves import curves
from rlexp.report.history import Run, names, read_record
from rlexp.rollout.score import evaluate
from rlexp.util import paths
from rlexp.util.errors import UserError, did_you_mean, nearest

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


def publish(run_folder: Path, variant: str | None = None, *, replace: bool = False) -> Path:
    """Make a gallery entry of a run whose seeds have all ended; failed ones stay in it. Returns the csv.

    Raises UserError for a folder that is no run, or whose seeds have not ended.
    """
    if (run_folder / "study.yaml").is_file():
        raise UserError(f"{run_folder}: is a study; publish its arms, e.g. {run_folder}/<arm>")
    if not (run_folder / "run.json").is_file():
        raise UserError(f"{run_folder}: no run folder (it has no run.json)")
    if variant is not None:
        _check_name("--variant", variant)
    record = read_record(run_folder)
    status = {seed: facts["status"] for seed, facts in record["seeds"].items()}
    if open_seeds := [f"seed {seed} is {word}" for seed, word in status.items() if word not in ("done", "failed")]:
        raise UserError(f"{run_folder}: {', '.join(open_seeds)}; finish it first: rlexp train resume={run_folder}")
    if "done" not in status.values():
        raise UserError(f"{run_folder}: every seed failed; there is no curve to refer to")

    config = Run.read(run_folder).config
    gallery = paths.own_gallery()
    gallery.mkdir(exist_ok=True)
    stem = "_".join(names(config)) + (f"-{variant}" if variant else "")
    entry = gallery / f"{stem}.csv"
    if entry.exists() and not replace:
        raise UserError(f"{entry}: is there already; --replace it, or give this one a --variant")
    shutil.copyfile(run_folder / "curve.csv", entry)
    facts = {key: record.get(key) for key in CARD}
    text = json.dumps({"name": stem, **facts, "seeds": record["seeds"], "config": config}, indent=2)
    entry.with_name(f"{stem}.json").write_text(text + "\n")
    curves(run_folder, entry.with_name(f"{stem}.png"), reference=False)
    return entry


def ship(
    run_folder: Path,
    name: str,
    seed: int | None = None,
    step: int | None = None,
    *,
    best: bool = False,
    replace: bool = False,
) -> Path:
    """Copy a seed's last policy, its best by evaluation, or its snapshot at `step`, to gallery/policies/, with a card
    that says what it scores in 100 episodes. Raises UserError where there is no such policy, or one of that name."""

    _check_name("--policy", name)
    place = run_folder if seed is None else run_folder / f"seed_{seed}"
    source = find_policy(str(place), "best" if best else "final")[0] if step is None else _snapshots(place).get(step)
    if source is None:
        close = nearest(str(step), map(str, _snapshots(place)))
        raise UserError(f"{place}: no snapshot at step {step}{did_you_mean(close)}")
    target = paths.own_policies() / f"{name}.safetensors"
    _refuse(target, replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    _write_card(target.with_suffix(".json"), {"name": name, **_card(source), **_scores(source, 100)})
    return target


def ship_ladder(
    run_folder: Path,
    name: str,
    seed: int | None = None,
    until: int | None = None,
    every: int | None = None,
    *,
    replace: bool = False,
) -> Path:
    """Copy a seed's snapshots, from the untrained one to the last before step `until`, at multiples of `every`, into
    the folder gallery/policies/`name`, with one card. Returns it. Raises UserError where there are none."""

    _check_name("--ladder", name)
    place, folder = run_folder if seed is None else run_folder / f"seed_{seed}", paths.own_policies() / name
    found = _snapshots(place)
    steps = [step for step in found if not step % (every or 1) and (until is None or step < until)]
    if len(steps) < 2:
        raise UserError(f"{place}: fewer than two such snapshots; train.snapshot_every makes them")
    _refuse(folder, replace)
    shutil.rmtree(folder, ignore_errors=True)  # rungs of another ladder do not stay
    folder.mkdir(parents=True)
    for step in steps:
        shutil.copyfile(found[step], folder / found[step].name)
    rungs = [{"step": step, **_scores(found[step], 10)} for step in steps]
    _write_card(folder / "card.json", {"name": name, **_card(found[steps[0]]), "until": until, "rungs": rungs})
    return folder


def _check_name(option: str, name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", name):
        raise UserError(f"{option} {name}: letters, digits, dots and dashes only")


def _refuse(target: Path, replace: bool) -> None:
    if target.exists() and not replace:
        raise UserError(f"{target}: is there already; --replace it, or take another name")


def _snapshots(place: Path) -> dict[int, Path]:
    """Policy files of one seed by their step; of the first seed where `place` is a run."""

    seeds = [place] if (place / "checkpoints").is_dir() else sorted(place.glob("seed_*"), key=seed_number)[:1]
    files = [file for seed in seeds for file in sorted((seed / "checkpoints").glob("policy_*.safetensors"))]
    return {int(file.stem.removeprefix("policy_")): file for file in files}


def _card(policy: Path) -> dict[str, Any]:
    """Where a policy file comes from: the run that it lies in, and what the file itself says."""

    run = next((folder for folder in policy.parents if (folder / "run.json").is_file()), None)
    record = read_record(run) if run else {}
    saved = load_policy(policy)
    return {"env": saved.env.id, **saved.card, **{k: record.get(k) for k in ("command", "commit", "dirty", "versions")}}


def _scores(policy: Path, episodes: int) -> dict[str, Any]:

    saved, scores = load_policy(policy), {}
    for name, explore in (("mean", False), ("sampled", True)):
        saved.policy.explore = explore
        if saved.policy.samples == explore:
            scores[name] = evaluate(saved, episodes, sampled=explore)
    return {"episodes": episodes, "scores": scores}


def _write_card(path: Path, card: dict[str, Any]) -> None:
    path.write_text(json.dumps(card, indent=2) + "\n")
