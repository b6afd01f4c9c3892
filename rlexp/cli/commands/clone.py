"""`rlexp clone`: behaviour cloning of the episodes that an RLHF run compared, beside what it made of them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlexp.engines.base import Engine
    from rlexp.experiment.work import Work


def add(commands: Any) -> None:
    """Add `clone` to the parser's commands."""
    about = "train behaviour cloning on the episodes that an RLHF run compared, and say how the two score"
    parser = commands.add_parser("clone", help=about)
    parser.add_argument("folder", type=Path, metavar="RUN", help="a run with algo=rlhf")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="further options of the cloning")
    parser.set_defaults(run=clone)


def clone(args: argparse.Namespace) -> int:
    """A study in RUN/clone, an arm for each seed's episodes, and a table; one that was interrupted goes on. Exit codes
    are main.py's."""
    from rlexp.cli import launch
    from rlexp.cli.commands.rlhf import seeds_of
    from rlexp.cli.progress import say
    from rlexp.report import cloned
    from rlexp.report.records import read_record

    seeds = seeds_of(args.folder)
    study = cloned.latest(args.folder)
    if study is None:
        code = launch.execute(*_new(args.folder, seeds, args.words))
    else:
        code = launch.resume([f"resume={study}", *args.words])
    learned = {seed: facts.get("final") or {} for seed, facts in read_record(args.folder)["seeds"].items()}
    returns = cloned.returns(args.folder)
    say("| seed | RLHF | cloning of the same episodes |\n|---|---|---|")
    for seed in map(number, seeds):
        say(f"| {seed} | {_shown(learned[seed].get('return_mean'))} | {_shown(returns.get(seed))} |")
    return code


def _new(run: Path, seeds: list[Path], words: list[str]) -> tuple["Work", "Engine"]:
    """The study of cloning each seed's episodes, and the engine that `words` name. Writes the episodes."""
    from omegaconf import OmegaConf

    from rlexp.cli.commands.rlhf import write_episodes
    from rlexp.experiment import former_names, plan
    from rlexp.experiment.config import make_engine
    from rlexp.experiment.hydra_errors import composed
    from rlexp.report.cloned import FOLDER

    place = run / FOLDER
    common = ["algo=bc", *_environment(run), "train.eval_sampled=true", "video=none"]
    config = composed([*common, *former_names.translated(words)])
    arms = {seed.name: [f"buffer.path={place / f'{seed.name}.npz'}", f"seeds=[{number(seed)}]"] for seed in seeds}
    place.mkdir(exist_ok=True)
    for seed in seeds:
        write_episodes(seed, place / f"{seed.name}.npz")
    title = f"Cloning of what {run.name} compared"
    node = {"title": title, "metric": "eval/return_mean", "common": common, "arms": arms}
    study = OmegaConf.create({"runs": str(place), "study": node})
    return plan.study(study, FOLDER, words), make_engine(OmegaConf.to_container(config.engine, resolve=True))


def _environment(folder: Path) -> list[str]:
    """The options that give a run's own environment. Raises UserError where its config names what is not trusted."""
    from rlexp.cli.notebook import written
    from rlexp.envs import named
    from rlexp.experiment.config import stored

    env = stored(folder)["env"]
    known = named.files()
    choice, usual = "gym", {}
    if env["name"] in known:
        choice = env["name"]
        usual = vars(named.from_conf(known[choice]))
    options = {key: value for key, value in env.items() if key not in usual or usual[key] != value}
    return [f"env={choice}", *(f"++env.{key}={written(value)}" for key, value in options.items())]


def number(seed: Path) -> str:
    """Of the seed whose folder this is."""
    return seed.name.removeprefix("seed_")


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
