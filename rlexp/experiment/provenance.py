"""Where a result comes from: command line, commit, versions, hardware, time."""

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rlexp import __version__
from rlexp.util import processor

PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "Box2D", "envpool", "hydra-core", "safetensors")


def program() -> str:
    """What was called, as one would type it: `python main.py`, `rlexp train`, or `python -m rlexp train`."""
    script = sys.argv[0].removesuffix(" train")  # as cli/main.py leaves it
    path = Path(script)
    if path.name == "__main__.py":
        called = f"python -m {path.parent.name}"
    elif path.suffix == ".py":
        called = f"python {path.name}"
    else:
        called = path.stem
    return called + sys.argv[0].removeprefix(script)


def command() -> str:
    """The command line, as one would type it."""
    return " ".join([program(), shlex.join(sys.argv[1:])]).strip()


def git(*words: str) -> str:
    """What git answers about this package's own source; "" where there is no git or no repository."""
    try:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def origin() -> dict[str, Any]:
    """What begins or continues runs now: the command line, and the code that it runs."""
    return {
        "command": command(),
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(git("status", "--porcelain", "--untracked-files=no")),
        "versions": versions(),
    }


def changes(before: Mapping[str, Any]) -> list[str]:
    """What of the code is not as `before` says, an `origin`: "torch 2.11.0, now 2.13.0"."""
    now_here = {"commit": git("rev-parse", "HEAD")[:7], **versions()}
    was = {"commit": str(before.get("commit") or "")[:7], **before.get("versions", {})}
    return [f"{what} {was[what]}, now {here}" for what, here in now_here.items() if was.get(what) and here != was[what]]


def versions() -> dict[str, str]:
    found = {"rlexp": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str = "cpu") -> dict[str, Any]:
    """The machine; with the GPU, where networks are trained on one. Imports torch."""
    found = {**processor.facts(), "cores": os.cpu_count(), "platform": platform.platform(terse=True)}
    if device == "cpu":
        return found
    import torch  # takes a second

    return {**found, "gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}


def now() -> str:
    return datetime.datetime.now().isoformat(timespec="seconds")
