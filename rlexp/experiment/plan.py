"""New runs and studies: everything is checked before anything is written."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlexp.experiment import former_names
from rlexp.experiment.assumed import notes
from rlexp.experiment.config import RunConfig, build
from rlexp.experiment.folder import Folder, create
from rlexp.experiment.hydra_errors import composed
from rlexp.experiment.probe import probe
from rlexp.experiment.work import Work
from rlexp.report.records import check_study
from rlexp.util import checkpoint
from rlexp.util.errors import UserError, said_of


def single(config: DictConfig) -> Work:
    """A new run. Raises UserError before anything is written."""
    run = build(config)
    inputs = probe(run)
    said = notes(run)
    path = create(_root(config), run.name)
    return Work(path, [(_folder(path, run, inputs), run)], notes=said)


def _root(config: DictConfig) -> Path:
    if not isinstance(config.runs, str):
        raise UserError(f"runs: {config.runs} is not a folder's name")
    return Path(config.runs)


def study(config: DictConfig, name: str, overrides: list[str]) -> Work:
    """A new study: `conf/study/<name>.yaml` names arms, each a list of overrides; the command line overrides all."""
    node: Any = OmegaConf.to_container(config.study, resolve=True)
    with said_of(f"study={name}"):
        check_study(node if isinstance(node, dict) else {})
    common = list(node.get("common", []))
    if "seeds" in node:
        common.append(f"seeds={node['seeds']}")
    runs = {}
    inputs = {}
    spoken: dict[str, None] = {}  # what several arms say is said once
    for arm, words in node["arms"].items():
        with said_of(f"arm {arm} of study={name}"):
            runs[arm] = build(composed(_words_of_arm([*common, *words], overrides)))
            inputs[arm] = probe(runs[arm])
            spoken |= dict.fromkeys(notes(runs[arm]))
    path = create(_root(config), f"study_{name}")
    checkpoint.write_text(path / "study.yaml", OmegaConf.to_yaml({"name": name, **node}))
    folders = []
    for arm, run in runs.items():
        (path / arm).mkdir()
        folders.append((_folder(path / arm, run, inputs[arm]), run))
    return Work(path, folders, is_study=True, notes=list(spoken))


def _words_of_arm(words: list[str], overrides: list[str]) -> list[str]:
    """All words of an arm, by the names of today."""
    algorithms = former_names.algorithms_of([*words, *overrides])
    return former_names.translated(words, algorithms) + former_names.translated(overrides, algorithms)


def _folder(path: Path, run: RunConfig, inputs: dict[str, Any]) -> Folder:
    folder = Folder(path, run.plain, run.algo_class.clock)
    folder.remember(inputs)
    return folder
