"""One file format for checkpoints and policies: a tree of tensors and plain data in one safetensors file.

Tensors and arrays become entries of the file; everything else (numbers, strings, lists, dicts; integers of any size,
floats exactly) becomes JSON in its header. Writing goes to a temporary name, is flushed to disk and renamed, so a file
that has its name is whole. Reading executes nothing.

    step_000000100000.safetensors   full state, from which training continues: the last few are kept
    latest                          the name of the newest of them
    best.safetensors                the policy with the best evaluation so far
    final.safetensors               the policy at the end of the budget
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rlexp.util.errors import UserError

FORMAT = "rlexp 1"


def save(path: Path, tree: Mapping[str, Any]) -> None:
    """Write `tree` to `path`, whole or not at all. Raises OSError (a full disk, say) and leaves what was there."""
    tensors: dict[str, torch.Tensor] = {}
    header = json.dumps(_pack(tree, "", tensors))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata={"format": FORMAT, "tree": header})
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except SafetensorError as error:  # how the library reports a full disk
        raise OSError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, part: str | None = None) -> dict[str, Any]:
    """The tree at `path`, or only its branch `part`. Raises UserError for a missing, broken or foreign file."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise UserError(f"{path}: is a safetensors file, but not one that this version of rlexp wrote")
            tree = json.loads(header["tree"])
            if part is not None:
                if part not in tree:
                    raise UserError(f"{path}: holds no {part} but {', '.join(tree)}")
                tree = tree[part]
            return _unpack(tree, file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a checkpoint or policy ({' '.join(str(error).split())})") from None


def save_step(folder: Path, step: int, tree: Mapping[str, Any], keep: int) -> None:
    """Save the full state at `step`, point `latest` to it, and drop all but the newest `keep`."""
    path = folder / f"step_{step:012d}.safetensors"
    save(path, tree)
    write_text(folder / "latest", path.name)
    for old in sorted(folder.glob("step_*.safetensors"))[:-keep]:
        old.unlink()


def latest(folder: Path) -> Path | None:
    """The newest full checkpoint in `folder`, or None."""
    pointer = folder / "latest"
    if pointer.exists():
        return folder / pointer.read_text().strip()
    return max(folder.glob("step_*.safetensors"), default=None)


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


def _unpack(node: Any, file: Any) -> Any:
    if isinstance(node, dict):
        if "$tensor" in node:
            return file.get_tensor(node["$tensor"])
        if "$array" in node:
            return file.get_tensor(node["$array"]).numpy()
        return {key: _unpack(value, file) for key, value in node.items()}
    if isinstance(node, list):
        return [_unpack(value, file) for value in node]
    return node
