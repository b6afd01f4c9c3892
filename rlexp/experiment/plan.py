"""New runs and studies: everything is checked before anything is written."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rlexp.experiment import former_names
from rlexp.experiment.assumed import notes
from rlexp.experiment.config import RunConfig, build
from rlexp.experiment.folder import Folder, create
from rlexp.experiment.hydra_errors import composed
from rlexp.experiment.probe import Probed, probe
from rlexp.experiment.work import Work
from rlexp.report.records import check_study
from rlexp.util import checkpoint
from rlexp.util.errors import UserError, said_of


def alone(seeds: Any) -> list[str]:
    """That one seed is trained where somebody may have meant so many: seeds=3."""
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 2:
        return []
    return [f"seed {seeds} alone is trained; 'seeds=range({seeds})' would be {seeds} of them, from 0"]


def _warnings(probed: Probed, of: str = "") -> list[str]:
    """What a run is likely to lose, as lines to be said; `of` which arm."""
    return [f"warning: {of}{text}" for text in probed.cautions]


def single(config: DictConfig) -> Work:
    """A new run. Raises UserError before anything is written."""
    run = build(config)
    probed = probe(run)
    said = [*alone(config.seeds), *notes(run), *_warnings(probed)]
    path = create(_root(config), run.name)
    return Work(path, [(_folder(path, run, probed.inputs), run)], notes=said)


def _root(config: DictConfig) -> Path:
    if not isinstance(config.runs, str):
        raise UserError(f"runs: {config.runs} is not a folder's name")
    return Path(config.runs).expanduser()


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
            composed_arm = composed(_words_of_arm([*common, *words], overrides))
            runs[arm] = build(composed_arm)
            probed = probe(runs[arm])
            inputs[arm] = probed.inputs
            spoken |= dict.fromkeys([*alone(composed_arm.seeds), *notes(runs[arm])])
            spoken |= dict.fromkeys(_warnings(probed, f"arm {arm}: "))
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
