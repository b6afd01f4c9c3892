"""`rlexp tune`: search for hyperparameters, and say whether what was found beats the default on fresh seeds."""

import argparse
import shlex
import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.util import trust
from rlexp.util.errors import UserError

if TYPE_CHECKING:
    from filelock import FileLock

    from rlexp.engines.base import Engine
    from rlexp.experiment.tuning import Plan, Tuner

TRIALS = 50
SEEDS = [0, 1, 2, 3, 4]
FRESH = 5
FIRST_FRESH = 1000  # seeds of the confirmation, which no trial has seen
PRUNE_AT = 0.2
NO_PART = {  # words of main.py, and why a tuning refuses them
    "resume": "rlexp tune --resume FOLDER goes on with a tuning",
    "study": "has arms of its own; a tuning makes its trials of one run",
    "hydra": "Hydra's sweepers and launchers have no part in a tuning",
}


def add(commands: Any) -> None:
    """Add `tune` to the parser's commands."""
    about = "search for hyperparameters over several seeds, and confirm what is found on fresh ones"
    t = commands.add_parser("tune", help=about)
    t.add_argument("words", nargs="*", metavar="KEY=VALUE", help="as for main.py; +tune=NAME: the space in conf/tune/")
    t.add_argument("--trials", type=int, metavar="N", help=f"default {TRIALS}; with --resume it can grow")
    t.add_argument("--fresh", type=int, metavar="N", help=f"seeds of the confirmation (default {FRESH})")
    t.add_argument(
        "--prune-at",
        type=float,
        metavar="P",
        help=f"p-value at which a trial ends that is worse than the best one (default {PRUNE_AT}; 0: never)",
    )
    t.add_argument(
        "--rungs",
        type=int,
        metavar="N",
        help="budgets, each three times the one before; the better third of the trials goes on (default 1)",
    )
    t.add_argument("--resume", type=Path, metavar="FOLDER", help="go on with a tuning")
    t.set_defaults(run=tune)


def tune(args: argparse.Namespace) -> int:
    """Exit codes are main.py's."""
    from omegaconf import OmegaConf

    from rlexp.experiment import compose, former_names, overrides
    from rlexp.experiment.config import make_engine
    from rlexp.experiment.hydra_errors import composed
    from rlexp.util.processes import limit_threads

    _require_optuna()
    limit_threads(1)
    words = former_names.translated(compose.take(overrides.in_lists(args.words)))
    of_engine = [word for word in words if word.split("=")[0].split(".")[0] in ("engine", "workers")]
    rest = [word for word in words if word not in of_engine]
    compose.register()
    if args.resume is not None:
        folder, plan = _resumed(args, rest)
    else:
        folder, plan = _new(args, rest, of_engine)
    with nullcontext() if args.resume is None else trust.said_by(folder / "tune.yaml"):
        config = composed([*plan.words, *of_engine])
        node = OmegaConf.to_container(config.engine, resolve=True)
        trust.admit(trust.names_in(node))
        return _run(folder, plan, make_engine(node), config.workers, of_engine)


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError:
        raise UserError("rlexp tune: the package optuna is not installed; pip install 'rlexp[tune]'") from None


def _new(args: argparse.Namespace, words: list[str], of_engine: list[str]) -> tuple[Path, "Plan"]:
    """A new tuning's folder. Raises UserError before anything is written."""
    from omegaconf import OmegaConf

    from rlexp.experiment.config import make_engine, seed_list
    from rlexp.experiment.folder import create
    from rlexp.experiment.hydra_errors import composed
    from rlexp.experiment.probe import probe
    from rlexp.experiment.tuning import Plan, budgets, run_of, searched

    for word in words:
        key = word.lstrip("+~").partition("=")[0].split(".")[0].split("/")[0]
        if key in NO_PART:
            raise UserError(f"{word}: {NO_PART[key]}")
    named = [word.partition("=")[2] for word in words if word.lstrip("+").startswith("tune=")]
    words = [word for word in words if not word.lstrip("+").startswith("tune=")]
    if not any(word.startswith("video") for word in words):
        words.append("video=none")
    config = composed([*words, *of_engine])
    plain: Any = OmegaConf.to_container(config, resolve=True)
    make_engine(plain["engine"])
    name = named[-1] if named else config.algo._target_.split(".")[-2]
    are_given = any(word.startswith("seeds=") for word in words)
    seeds = seed_list(plain["seeds"]) if are_given else SEEDS
    words = [word for word in words if not word.startswith("seeds=")]
    trials = TRIALS if args.trials is None else args.trials
    fresh = FRESH if args.fresh is None else args.fresh
    prune_at = PRUNE_AT if args.prune_at is None else args.prune_at
    rungs = 1 if args.rungs is None else args.rungs
    if min(trials, fresh, rungs) < 1 or not 0 <= prune_at < 1:
        raise UserError("--trials, --fresh and --rungs are at least 1, --prune-at lies from 0 to below 1")
    first = max(FIRST_FRESH, max(seeds) + 1)
    plan = Plan(name, words, trials, seeds, [first + n for n in range(fresh)], prune_at, rungs=rungs)
    run = run_of(plan, [])
    searched(plan)
    budgets(plan, [])
    probe(run)
    folder = create(Path(config.runs).expanduser(), f"tune_{run.name}")
    plan.write(folder)
    return folder, plan


