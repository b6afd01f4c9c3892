"""metrics.jsonl: one JSON object a line, numbers written exactly."""

import json
import os
from pathlib import Path
from typing import Any

from rlexp.util.errors import UserError

Row = dict[str, Any]  # "step", "env_steps", "updates", "seconds", then metrics by name
COUNTERS = ("step", "env_steps", "updates", "seconds")


def check_kept(path: Path, keep: int) -> None:
    """Raise UserError where `path` has not the `keep` bytes that a checkpoint counts on."""
    if keep and (not path.is_file() or path.stat().st_size < keep):
        raise UserError(f"{path}: is gone or shorter than the checkpoint says; it has been changed since")


class JsonLines:
    """One JSON object a line; numbers are written exactly."""

    def __init__(self, path: Path, keep: int):
        """Append to `path` behind its first `keep` bytes: what a resumed run had not yet done is dropped."""
        check_kept(path, keep)
        self.file = open(path, "ab")
        self.file.truncate(keep)

    def write(self, row: Row) -> None:
        self.file.write(json.dumps(row).encode() + b"\n")
        self.file.flush()

    def size(self) -> int:
        """Bytes written, flushed to disk: what `keep` may be later."""
        os.fsync(self.file.fileno())
        return self.file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self.file.close()


def read(path: Path) -> list[Row]:
    """Rows of a metrics.jsonl; a last line that is still being written is left out."""
    if not path.exists():
        return []
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise UserError(f"{path}: line {number} cannot be read; it has been changed since") from None
    return rows
