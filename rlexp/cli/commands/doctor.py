"""`rlexp doctor`: what this machine can do."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple


def add(commands: Any) -> None:
    """Add `doctor` to the parser's commands."""
    d = commands.add_parser("doctor", help="what this machine can do")
    d.add_argument("--json", action="store_true", help="print JSON")
    d.set_defaults(run=doctor)


_PICTURE = """
from rlexp.envs import EnvConfig
from rlexp.film import CannotRender, picture
config = dict(name="x", max_episode_steps=None, backend="gymnasium", random_return=None, expert_return=None)
try:
    picture(EnvConfig(id={id!r}, **config))
except CannotRender as error:
    raise SystemExit(str(error))
"""


class Check(NamedTuple):
    what: str
    ok: bool
    note: str
    required: bool = False  # training needs it


def doctor(args: argparse.Namespace) -> int:
    checks = list(_checks())
    if args.json:
        print(json.dumps([check._asdict() for check in checks], indent=2))
    else:
        for what, ok, note, required in checks:
            print(f"{'ok  ' if ok else 'FAIL' if required else 'no  '} {what}: {note}")
    return int(any(check.required and not check.ok for check in checks))


def _checks() -> Iterator[Check]:
    import torch

    from rlexp.experiment.provenance import hardware, versions
    from rlexp.report.window import has_display

    yield Check("Python packages", True, ", ".join(f"{k} {v}" for k, v in versions().items()), True)
    cpu, threads = hardware()["cpu"], torch.get_num_threads()
    said = f"{cpu}, {os.cpu_count()} cores, torch uses {threads} threads unless told (train.threads)"
    yield Check("processor", True, said, True)
    gpu = torch.cuda.is_available()
    said = torch.cuda.get_device_name() if gpu else "none that PyTorch can use; train.device=cpu"
    yield Check("GPU", gpu, said)
    compiler = next((c for c in ("c++", "g++", "clang++", "cl") if shutil.which(c)), None)
    yield Check("C++ compiler", bool(compiler), compiler or "none found: train.compile=true will not work")
    yield Check("Box2D", find_spec("Box2D") is not None, "for bipedal and lunarlander", True)
    yield Check("EnvPool", find_spec("envpool") is not None, "env.backend=envpool; extra 'fast' (Linux)")
    display = has_display()
    said = "a window can open" if display else "none: rlexp eval --render will not work, films do"
    yield Check("display", display, said)
    yield Check("films of CartPole", *_renders("CartPole-v1"))
    yield Check("films of MuJoCo", *_renders("Hopper-v5"))
    free = shutil.disk_usage(".").free / 2**30
    yield Check("disk", free > 1 and os.access(".", os.W_OK), f"{free:.0f} GiB free here", True)
    data = Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")
    yield Check("data cache", True, f"{data}{'' if data.exists() else ' (not there yet)'}")


def _renders(env_id: str) -> tuple[bool, str]:
    """In a process of its own: a broken graphics driver may end it."""
    done = subprocess.run([sys.executable, "-c", _PICTURE.format(id=env_id)], capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    return done.returncode == 0, "renders" if done.returncode == 0 else f"cannot render: {lines[-1] if lines else '?'}"
