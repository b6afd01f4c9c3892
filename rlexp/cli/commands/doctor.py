"""`rlexp doctor`: what this machine can do."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from rlexp.cli.commands import print_json


def add(commands: Any) -> None:
    """Add `doctor` to the parser's commands."""
    d = commands.add_parser("doctor", help="what this machine can do")
    d.add_argument("--json", action="store_true", help="print JSON")
    d.set_defaults(run=doctor)


# What a process of its own runs to see whether films can be made.
_PICTURE = """
from rlexp.envs.spec import EnvConfig
from rlexp.report.film import CannotRender, picture

env = EnvConfig(
    id={id!r},
    name="x",
    max_episode_steps=None,
    backend="gymnasium",
    random_return=None,
    expert_return=None,
)
try:
    picture(env)
except CannotRender as error:
    raise SystemExit(str(error))
"""


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
    yield _packages()
    yield _processor()
    yield _gpu()
    yield _compiler()
    yield Check("Box2D", _installed("Box2D"), "for bipedal and lunarlander", required=True)
    yield Check("EnvPool", _installed("envpool"), "env.backend=envpool; extra 'fast' (Linux)")
    yield _display()
    yield _films("films of CartPole", "CartPole-v1")
    yield _films("films of MuJoCo", "Hopper-v5")
    yield _disk()
    yield _data_cache()


def _packages() -> Check:
    from rlexp.experiment.provenance import versions

    note = ", ".join(f"{name} {version}" for name, version in versions().items())
    return Check("Python packages", True, note, required=True)


def _processor() -> Check:
    import torch

    from rlexp.experiment.provenance import hardware

    threads = f"torch uses {torch.get_num_threads()} threads unless told (train.threads)"
    note = f"{hardware()['cpu']}, {os.cpu_count()} cores, {threads}"
    return Check("processor", True, note, required=True)


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("GPU", False, "none that PyTorch can use; train.device=cpu")
    return Check("GPU", True, torch.cuda.get_device_name())


def _compiler() -> Check:
    for name in ("c++", "g++", "clang++", "cl"):
        if shutil.which(name):
            return Check("C++ compiler", True, name)
    return Check("C++ compiler", False, "none found: train.compile=true will not work")


def _installed(package: str) -> bool:
    return find_spec(package) is not None


def _display() -> Check:
    from rlexp.report.window import has_display

    if has_display():
        return Check("display", True, "a window can open")
    return Check("display", False, "none: rlexp eval --render will not work, films do")


def _films(what: str, env_id: str) -> Check:
    """Whether a picture can be rendered, in a process of its own: a broken graphics driver may end it."""
    code = _PICTURE.format(id=env_id)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 0:
        return Check(what, True, "renders")
    lines = done.stderr.strip().splitlines() or ["?"]
    return Check(what, False, f"cannot render: {lines[-1]}")


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
