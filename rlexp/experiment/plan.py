"""New runs, studies and sweeps: everything is checked before anything is written."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlexp.experiment import former_names
from rlexp.experiment.assumed import notes
from rlexp.experiment.config import RunConfig, build
from rlexp.experiment.folder import Folder, create, whole_or_none
from rlexp.experiment.forecast import data_to_make
from rlexp.experiment.hydra_errors import combination, composed
from rlexp.experiment.overrides import Sweep
from rlexp.experiment.probe import Probed, probe
from rlexp.experiment.work import Work
from rlexp.report.records import check_study
from rlexp.util.errors import UserError, said_of

Tell = Callable[[str], None]  # takes a line to be said before what it announces


def _quietly(line: str) -> None:
    """Tells nobody."""


class Announcement:
    """Called before data sets may be made, tells once which are made for some runs, and what follows."""

    def __init__(self, runs: Sequence[RunConfig], tell: Tell, at_once: int | None):
        self.runs = runs
        self.tell = tell
        self.at_once = at_once

    def __call__(self) -> None:
        for line in data_to_make(self.runs, self.at_once):
            self.tell(line)
        self.runs = []


def alone(seeds: Any) -> list[str]:
    """That one seed is trained where somebody may have meant so many: seeds=3."""
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 2:
        return []
    return [f"seed {seeds} alone is trained; 'seeds=range({seeds})' would be {seeds} of them, from 0"]


def _decided(run: RunConfig, of: str = "") -> list[str]:
    """What options that were left to it are on this machine."""
    return [f"auto: {of}{run.decided}"] if run.decided else []


def _warnings(probed: Probed, of: str = "") -> list[str]:
    """What a run is likely to lose, as lines to be said; `of` which arm."""
    return [f"warning: {of}{text}" for text in probed.cautions]


def single(config: DictConfig, tell: Tell = _quietly, at_once: int | None = None) -> Work:
    """A new run. Raises UserError before anything is written. `tell`: what data are made for it at first, before
    `at_once` seeds are trained at a time."""
    run = build(config)
    probed = probe(run, Announcement([run], tell, at_once))
    said = [*alone(config.seeds), *_decided(run), *notes(run), *_warnings(probed)]
    path = create(_root(config), run.name)
    return Work(path, [(new_folder(path, run, probed.inputs), run)], notes=said)


def _root(config: DictConfig) -> Path:
    if not isinstance(config.runs, str):
        raise UserError(f"runs: {config.runs} is not a folder's name")
    return Path(config.runs).expanduser()


def study(
    config: DictConfig,
    name: str,
    overrides: list[str],
    tell: Tell = _quietly,
    at_once: int | None = None,
) -> Work:
    """A new study: `conf/study/<name>.yaml` names arms, each a list of overrides; the command line overrides all."""
    node: Any = OmegaConf.to_container(config.study, resolve=True)
    with said_of(f"study={name}"):
        check_study(node if isinstance(node, dict) else {})
    common = list(node.get("common", []))
    if "seeds" in node:
        common.append(f"seeds={node['seeds']}")
    words = {arm: _words_of_arm([*common, *own], overrides) for arm, own in node["arms"].items()}
    arms = Arms()
    for arm in words:
        said = f"arm {arm} of study={name}"
        with said_of(said):
            of_arm = composed(words[arm])
            arms.add(arm, build(of_arm), f"arm {arm}: ", said)
            arms.notes |= dict.fromkeys(alone(of_arm.seeds))
    arms.check(tell, at_once)
    return arms.work(create(_root(config), f"study_{name}"), {"name": name, **node})


def sweep(of: Sweep, first: DictConfig, tell: Tell = _quietly, at_once: int | None = None) -> Work:
    """A new sweep: a study whose arms are the combinations of options, of which `first` is composed already. Raises
    UserError before anything is written."""
    arms = Arms()
    kept: dict[str, list[str]] = {}
    found: dict[str, str] = {}  # by what a combination comes to, how it was written
    for number, words in enumerate(of.varied, start=1):
        config = first
        if number > 1:
            config = combination(of.common, words)
        name = _folder_name(number, len(of.varied), words)
        said = " ".join(words)
        with said_of(said or "sweep"):
            run = build(config)
            same = found.setdefault(json.dumps(run.plain), said)
            if same != said:
                arms.notes[f"{said}: is {same} once more, trained once"] = None
                continue
            arms.add(name, run, f"{said}: ", said or "sweep")
        kept[name] = words
    if not of.several_seeds:
        arms.notes |= dict.fromkeys(alone(first.seeds))
    node = {
        "title": f"Sweep of {', '.join(of.keys)}",
        "metric": "eval/return_mean",
        "sweep": of.keys,
        "common": of.common,
        "arms": kept,
        "names": {name: " ".join(words) for name, words in kept.items() if words},
    }
    arms.check(tell, at_once)
    return arms.work(create(_root(first), "sweep"), {"name": "sweep", **node})


def _folder_name(number: int, of: int, words: list[str]) -> str:
    """Of a combination of a sweep: its number, and its values as far as they fit into a file's name."""
    values = [word.partition("=")[2] for word in words]
    digits = len(str(of))
    return re.sub(r"[^\w.+-]+", "-", "_".join([f"{number:0{digits}}", *values]))[:60].rstrip(".-")


class Arms:
    """Several runs that are to lie in one folder."""

    def __init__(self) -> None:
        self.runs: dict[str, tuple[RunConfig, str, str]] = {}  # by arm, with what warnings and mistakes call it
        self.inputs: dict[str, dict[str, Any]] = {}  # what is to be remembered of each arm's
        self.notes: dict[str, None] = {}  # what several arms say is said once

    def add(self, arm: str, run: RunConfig, of: str, said: str) -> None:
        """Another arm, which warnings call `of` and mistakes `said`."""
        self.runs[arm] = (run, of, said)

    def check(self, tell: Tell = _quietly, at_once: int | None = None) -> None:
        """Whether all arms can start. Raises UserError. `tell`: what data are made for them at first."""
        announce = Announcement([run for run, _, _ in self.runs.values()], tell, at_once)
        for arm, (run, of, said) in self.runs.items():
            with said_of(said):
                probed = probe(run, announce)
                self.notes |= dict.fromkeys([*_decided(run, of), *notes(run), *_warnings(probed, of)])
                self.inputs[arm] = probed.inputs

    def work(self, path: Path, study: dict[str, Any]) -> Work:
        """The arms, which have been checked, in the new folder `path`."""
        folders = []
        with whole_or_none(path):
            for arm, (run, _, _) in self.runs.items():
                (path / arm).mkdir()
                folders.append((new_folder(path / arm, run, self.inputs[arm]), run))
        return Work(path, folders, study, notes=list(self.notes))


def _words_of_arm(words: list[str], overrides: list[str]) -> list[str]:
    """All words of an arm, by the names of today."""
    algorithms = former_names.algorithms_of([*words, *overrides])
    return former_names.translated(words, algorithms) + former_names.translated(overrides, algorithms)


def new_folder(path: Path, run: RunConfig, inputs: dict[str, Any]) -> Folder:
    """A run's folder at `path`, which is there; `inputs`: what `probe` found, to be remembered."""
    folder = Folder(path, run.plain, run.algo_class.clock)
    folder.remember(inputs)
    return folder
