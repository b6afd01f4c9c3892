"""Named tensors from a file of PyTorch, without executing what is in it."""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from rlexp.util import torch_files
from rlexp.util.errors import UserError

DEEPEST = 5  # mappings within each other
MOST = 100_000  # names, of tensors and others


def read_tensors(path: Path, content: bytes | None = None) -> dict[str, torch.Tensor]:
    """All tensors of a file that `torch.save` wrote, by name; those of mappings within mappings have both names with a
    dot between. `content`: what to read instead of the file at `path`. Raises UserError."""
    try:
        tensors = dict(_flat(path, torch_files.load(path, content), "", itertools.count()))
    except UserError:
        raise
    except Exception as error:  # torch's many errors, refusals to execute code among them
        why = torch_files.reason(error, "tensors alone; torch.save(model.state_dict(), FILE) writes these")
        raise UserError(f"{path}: cannot be read as a state_dict ({why})") from None
    size = len(content) if content is not None else path.stat().st_size
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.numel() * tensor.element_size() > size:
            raise UserError(f"{path}: {name} claims more numbers than the file has")
    return tensors


def _flat(path: Path, node: Any, name: str, names: Iterator[int], depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of all tensors in `node`. `names` counts all names. Raises UserError where there are none, or too
    many."""
    if isinstance(node, torch.Tensor):
        yield name, node.detach()
    if depth == 0 and not isinstance(node, Mapping):
        raise UserError(f"{path}: is not a state_dict, a mapping of names to tensors, but a {type(node).__name__}")
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        if depth == DEEPEST or next(names) >= MOST:
            raise UserError(f"{path}: is not a state_dict, it has too many names or mappings within each other")
        yield from _flat(path, value, f"{name}.{key}".lstrip("."), names, depth + 1)
