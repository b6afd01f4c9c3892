"""Named tensors from a file of PyTorch, without executing what is in it."""

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import torch

from rlexp.util.errors import UserError

DEEPEST = 5  # mappings within each other
MOST = 10_000  # names


def read_tensors(path: Path, content: bytes | None = None) -> dict[str, torch.Tensor]:
    """All tensors of a file that `torch.save` wrote, by name; those of mappings within mappings have both names with a
    dot between. `content`: what to read instead of the file at `path`. Raises UserError."""
    size = len(content) if content is not None else path.stat().st_size
    source: Any = path if content is None else io.BytesIO(content)
    _check_archive(path, source, size)
    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
        tensors = dict(_flat(path, found, ""))
    except UserError:
        raise
    except Exception as error:  # torch's many errors, refusals to execute code among them
        raise UserError(f"{path}: cannot be read as a state_dict ({_reason(error)})") from None
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > size:
            raise UserError(f"{path}: {name} claims more numbers than the file has")
    return tensors


def _reason(error: Exception) -> str:
    """Why torch could not read a file; its own advice is to run what is in it."""
    text = " ".join(str(error).split())
    name = re.search(r"GLOBAL ([\w.]+)", text)
    if name:
        return f"it holds {name[1]}, not tensors alone; torch.save(model.state_dict(), FILE) writes these"
    if not isinstance(error, RuntimeError | UnpicklingError) or "Weights only load failed" in text:
        return "torch.save has not written it, or not whole"
    return text[:150]


def _check_archive(path: Path, source: Path | BinaryIO, size: int) -> None:
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


def _flat(path: Path, node: Any, name: str, depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of all tensors in `node`. Raises UserError where there are no names, or too many."""
    if isinstance(node, torch.Tensor):
        yield name, node.detach()
    if depth == 0 and not isinstance(node, Mapping):
        raise UserError(f"{path}: is not a state_dict, a mapping of names to tensors, but a {type(node).__name__}")
    if not isinstance(node, Mapping):
        return
    if depth == DEEPEST or len(node) > MOST:
        raise UserError(f"{path}: is not a state_dict, it has too many names or mappings within each other")
    for key, value in node.items():
        yield from _flat(path, value, f"{name}.{key}".lstrip("."), depth + 1)
