"""One file format for checkpoints and policies: a tree of tensors and plain data in one safetensors file.

Tensors and arrays become entries of the file; everything else (numbers, strings, lists, dicts; integers of any size,
floats exactly) becomes JSON in its header. Writing goes to a temporary name, is flushed to disk and renamed, so a file
that has its name is whole. Reading executes nothing.

    step_000000100000.safetensors   full state, from which training continues: the last few are kept
    latest                          the name of the newest of them
    best.safetensors                the policy with the best evaluation so far
    final.safetensors               the policy at the end of the budget
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rlexp.util.errors import UserError
from rlexp.util.files import in_one_line, read_text

FORMAT = "rlexp 1"
LARGEST_HEADER = 8_000_000  # bytes; plain data of a few thousand is usual


def save(path: Path, tree: Mapping[str, Any]) -> str:
    """Write `tree` to `path`, whole or not at all. Raises OSError (a full disk, say) and leaves what was there. Returns
    a digest of it."""
    tensors: dict[str, torch.Tensor] = {}
    packed = _pack(tree, "", tensors)
    header = json.dumps(packed)
    if len(header) > LARGEST_HEADER:
        raise TypeError(f"cannot save {len(header):,} characters of plain data: make its largest parts arrays")
    digests = json.dumps({branch: _digest(node, tensors.__getitem__) for branch, node in packed.items()})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata={"format": FORMAT, "tree": header, "digests": digests})
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except SafetensorError as error:  # how the library reports a full disk
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return _of_all(digests)


def _of_all(digests: str) -> str:
    return hashlib.sha256(digests.encode()).hexdigest()[:16]


def digest(path: Path) -> str | None:
    """What `save` returned when it wrote the file at `path`; None for files of before there were digests."""
    with safe_open(path, framework="pt") as file:
        digests = (file.metadata() or {}).get("digests")
    return None if digests is None else _of_all(digests)


def load(path: Path, part: str | None = None) -> dict[str, Any]:
    """The tree at `path`, or only its branch `part`. Raises UserError for a missing, broken, changed or foreign
    file."""
    if not path.is_file():
        raise UserError(f"{path}: {'is no file' if path.exists() else 'no such file'}")
    try:
        _check_size(path)
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise UserError(f"{path}: is a safetensors file, but not one that this version of rlexp wrote")
            tree = json.loads(header["tree"])
            if part is not None and part not in tree:
                raise UserError(f"{path}: holds no {part} but {', '.join(tree)}")
            branches = {part: tree[part]} if part is not None else tree
            _check_digests(path, branches, json.loads(header.get("digests", "{}")), file)
            found = _unpack(branches, file, set())
            return found[part] if part is not None else found
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a checkpoint or policy ({in_one_line(error)})") from None


def _check_size(path: Path) -> None:
    """Raise ValueError where a header is larger than any that is written: parsing it would take all memory."""
    with open(path, "rb") as file:
        declared = int.from_bytes(file.read(8), "little")
    if declared > LARGEST_HEADER * 2 or declared > path.stat().st_size:  # quotes in it are escaped
        raise ValueError(f"its header claims {declared:,} bytes")


def _digest(node: Any, tensor_at: Callable[[str], torch.Tensor]) -> str:
    """A word that is the same for the same branch: its plain data, and the tensors that it names."""
    digest = hashlib.sha256(json.dumps(node).encode())
    for name in _names(node):
        tensor = tensor_at(name)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_digests(path: Path, branches: Mapping[str, Any], digests: Mapping[str, str], file: Any) -> None:
    """Raise UserError where a branch is not what was saved. Files of before there were digests have none."""
    for branch, node in branches.items():
        if branch in digests and _digest(node, file.get_tensor) != digests[branch]:
            raise UserError(f"{path}: its {branch} is not what was saved: the file has been changed or damaged since")


def _names(node: Any) -> Iterator[str]:
    """The names of all tensors of a packed tree."""
    if isinstance(node, list):
        for value in node:
            yield from _names(value)
    elif isinstance(node, dict):
        name = node.get("$tensor", node.get("$array"))
        if isinstance(name, str):
            yield name
        else:
            for value in node.values():
                yield from _names(value)


def save_step(folder: Path, step: int, tree: Mapping[str, Any], keep: int) -> str:
    """Save the full state at `step`, point `latest` to it, and drop all but the newest `keep`. Returns its digest."""
    path = folder / f"step_{step:012d}.safetensors"
    saved = save(path, tree)
    write_text(folder / "latest", path.name)
    for old in sorted(folder.glob("step_*.safetensors"))[:-keep]:
        old.unlink()
    return saved


def latest(folder: Path) -> Path | None:
    """The newest full checkpoint in `folder`, or None."""
    return next(iter(newest_first(folder)), None)


def newest_first(folder: Path) -> list[Path]:
    """The full checkpoints in `folder`, the newest first. Raises UserError where `latest` is broken."""
    found = sorted(folder.glob("step_*.safetensors"), reverse=True)
    pointer = folder / "latest"
    if not pointer.exists():
        return found
    name = read_text(pointer).strip()
    if Path(name).name != name or not name.startswith("step_"):
        raise UserError(f"{pointer}: names no checkpoint of its folder; remove it, and the newest is taken")
    named = folder / name  # later ones were written by a process that was killed before it pointed to them
    return [named, *(path for path in found if path.name < name)]


@dataclass(frozen=True)
class Newest:
    """The newest full state that can be read, and what was wrong with newer ones."""

    path: Path
    tree: dict[str, Any]
    broken: list[str]


def load_newest(folder: Path) -> Newest | None:
    """The newest full state in `folder` that is whole; None where there was none yet. Raises UserError where there is
    none left."""
    broken: list[str] = []
    for path in newest_first(folder):
        try:
            return Newest(path, load(path), broken)
        except UserError as error:
            broken.append(str(error))
    if broken:
        hint = "no other is left; remove that folder, and the seed begins anew"
        raise UserError(f"{broken[0]}; {hint}")
    return None


def write_text(path: Path, text: str) -> None:
    """Replace the text file at `path`, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _pack(node: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(node, torch.Tensor):
        tensors[path] = node.detach().cpu().contiguous().clone()
        return {"$tensor": path}
    if isinstance(node, np.ndarray):
        tensors[path] = torch.from_numpy(np.array(node, order="C"))
        return {"$array": path}
    if isinstance(node, np.generic):
        return node.item()
    if isinstance(node, Mapping):
        return {str(key): _pack(value, f"{path}/{_escape(str(key))}", tensors) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_pack(value, f"{path}/{i}", tensors) for i, value in enumerate(node)]
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"cannot save {type(node).__name__} at {path}: state is tensors, arrays and plain data")


def _escape(key: str) -> str:
    """A key as one part of a path, as in JSON pointers (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def _unpack(node: Any, file: Any, seen: set[str]) -> Any:
    """The tree that was packed. `seen`: names of the tensors that were read; each is written once, and a file that
    names one a million times would fill the memory."""
    if isinstance(node, dict):
        name = node.get("$tensor", node.get("$array"))
        if isinstance(name, str):
            if name in seen:
                raise ValueError(f"it names the tensor {name} twice")
            seen.add(name)
            return file.get_tensor(name) if "$tensor" in node else file.get_tensor(name).numpy()
        return {key: _unpack(value, file, seen) for key, value in node.items()}
    if isinstance(node, list):
        return [_unpack(value, file, seen) for value in node]
    return node
