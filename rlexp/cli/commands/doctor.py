"""`rlexp doctor`: what this machine can do."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rlexp.cli.commands import print_json
from rlexp.util.processor import compiler


def add(commands: Any) -> None:
    """Add `doctor` to the parser's commands."""
    d = commands.add_parser("doctor", help="what this machine can do")
    d.add_argument("--json", action="store_true", help="print JSON")
    d.set_defaults(run=doctor)


DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, and Windows' for its Linux
FILMED = {"CartPole": "CartPole-v1", "MuJoCo": "Hopper-v5"}

# What a process of its own runs to see whether films of the environments in its arguments can be made.
_PICTURES = """
import sys

from rlexp.envs.spec import EnvConfig
from rlexp.report.scene import CannotRender, picture

for id in sys.argv[1:]:
    env = EnvConfig(
        id=id,
        name="x",
        max_episode_steps=None,
        backend="gymnasium",
        random_return=None,
        expert_return=None,
    )
    try:
        picture(env)
        said = "renders"
    except CannotRender as error:
        said = f"cannot render: {error}"
    print(id, said, sep="\\t", flush=True)
"""
PATIENCE = 60  # s, for all pictures


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it is there, and a note."""

    what: str
    ok: bool
    note: str
    required: bool = False  # training needs it

    @property
    def mark(self) -> str:
        """Four letters for the beginning of its line."""
        if self.ok:
            return "ok  "
        return "FAIL" if self.required else "no  "


def doctor(args: argparse.Namespace) -> int:
    """A line for each check; 1 where one fails that training needs."""
    checks = list(_checks())
    if args.json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            print(f"{check.mark} {check.what}: {check.note}")
    failed = any(check.required and not check.ok for check in checks)
    return int(failed)


def _checks() -> Iterator[Check]:
    pictures = _begin_pictures()
    yield _packages()
    yield _processor()
    yield _gpu()
    yield _compiler()
    yield _box2d()
    yield Check("EnvPool", _installed("envpool"), "env.backend=envpool; extra 'fast' (Linux)")
    yield _display()
    said = _said_of(pictures)
    for what, env_id in FILMED.items():
        yield Check(f"films of {what}", said[env_id] == "renders", said[env_id])
    yield _disk()
    yield _data_cache()


def _packages() -> Check:
    from rlexp.experiment.provenance import versions

    note = ", ".join(f"{name} {version}" for name, version in versions().items())
    return Check("Python packages", True, note, required=True)


def _processor() -> Check:
    from rlexp.util import processor

    bfloat16 = "native bfloat16" if processor.bfloat16() else "no native bfloat16"
    note = f"{processor.name()}, {os.cpu_count()} cores, {bfloat16}"
    return Check("processor", True, note, required=True)


def _gpu() -> Check:
    """PyTorch takes seconds to import, and is asked only where it may find one."""
    none = Check("GPU", False, "none that PyTorch can use; train.device=cpu")
    if not _may_have_gpu():
        return none
    import torch

    if not torch.cuda.is_available():
        return none
    return Check("GPU", True, torch.cuda.get_device_name())


def _may_have_gpu() -> bool:
    """Whether PyTorch is built for GPUs, and a driver is there (Windows: it may be)."""
    if metadata.version("torch").endswith("+cpu") or sys.platform == "darwin":
        return False
    if sys.platform == "win32":
        return True
    return any(Path(file).exists() for file in DRIVERS)


def _compiler() -> Check:
    name = compiler()
    return Check("C++ compiler", name is not None, name or "none found: train.compile=true will not work")


def _box2d() -> Check:
    has_wheels = sys.version_info < (3, 14)
    note = "for bipedal and lunarlander"
    if not has_wheels:
        note += "; has no wheel for Python 3.14"
    return Check("Box2D", _installed("Box2D"), note, required=has_wheels)


def _installed(package: str) -> bool:
    return find_spec(package) is not None


def _display() -> Check:
    from rlexp.report.window import has_display

    if has_display():
        return Check("display", True, "a window can open")
    return Check("display", False, "none: rlexp eval --render will not work, films do")


def _begin_pictures() -> subprocess.Popen[str]:
    """A process of its own that renders: a broken graphics driver may end it."""
    words = [sys.executable, "-c", _PICTURES, *FILMED.values()]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _said_of(pictures: subprocess.Popen[str]) -> dict[str, str]:
    """What that process says of each environment; where it says nothing, how it ended."""
    try:
        printed, errors = pictures.communicate(timeout=PATIENCE)
        lines = errors.strip().splitlines() or [f"its process ended with code {pictures.returncode}"]
        reason = lines[-1]
    except subprocess.TimeoutExpired:
        pictures.kill()
        printed, _ = pictures.communicate()
        reason = f"no picture within {PATIENCE} s"
    said = dict.fromkeys(FILMED.values(), f"cannot render: {reason}")
    for line in printed.splitlines():
        env_id, tab, words = line.partition("\t")
        if tab and env_id in said:
            said[env_id] = words
    return said


def _disk() -> Check:
    free = shutil.disk_usage(".").free / 2**30
    ok = free > 1 and os.access(".", os.W_OK)
    return Check("disk", ok, f"{free:.0f} GiB free here", required=True)


def _data_cache() -> Check:
    from rlexp.datasets import store

    note = str(store.root())
    if not store.root().exists():
        note += " (not there yet)"
    return Check("data cache", True, note)
