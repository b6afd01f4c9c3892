"""Policies that come with the project: gallery/policies/<name>.safetensors, or a folder of snapshots, with a card."""

import shutil
from pathlib import Path
from typing import Any

from rlexp.policies.files import find_policy, load_policy
from rlexp.report.played import EPISODES, scores
from rlexp.report.publish import check_name, write_card
from rlexp.report.records import read_record
from rlexp.report.words import count
from rlexp.util import paths
from rlexp.util.errors import UserError, did_you_mean, nearest
from rlexp.util.files import read_object


def ship(
    run_folder: Path,
    name: str,
    seed: int | None = None,
    step: int | None = None,
    *,
    best: bool = False,
    replace: bool = False,
) -> Path:
    """Copy one policy to gallery/policies/, with a card that says what it scores in 100 episodes. Returns the copy.

    It is a seed's last policy, its best by evaluation, or its snapshot at `step`; of the first seed where `seed` is
    None. Raises UserError where there is no such policy, or, unless `replace`, one of that name.
    """
    check_name("--policy", name)
    place = _place(run_folder, seed)
    source = _policy(place, step, best)
    target = paths.own_policies() / f"{name}.safetensors"
    _refuse(target, replace)
    target.parent.mkdir(parents=True, exist_ok=True)
    card = {"name": name, **_origin(source), "episodes": EPISODES, "scores": scores(source, EPISODES)}
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    target.unlink(missing_ok=True)
    write_card(target.with_suffix(".json"), card)
    part.replace(target)  # last: a policy that is there has its card
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
    """Copy a seed's snapshots into the folder gallery/policies/`name`, with one card. Returns the folder.

    They go from the untrained one to the last before step `until`, at multiples of `every`. Raises UserError where
    there are fewer than two.
    """
    check_name("--ladder", name)
    folder = paths.own_policies() / name
    place = _place(run_folder, seed)
    found = _snapshots(place)
    steps = [step for step in found if step % (every or 1) == 0]
    if until is not None:
        steps = [step for step in steps if step < until]
    if len(steps) < 2:
        raise UserError(f"{place}: fewer than two such snapshots; train.snapshot_every makes them")
    _refuse(folder, replace)
    rungs = [{"step": step, "episodes": 10, "scores": scores(found[step], 10)} for step in steps]
    card = {"name": name, **_origin(found[steps[0]]), "until": until, "rungs": rungs}
    part = folder.with_name(f".{name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for step in steps:
        shutil.copyfile(found[step], part / found[step].name)
    write_card(part / "card.json", card)
    shutil.rmtree(folder, ignore_errors=True)  # rungs of another ladder do not stay
    part.replace(folder)
    return folder


def _place(run_folder: Path, seed: int | None) -> Path:
    return run_folder if seed is None else run_folder / f"seed_{seed}"


def _policy(place: Path, step: int | None, best: bool) -> Path:
    """The file of one policy in a run or a seed's folder. Raises UserError."""
    if step is None:
        return find_policy(str(place), "best" if best else "final")[0]
    found = _snapshots(place)
    if step not in found:
        hint = did_you_mean(nearest(str(step), map(str, found)))
        raise UserError(f"{place}: no snapshot at step {step}{hint}")
    return found[step]


def _refuse(target: Path, replace: bool) -> None:
    if target.exists() and not replace:
        raise UserError(f"{target}: is there already; --replace it, or take another name")


def _snapshots(place: Path) -> dict[int, Path]:
    """Policy files of one seed by their step; of the first seed where `place` is a run."""
    if not (place / "checkpoints").is_dir():
        seeds = paths.seed_folders(place)
        if not seeds:
            return {}
        place = seeds[0]
    files = sorted((place / "checkpoints").glob("policy_*.safetensors"))
    return {int(file.stem.removeprefix("policy_")): file for file in files}


def _origin(policy: Path) -> dict[str, Any]:
    """Where a policy file comes from: the run that it lies in, what the file itself says, and whom it was chosen among:
    `checkpoint`, final, best or a snapshot's name, and `seeds`, the return at the end of each of the run's seeds."""
    saved = load_policy(policy)
    runs = [folder for folder in policy.parents if (folder / "run.json").is_file()]
    record = read_record(runs[0]) if runs else {}
    facts = {key: record.get(key) for key in ("command", "commit", "dirty", "versions")}
    ended = {seed: one.get("final") or {} for seed, one in record.get("seeds", {}).items()}
    seeds = {seed: final["return_mean"] for seed, final in ended.items() if "return_mean" in final}
    return {"env": saved.env.id, **saved.card, **facts, "checkpoint": policy.stem, "seeds": seeds}


def chosen(policy: Path) -> str:
    """Whom a policy of the gallery was chosen among, as its card says; "" where there is no such card."""
    file = policy.with_suffix(".json")
    if policy not in paths.policies().values() or not file.is_file():
        return ""
    card = read_object(file)
    if "checkpoint" not in card:
        return ""
    kind = "snapshot" if card["checkpoint"].startswith("policy_") else card["checkpoint"]
    which = f"the {kind} policy of seed {card['seed']} at step {card['step']:,}"
    if not card["seeds"]:
        return which
    values = card["seeds"].values()
    returns = ", ".join(f"{value:.1f}" for value in values)
    seeds = count(len(values), "seed")
    if len(values) > 1 and card["seeds"].get(str(card["seed"])) == max(values):
        return f"{which}, the best of its run's {seeds} by evaluation: {returns}"
    return f"{which}; its run's {seeds} ended at {returns}"