def _resumed(args: argparse.Namespace, words: list[str]) -> tuple[Path, "Plan"]:
    """The tuning in a folder, with more trials if it is asked for them. Raises UserError."""
    from dataclasses import replace

    from rlexp.experiment.tuning import Plan

    given = [
        f"--{name}" for name in ("fresh", "prune-at", "rungs") if getattr(args, name.replace("-", "_")) is not None
    ]
    if words or given:
        raise UserError(
            f"{[*words, *given][0]}: a tuning keeps its options; --resume takes --trials, engine= and workers="
        )
    plan = Plan.read(args.resume)
    _check_plan(args.resume / "tune.yaml", plan)
    if args.trials is not None:
        if args.trials < plan.trials:
            raise UserError(f"--trials: was {plan.trials}; it can grow, not shrink to {args.trials}")
        plan = replace(plan, trials=args.trials)
        plan.write(args.resume)
    return args.resume, plan


def _check_plan(file: Path, plan: "Plan") -> None:
    """Raise UserError where a tuning's yaml holds something of another kind than is written."""
    kinds: dict[str, Any] = {"words": str, "seeds": int, "fresh": int}
    for key, kind in kinds.items():
        values = getattr(plan, key)
        if not isinstance(values, list) or not all(type(value) is kind for value in values):
            raise UserError(f"{file}: {key}: is no list of {kind.__name__}")
    for key in ("trials", "rungs"):
        value = getattr(plan, key)
        if type(value) is not int or value < 1:
            raise UserError(f"{file}: {key}: is no number of {key}")


def _run(folder: Path, plan: "Plan", engine: "Engine", workers: int | None, of_engine: list[str]) -> int:
    from rlexp.cli.progress import say
    from rlexp.experiment import tuning
    from rlexp.util.configs import config_dirs
    from rlexp.util.processes import cores

    lock = _locked(folder)
    is_new = not (folder / "journal.log").exists()
    try:
        engine.prepare(folder.resolve())
    except BaseException:
        if is_new:
            shutil.rmtree(folder)
        raise
    study = tuning.study_in(folder, plan)
    found = tuning.searched(plan)
    say(str(folder))
    say(f"{plan.trials} trials of {len(plan.seeds)} seeds each over {', '.join(found)}")
    if plan.rungs > 1:
        ends = ", ".join(f"{budget:,}" for budget in tuning.budgets(plan, []))
        say(f"budgets: {ends}; the better third of the trials goes on to the next")
    tuner = tuning.Tuner(folder, plan, study, found, workers or cores(), say)
    dirs = [f"--config-dir={own}" for own in config_dirs]
    again = shlex.join(["rlexp", "tune", "--resume", str(folder), *dirs, *of_engine])
    try:
        engine.run(tuner.next_job, tuner.handle)
    except BaseException:
        tuner.leave()
        print(f"interrupted; continue with: {again}", file=sys.stderr)
        raise
    code = _conclude(folder, plan, tuner, engine)
    lock.release()
    return code


def _locked(folder: Path) -> "FileLock":
    """Refuse a tuning at which another process is at work. The lock ends with the process, however it ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(f"--resume {folder}: another process is running in this folder") from None
    return lock


def _conclude(folder: Path, plan: "Plan", tuner: "Tuner", engine: "Engine") -> int:
    """Train the best trial's options and the default on fresh seeds; table, picture, verdict."""
    from rlexp.cli import launch
    from rlexp.cli.progress import say
    from rlexp.experiment import tuning
    from rlexp.report import tuning as report

    ranked = tuning.whole(tuner.study.get_trials(deepcopy=False))
    report.picture(tuner.study, folder / "tuning.png", folder.name, plan.metric)
    typed = shlex.join([*plan.words, f"seeds={plan.seeds}", f"+tune={plan.name}"])
    how = f"--trials {plan.trials} --fresh {len(plan.fresh)} --prune-at {plan.prune_at:g}"
    if plan.rungs > 1:
        how += f" --rungs {plan.rungs}"
    lines = [f"# {folder.name}", "", f"`rlexp tune {typed} {how}`", ""]
    lines += report.table(tuner.study, ranked, plan.metric, len(plan.seeds))
    if not ranked:
        say("\n".join(lines))
        print("error: no trial came to its end", file=sys.stderr)
        return 1
    best = ranked[0]
    say(f"trial {best.number} is the best: {report.options(best.params)}")
    say(f"it and the default are now trained on {len(plan.fresh)} fresh seeds")
    code = launch.execute(tuning.confirmation(folder, plan, best.params), engine)
    kept = _keep(folder, plan, best.params)
    lines += ["", *_verdict(folder / tuning.CONFIRM), "", f"Its options: {kept}", ""]
    (folder / "tuning.md").write_text("\n".join(lines))
    say("\n".join(lines))
    say(f"{folder / 'tuning.md'}  {folder / 'tuning.png'}")
    return code


def _verdict(confirm: Path) -> list[str]:
    """What was found beside the default, on fresh seeds."""
    from rlexp.report import sides, verdict_text
    from rlexp.report.history import Run
    from rlexp.report.judge import judge

    tuned, default = (sides.of_run(arm, Run.read(confirm / arm)) for arm in ("tuned", "default"))
    if not tuned.lines or not default.lines:
        return ["**Verdict:** none, no fresh seed has finished."]
    table = (confirm / "summary.md").read_text().split("\n\n", 2)[2].strip()
    judged = judge(tuned, default)
    return ["On fresh seeds:", "", table, "", f"**Verdict:** {verdict_text.headline(judged)}."]


def _keep(folder: Path, plan: "Plan", params: dict[str, Any]) -> Path:
    """Write the options as a file for conf/tuned/. Returns it."""
    from omegaconf import OmegaConf

    from rlexp.experiment import space
    from rlexp.experiment.tuning import run_of

    run = run_of(plan, space.words(params))
    node = OmegaConf.from_dotlist(space.words(params))
    file = folder / "tuned" / f"{run.name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"# @package _global_\n# Found by rlexp tune {shlex.join(plan.words)}\n{OmegaConf.to_yaml(node)}")
    return file
