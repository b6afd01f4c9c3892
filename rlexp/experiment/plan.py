"""New runs and studies: everything is checked before anything is written."""

from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rlexp.experiment import former_names, hydra_errors
from rlexp.experiment.assumed import notes
from rlexp.experiment.compose import compose
from rlexp.experiment.config import RunConfig, build
from rlexp.experiment.folder import Folder, create
from rlexp.experiment.probe import probe
from rlexp.experiment.work import Work
from rlexp.report.records import check_study
from rlexp.util import checkpoint
from rlexp.util.errors import UserError, said_of


def single(composed: DictConfig) -> Work:
    """A new run. Raises UserError before anything is written."""
    run = build(composed)
    inputs = probe(run)
    said = notes(run)
    path = create(_root(composed), run.name)
    return Work(path, [(_folder(path, run, inputs), run)], notes=said)


def _root(composed: DictConfig) -> Path:
    if not isinstance(composed.runs, str):
        raise UserError(f"runs: {composed.runs} is not a folder's name")
    return Path(composed.runs)


def study(composed: DictConfig, name: str, overrides: list[str]) -> Work:
    """A new study: `conf/study/<name>.yaml` names arms, each a list of overrides; the command line overrides all."""
    node: Any = OmegaConf.to_container(composed.study, resolve=True)
    with said_of(f"study={name}"):
        check_study(node if isinstance(node, dict) else {})
    common = node.get("common", []) + ([f"seeds={node['seeds']}"] if "seeds" in node else [])
    runs, inputs = {}, {}
    spoken: dict[str, None] = {}  # what several arms say is said once
    for arm, words in node["arms"].items():
        try:
            algorithms = former_names.algorithms_of([*common, *words, *overrides])
            words = former_names.translated([*common, *words], algorithms)
            words += former_names.translated(overrides, algorithms)
            runs[arm] = build(compose(words))
            inputs[arm] = probe(runs[arm])
            spoken |= dict.fromkeys(notes(runs[arm]))
        except UserError as error:
            raise UserError(f"arm {arm} of study={name}: {error}") from None
        except (HydraException, OmegaConfBaseException) as error:
            said = hydra_errors.hydra_error(error, words)
            raise UserError(f"arm {arm} of study={name}: {said}") from None
    path = create(_root(composed), f"study_{name}")
    checkpoint.write_text(path / "study.yaml", OmegaConf.to_yaml({"name": name, **node}))
    folders = []
    for arm, run in runs.items():
        (path / arm).mkdir()
        folders.append((_folder(path / arm, run, inputs[arm]), run))
    return Work(path, folders, is_study=True, notes=list(spoken))


def _folder(path: Path, run: RunConfig, inputs: dict[str, Any]) -> Folder:
    folder = Folder(path, run.plain, run.algo_class.clock)
    folder.remember(inputs)
    return folder
