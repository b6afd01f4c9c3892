"""What trackers hold of a seed, read with their own libraries."""

import json
import os
import sqlite3
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

METRIC = "eval/return_mean"  # which every row has where every step is evaluated
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow", "trackio": "trackio"}
SIZES = {"wandb": "100 MB", "mlflow": "120 MB", "trackio": "80 MB"}
INSTALLED = [name for name, package in PACKAGES.items() if find_spec(package)]
EACH = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name not in INSTALLED,
            reason=f"{name} is not installed ({SIZES.get(name)} that extra 'test' spares; pip install 'rlexp[{name}]')",
        ),
    )
    for name in PACKAGES
]


@dataclass
class Held:
    """What a tracker has of one seed."""

    steps: list[int] = field(default_factory=list)  # of rows, as often as they are there
    films: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    status: str = ""


def stay_here(place: Path, patch: pytest.MonkeyPatch) -> None:
    """Keep trackers that are started from now on, here or by a command, in `place`, and logged in nowhere."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        patch.delenv(name, raising=False)
    for name in ("HOME", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "TRACKIO_DIR", "HF_HOME", "NETRC"):
        patch.setenv(name, str(place / name.lower()))
    patch.setenv("HF_HUB_OFFLINE", "1")


def held(name: str, seed: Path) -> Held:
    """What the tracker `name` has of the seed in the folder `seed`."""
    return {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow, "trackio": _trackio}[name](seed)


def _tensorboard(seed: Path) -> Held:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found = Held()
    for file in sorted((seed / "tensorboard").iterdir()):
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                kind = value.tag.split("/")[0]
                if value.tag == METRIC:
                    found.steps.append(event.step)
                if kind in ("films", "pictures"):
                    getattr(found, kind).append(value.tag.split("/")[1])
    return found


def _wandb(seed: Path) -> Held:
    from wandb.proto.wandb_internal_pb2 import Record

    from rlexp.loggers.wandb import _records

    found = Held()
    media: dict[str, set[str]] = {"films": set(), "pictures": set()}
    for file in sorted((seed / "wandb").glob("offline-run-*/*.wandb")):
        for record in map(Record.FromString, _records(file.read_bytes())):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                found.config = {item.key: item.value_json for item in record.run.config.update}
            if kind == "exit":
                found.status = str(record.exit.exit_code)
            if kind == "history":
                found.steps.append(record.history.step.num)
                _collect(record.history.item, media)
            if kind == "summary":
                _collect(record.summary.update, media)
    found.films = sorted(media["films"])
    found.pictures = sorted(media["pictures"])
    return found


def _collect(items: Any, media: dict[str, set[str]]) -> None:
    for item in items:
        kind, _, name = (item.key or item.nested_key[0]).partition("/")
        if kind in media:
            media[kind].add(name)


def _mlflow(seed: Path) -> Held:
    from mlflow import MlflowClient

    runs = seed.parent.parent.parent
    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    (experiment,) = [each for each in client.search_experiments() if each.name == "rlexp"]
    identity = (seed / "tracker_id").read_text().strip()
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`rlexp.seed` = '{identity}'")
    artifacts = Path(run.info.artifact_uri.removeprefix("file://"))
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, METRIC)]
    films = [file.stem.split("_")[0] for file in sorted(artifacts.glob("films/*/*.mp4"))]
    pictures = [file.stem for file in sorted(artifacts.glob("pictures/*"))]
    return Held(steps, films, pictures, run.data.params, run.info.status)


def _trackio(seed: Path) -> Held:
    identity = (seed / "tracker_id").read_text()[:4]
    found = Held()
    with sqlite3.connect(Path(os.environ["TRACKIO_DIR"]) / "rlexp.db") as tables:
        for step, text in tables.execute(f"select step, metrics from metrics where run_name like '%-{identity}'"):
            row = json.loads(text)
            if METRIC in row:
                found.steps.append(step)
            found.films += [key.split("/")[1] for key in row if key.startswith("films/")]
            found.pictures += [key.split("/")[1] for key in row if key.startswith("pictures/")]
        for (text,) in tables.execute(f"select config from configs where run_name like '%-{identity}'"):
            found.config = json.loads(text)
    return found
