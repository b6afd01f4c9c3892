"""metrics.jsonl: one JSON object a line, numbers written exactly."""

import json
import os
from pathlib import Path
from typing import Any

from rlexp.util.errors import UserError
from rlexp.util.files import read_text

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
    """Rows of a metrics.jsonl; a last line that is still being written is left out. Raises UserError where a line is no
    row."""
    if not path.exists():
        return []
    *lines, _ = read_text(path).split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not _is_row(row):
            raise UserError(f"{path}: line {number} cannot be read; it has been changed since")
        rows.append(row)
    return rows


def _is_row(row: Any) -> bool:
    """Whether it has the counters, and numbers only."""
    return isinstance(row, dict) and "step" in row and all(isinstance(value, int | float) for value in row.values())
