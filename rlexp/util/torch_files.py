"""Files of `torch.save` from anybody: read without executing anything, or refused in a few words."""

import io
import re
import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch

from rlexp.util.errors import UserError


def load(path: Path, content: bytes | None = None) -> Any:
    """What torch's weights-only loader finds in a file, on the CPU. `content`: what to read instead of the file at
    `path`. Raises UserError for a zip that would be larger when unpacked, and torch's many errors."""
    source: Any = path if content is None else io.BytesIO(content)
    size = len(content) if content is not None else path.stat().st_size
    _check_archive(path, source, size)
    with warnings.catch_warnings():  # of pickles that are not torch's
        warnings.simplefilter("ignore")
        return torch.load(source, map_location="cpu", weights_only=True)


def reason(error: Exception, wanted: str) -> str:
    """Why torch could not read a file, which was to hold `wanted`; its own advice is to run what is in it."""
    text = " ".join(str(error).split())
    name = re.search(r"GLOBAL ([\w.]+)", text)
    if name:
        return f"it holds {name[1]}, not {wanted}"
    if not isinstance(error, RuntimeError | UnpicklingError) or re.search("Weights only|Unsupported operand", text):
        return "torch.save has not written it, or not whole"
    return text.rpartition("WeightsUnpickler error:")[2].strip()[:150]


def _check_archive(path: Path, source: Any, size: int) -> None:
    """Raise UserError where a zip would be larger when unpacked than it is."""
    if not is_zipfile(source):
        return
    try:
        with ZipFile(source) as archive:
            members = archive.infolist()
    except (BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a zip ({error})") from None
    compressed = any(member.compress_type != ZIP_STORED for member in members)
    if compressed or sum(member.file_size for member in members) > size:
        raise UserError(f"{path}: is a compressed zip, which PyTorch does not write")
    if not isinstance(source, Path):
        source.seek(0)
