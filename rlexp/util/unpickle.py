"""Reading pickles of numpy arrays in plain containers without executing anything: no other class is admitted.

Where a file is known to hold objects of others' classes, a `Stub` takes the place of each, which does nothing.
"""

import mmap
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np


class Wrong(Exception):
    """A file can be read, and what it holds is wrong."""


class Stub:
    """Stands for an object of somebody else's class, or what a function of theirs would return: it keeps its state."""

    state: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__["state"] = state


class Dtype:
    """Stands for a pickled numpy dtype of plain numbers."""

    def __init__(self, name: str, *_: Any):
        if not re.fullmatch(r"[<>|=]?[biuf][1248]", str(name)):
            raise Wrong(f"holds an array of '{name}'; only those of numbers are read")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder("=" if state[1] == "|" else state[1])


class Array:
    """Stands for a pickled numpy array: numpy's own code for it never sees what the file says."""

    def __init__(self, *_: Any):
        self.array = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        self.array = _frombuffer(raw, dtype, shape, "F" if fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.array.astype(dtype or self.array.dtype)

    def __len__(self) -> int:
        return len(self.array)


def _frombuffer(raw: Any, dtype: Dtype, shape: tuple, order: Any) -> np.ndarray:
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _latin1(text: str, how: str) -> bytes:
    if how != "latin1":
        raise Wrong(f"asks for the codec '{how}'")
    return text.encode("latin1")


def _bytearray(content: bytes | str = b"", how: str = "latin1") -> bytearray:
    if not isinstance(content, bytes | str):  # a length: of nothing, and of any size
        raise Wrong("asks for an empty array of bytes")
    if isinstance(content, str):
        content = _latin1(content, how.replace("-", ""))
    return bytearray(content)


_ADMITTED = {
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
    ("_codecs", "encode"): _latin1,  # how protocols 0 to 2 write bytes
    ("builtins", "list"): list,
    ("builtins", "dict"): dict,
    ("collections", "OrderedDict"): dict,
    ("builtins", "bytearray"): _bytearray,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _ADMITTED[_core + ".multiarray", "_reconstruct"] = Array
    _ADMITTED[_core + ".multiarray", "scalar"] = lambda dtype, raw: np.frombuffer(raw, dtype.dtype)[0]
    _ADMITTED[_core + ".numeric", "_frombuffer"] = _frombuffer


SLACK = 1_000_000  # numbers, or bytes, that are little in any case
_Python: Any = pickle._Unpickler  # the faster one makes as long a list as a file's bytes tell it to


class Unpickler(_Python):
    """`size`: of the file, in bytes. `stubs`: a pattern of the modules whose classes and functions become `Stub`s."""

    def __init__(self, content: Any, size: int = 100_000_000, stubs: str | None = None):
        super().__init__(content)
        self.copied = 0
        self.most = SLACK + 4 * size
        self.stubs = stubs

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)
        if (module, name) not in _ADMITTED:
            if self.stubs is not None and re.fullmatch(self.stubs, module):
                return Stub
            raise Wrong(f"asks for {module}.{name}; only numpy arrays in plain containers are read, for safety")
        return _ADMITTED[module, name]

    def load_build(self) -> None:
        """Python's own sets attributes on whatever the file names, on functions and classes too."""
        if not isinstance(self.stack[-2], Array | Dtype | Stub):
            raise Wrong("sets attributes of what is no array")
        pickle._Unpickler.load_build(self)  # type: ignore[attr-defined]

    def load_reduce(self) -> None:
        """Calls copy their arguments; a file may not ask for a thousand copies of its largest part."""
        arguments = self.stack[-1]
        for one in arguments if isinstance(arguments, tuple) else ():
            if isinstance(one, list | tuple | dict | str | bytes | bytearray):
                self.copied += len(one)
        if self.copied > self.most:
            raise Wrong("copies the same things again and again")
        pickle._Unpickler.load_reduce(self)  # type: ignore[attr-defined]

    def load_bytearray8(self) -> None:
        """As many bytes as the file has, where Python's own makes room for as many as it claims."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    dispatch = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: load_bytearray8}
    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.REDUCE[0]] = load_reduce


def load(path: Path, stubs: str | None = None) -> Any:
    """What a pickle holds; arrays are `Array`s, and what is of a module that fits the pattern `stubs` a `Stub`. Raises
    Wrong for what is not admitted, and what broken bytes raise."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        size = len(content)
        found = Unpickler(content, size, stubs).load()  # of a map one cannot read, or make room for, more than there is
    if expanded(found) > SLACK + 16 * size:
        raise Wrong("names the same lists so often that they would fill the memory")
    return found


def expanded(node: Any) -> int:
    """How many numbers there are if each mention of a list, array or tensor counts. Raises Wrong for what holds
    itself."""
    return _expanded(node, {})


def _expanded(node: Any, known: dict[int, int]) -> int:
    """As `expanded`. `known`: of those seen, by identity."""
    if isinstance(node, Array):
        return node.array.size
    if isinstance(node, np.ndarray):
        return node.size
    if hasattr(node, "numel"):
        return node.numel()
    if not isinstance(node, list | tuple | dict):
        return 1
    if id(node) not in known:
        known[id(node)] = -1  # not known yet
        parts = node.values() if isinstance(node, dict) else node
        known[id(node)] = 1 + sum(_expanded(part, known) for part in parts)
    if known[id(node)] < 0:
        raise Wrong("has a list that holds itself")
    return known[id(node)]
