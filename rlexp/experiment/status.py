"""status.json in a seed's folder: how far the seed is, how it ended, and who worked on it.

    {"status": "running", "message": "", "step": 4096, "env_steps": 4096, "updates": 640, "seconds": 2.5,
     "best": {...}, "final": {...}, "saved": {"step": ..., "checkpoint": DIGEST, "metrics": DIGEST},
     "attempts": [{"host": ..., "cpu": ..., "pid": ..., "step": 0, "started": ...}]}

It is the truth about the seed, written by whoever runs it, whole at every moment. What stands in the run's own
run.json is a copy, which any process can make again. `status` is one of `STATUSES`.
"""

import os
import platform
from pathlib import Path
from typing import Any

from rlexp.experiment.provenance import now
from rlexp.report.records import check_seed
from rlexp.util import checkpoint, processor, strict_json
from rlexp.util.errors import UserError
from rlexp.util.files import read_object

STATUSES = ("waiting", "running", "done", "failed", "interrupted")
FILE = "status.json"


def read(folder: Path) -> dict[str, Any] | None:
    """What status.json in the seed's `folder` says; None where there is none. Raises UserError for a broken one."""
    file = folder / FILE
    if not file.exists():
        return None
    facts = read_object(file)
    check_seed(str(file), facts)
    if facts["status"] not in STATUSES:
        raise UserError(f"{file}: is no seed's status ('{facts['status']}')")
    return facts


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Replace status.json in `folder`, which is made where it is missing. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint.write_text(folder / FILE, strict_json.dumps(facts, indent=2) + "\n")


def update(folder: Path, **facts: Any) -> None:
    """Add `facts` to those in status.json. Raises OSError."""
    write(folder, {**(read(folder) or waiting()), **facts})


def waiting() -> dict[str, Any]:
    """The status of a seed that has not begun."""
    return {"status": "waiting", "message": "", "step": 0}


class Superseded(Exception):
    """Another process has begun to train the seed since, and this one may write nothing more."""


def begin(folder: Path, counters: dict[str, Any]) -> list[dict[str, Any]]:
    """Say that this process now trains the seed, from where `counters` stand. Returns all attempts, this one last.
    Raises OSError."""
    facts = read(folder) or waiting()
    facts.pop("final", None)  # a seed that goes on has no final score
    facts.pop("saved", None)  # it may have to begin from an earlier checkpoint
    attempt = {
        "host": platform.node(),
        "cpu": processor.name(),
        "pid": os.getpid(),
        "step": counters["step"],
        "started": now(),
    }
    attempts = [*facts.get("attempts", []), attempt]
    write(folder, {**facts, **counters, "status": "running", "message": "", "attempts": attempts})
    return attempts


def require_current(folder: Path, attempt: dict[str, Any]) -> None:
    """Raise Superseded where another process has begun to train the seed after `attempt`: a machine that was only cut
    off from the others, say, does not write over what has been done instead. (File locks do not hold on NFS.)"""
    newest = (read(folder) or waiting()).get("attempts", [attempt])[-1]
    if newest != attempt:
        place = f"{newest.get('host')}, process {newest.get('pid')}"
        raise Superseded(f"{folder}: another process trains this seed now ({place})")
