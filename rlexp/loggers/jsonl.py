"""metrics.jsonl: one JSON object a line, numbers written exactly."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from rlexp.util.errors import UserError
from rlexp.util.files import read_text

Row = dict[str, Any]  # "step", "env_steps", "updates", "seconds", then metrics by name
COUNTERS = ("step", "env_steps", "updates", "seconds")


def check_kept(path: Path, keep: int, digest: str | None = None) -> None:
    """Raise UserError where `path` has not the `keep` bytes that a checkpoint counts on, or others than those with
    `digest`."""
    if keep and (not path.is_file() or path.stat().st_size < keep):
        raise UserError(f"{path}: is gone or shorter than the checkpoint says; it has been changed since")
    if digest is not None and _kept(path, keep).hexdigest() != digest:
        raise UserError(
            f"{path}: is not what it was when the checkpoint was saved, it has been changed since; put back what it "
            "was, or begin a new run"
        )


def _kept(path: Path, keep: int) -> Any:
    """The hash of the first `keep` bytes of a file, which may be missing where these are none."""
    found = hashlib.sha256()
    if keep:
        with open(path, "rb") as file:
            found.update(file.read(keep))
    return found


class JsonLines:
    """One JSON object a line; numbers are written exactly."""

    def __init__(self, path: Path, keep: int, digest: str | None = None):
        """Append to `path` behind its first `keep` bytes, whose digest it is: what a resumed run had not yet done is
        dropped."""
        check_kept(path, keep, digest)
        self.hash = _kept(path, keep)
        self.file = open(path, "ab")
        self.file.truncate(keep)

    def write(self, row: Row) -> None:
        """Append a row. Raises ValueError for NaN and infinity, which are no JSON."""
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        self.file.write(line)
        self.file.flush()
        self.hash.update(line)

    def size(self) -> int:
        """Bytes written, flushed to disk: what `keep` may be later."""
        os.fsync(self.file.fileno())
        return self.file.seek(0, os.SEEK_END)

    def digest(self) -> str:
        """Of the bytes written: what `digest` may be later."""
        return self.hash.hexdigest()

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
