"""Data sets on disk, in Minari's own place and layout: `minari.load_dataset("rlexp/hopper/medium-v0")` reads ours.

    $MINARI_DATASETS_PATH/rlexp/hopper/medium-v0/data/metadata.json     what it is and how it was made
                                                     /main_data.hdf5    episode_<i>/observations (T+1, O),
                                                                        actions, rewards, terminations, truncations

Written and read with h5py directly, because that is fast: arrays go to disk as float32 and whole, without chunks, and
come from there into one flat array each. What lies in its place is whole: it is written elsewhere and renamed.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from rlexp import __version__
from rlexp.buffers.dataset import Dataset
from rlexp.datasets import episodes
from rlexp.envs.make import make
from rlexp.envs.spec import EnvConfig
from rlexp.util.errors import UserError
from rlexp.util.files import read_object

_ID = re.compile(r"[-\w]+(/[-\w]+)*-v\d+")
_KINDS: dict[str, Any] = {  # of what a data set's metadata have, where they have it
    **dict.fromkeys(("total_steps", "total_episodes"), int),
    "data_format": str,
    "env_spec": (str, NoneType),
    "rlexp": dict,
}
_VERSIONS = ("gymnasium", "mujoco", "Box2D", "numpy", "torch", "minari")


def root() -> Path:
    """Where Minari keeps data sets."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def own_id(env: str, kind: str) -> str:
    return f"rlexp/{env}/{kind}-v0"


def short(dataset_id: str) -> str:
    """What one types for `dataset_id`: `hopper/medium` for one of this project's, else `minari:<id>`."""
    own = re.fullmatch(r"rlexp/([-\w]+/[-\w]+)-v0", dataset_id)
    if own is None:
        return f"minari:{dataset_id}"
    return own[1]


def folder(dataset_id: str) -> Path:
    """Raises UserError for what is no id."""
    if not _ID.fullmatch(dataset_id):
        raise UserError(f"'{dataset_id}' is no name of a data set; one looks like {own_id('hopper', 'medium')}")
    return root() / dataset_id


def exists(dataset_id: str) -> bool:
    return (folder(dataset_id) / "data" / "metadata.json").is_file()


def changed(dataset_id: str) -> tuple[Path, int]:
    """Something else for each data set, and when one has been made anew."""
    place = folder(dataset_id) / "data"
    files = (place / "main_data.hdf5", place / "metadata.json")  # in arrow form there is only the second
    return place, max((file.stat().st_mtime_ns for file in files if file.is_file()), default=0)


def facts(dataset_id: str) -> dict[str, Any]:
    """The metadata of a data set that exists; `rlexp` among it is ours."""
    file = folder(dataset_id) / "data" / "metadata.json"
    found = read_object(file)
    for key, kind in _KINDS.items():
        if key in found and not isinstance(found[key], kind):
            raise UserError(f"{file}: is no data set's metadata ({key} is a {type(found[key]).__name__})")
    for key in ("total_steps", "total_episodes"):
        if found.get(key, -1) < 0:
            raise UserError(f"{file}: is no data set's metadata (it has no {key})")
    returns = found.get("rlexp", {}).get("returns", {})
    if not isinstance(returns, dict) or not isinstance(returns.get("mean"), int | float | NoneType):
        raise UserError(f"{file}: is no data set's metadata (rlexp.returns)")
    return found


def env_id(dataset_id: str) -> str | None:
    """Gymnasium's id of the environment that a stored data set was recorded in, where it says so."""
    spec = facts(dataset_id).get("env_spec")
    if not spec:
        return None
    try:
        return json.loads(spec)["id"]
    except (ValueError, TypeError, KeyError):
        return None


def local() -> list[str]:
    """Ids of the data sets on this machine."""
    files = sorted(root().glob("**/data/metadata.json"))
    names = [file.parent.parent.relative_to(root()).as_posix() for file in files]
    return [name for name in names if not name.startswith(".")]


def size(dataset_id: str) -> float:
    """MB (10^6 bytes) on disk."""
    return sum(file.stat().st_size for file in (folder(dataset_id) / "data").rglob("*") if file.is_file()) / 1e6


@contextlib.contextmanager
def locked(dataset_id: str) -> Iterator[None]:
    """Only one process at a time makes a data set. The lock of a process that dies is free."""
    from filelock import FileLock, Timeout

    file = _aside(dataset_id).with_suffix(".lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{short(dataset_id)}: another process makes it; waiting for that", file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _aside(dataset_id: str) -> Path:
    """Where it is written; Minari does not look into hidden folders."""
    return root() / ".rlexp" / dataset_id.replace("/", "-")


def write(dataset_id: str, data: Dataset, env: EnvConfig, made: dict[str, Any]) -> None:
    """Store a data set, in the place of any of that name. Hold its lock. `made`: how it came to be, as plain data."""
    place = folder(dataset_id)
    aside = _aside(dataset_id)
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
    try:
        (aside / "data").mkdir(parents=True)
        file = aside / "data" / "main_data.hdf5"
        _write_episodes(file, data)
        (aside / "data" / "metadata.json").write_text(
            json.dumps(_metadata(dataset_id, data, env, made, file.stat().st_size), indent=1), encoding="utf-8"
        )
        place.parent.mkdir(parents=True, exist_ok=True)
        for parent in place.relative_to(root()).parents:
            names = root() / parent / "namespace_metadata.json"
            if parent != Path(".") and not names.exists():
                names.write_text("{}")
        old = aside.with_suffix(".old")
        shutil.rmtree(old, ignore_errors=True)
        if place.exists():
            os.rename(place, old)
        os.rename(aside, place)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def made_by(policies: list[dict[str, Any]]) -> str:
    """In words, from whom the episodes are."""
    actions = {True: "sampled", False: "mean"}
    names = [f"{p['policy']} ({actions[bool(p['sampled'])]} actions)" for p in policies]
    if len(names) > 3:
        return f"{len(names)} policies from {names[0]} to {names[-1]}"
    return ", ".join(names) or "unknown policies"


def _metadata(dataset_id: str, data: Dataset, env: EnvConfig, made: dict[str, Any], size: int) -> dict[str, Any]:
    import gymnasium as gym
    from minari.serialization import serialize_space

    simulator = make(env)
    box = simulator.observation_space
    action_space = simulator.action_space
    spec = simulator.spec
    simulator.close()
    assert isinstance(box, gym.spaces.Box)
    assert spec is not None
    low, high = box.low.astype(np.float32), box.high.astype(np.float32)
    policies = made.get("policies", [])
    returns = {"mean": None, "min": None, "max": None}
    mean = "no rewards"
    if data.rewarded:
        returns = {"mean": data.return_E.mean(), "min": data.return_E.min(), "max": data.return_E.max()}
        mean = f"mean return {returns['mean']:.1f}"
    algos = sorted({str(policy["card"].get("algo")) for policy in policies})
    scores = {}
    if env.expert_return is not None:
        scores = {"ref_min_score": env.random_return, "ref_max_score": env.expert_return}
    return {
        "dataset_id": dataset_id,
        "minari_version": metadata.version("minari"),
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "total_episodes": len(data.length_E),
        "total_steps": len(data),
        "dataset_size": round(size / 1e6, 1),
        "observation_space": serialize_space(gym.spaces.Box(low, high, dtype=np.float32)),
        "action_space": serialize_space(action_space),
        "env_spec": spec.to_json(),
        "author": ["rlexp"],
        "algorithm_name": ", ".join(algos) or "unknown",
        "description": f"{len(data):,} steps of {env.id}, {mean}; of {made_by(policies)}. "
        "Made or imported by rlexp; not a D4RL data set.",
        **scores,
        "rlexp": {
            "env": env.name,
            **made,
            "returns": returns,
            "versions": {"rlexp": __version__, **{name: metadata.version(name) for name in _VERSIONS}},
        },
    }


def _write_episodes(file: Path, data: Dataset) -> None:
    import h5py

    with h5py.File(file, "w", libver="latest") as h5:
        for i, (start, n) in enumerate(zip(data.start_E.tolist(), data.length_E.tolist(), strict=True)):
            rows = slice(start, start + n)
            terminated = data.terminated_E[i]
            last_T = np.arange(n) == n - 1
            obs = np.concatenate([data.obs_NO[rows], data.final_obs_EO[i, None]])
            group = h5.create_group(f"episode_{i}")
            group.attrs["id"] = i
            group.attrs["total_steps"] = n
            group.create_dataset("observations", data=obs)
            group.create_dataset("actions", data=data.action[rows])
            group.create_dataset("rewards", data=data.reward_N[rows])
            group.create_dataset("terminations", data=last_T & terminated)
            group.create_dataset("truncations", data=last_T & ~terminated)
            group.create_group("infos")  # Minari cannot print an episode that has none
        h5.flush()
    with open(file, "rb+") as written:
        os.fsync(written.fileno())


def read(dataset_id: str) -> Dataset:
    """A stored data set, ours or another of Minari's, in memory. Raises UserError for one of another kind."""
    about = facts(dataset_id)
    place = folder(dataset_id) / "data"
    file = place / "main_data.hdf5"
    try:
        return episodes.read(place, short(dataset_id), about)
    except UserError:
        raise
    except Exception as error:  # whatever h5py or pyarrow makes of broken bytes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        where = file if file.is_file() else place
        raise UserError(f"{where}: cannot be read, it is cut short or broken ({reason})") from None


def download(dataset_id: str) -> None:
    """Get one of Minari's data sets. Raises UserError, with what there is, where that fails."""
    folder(dataset_id)
    print(f"looking for {dataset_id} where Minari keeps its data sets", file=sys.stderr, flush=True)
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # what matters is said below, in one line
    try:
        if not urllib.request.getproxies() and "MINARI_REMOTE" not in os.environ:  # without network, at once
            socket.getaddrinfo(
                urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname, 443
            )
        import minari

        with contextlib.redirect_stdout(sys.stderr):
            minari.download_dataset(dataset_id)
    except Exception as error:  # of any library that Minari downloads with
        reason = " ".join(str(error).split())[:200]
        here = ", ".join(map(short, local())) or "none"
        raise UserError(
            f"'{dataset_id}' is not on this machine and cannot be downloaded ({reason}); here are: {here}"
        ) from None
