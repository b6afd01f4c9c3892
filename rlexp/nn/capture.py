"""CUDA graphs: a function of tensors whose kernels are recorded once and then started all together.

An update of a small network is hundreds of kernels of a few microseconds. Starting one from Python takes longer than it
runs; a graph starts all of them by one call. What is computed, and by which kernels, stays the same.
"""

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

EAGER = 3  # calls before a recording: libraries choose their kernels, and allocate, when they are first called
MOST = 8  # recordings of one function: a function whose inputs have ever new shapes is called as it is


class Captured:
    """`function` of named tensors, giving one tensor. Inputs may be anywhere; it gets them on `device`.

    On a GPU, inputs of shapes that were seen before replay a recording, one for each set of shapes. So `function` may
    read and write, besides its inputs, only tensors that stay where they are, and torch's own CUDA generator, and must
    not look at values. What it returns is the caller's own.
    """

    def __init__(self, function: Callable[[Mapping[str, Tensor]], Tensor], device: str | torch.device):
        self.function = function
        self.device = torch.device(device)
        self.seen: Counter[Any] = Counter()
        self.recordings: dict[Any, tuple[Any, dict[str, Tensor], Tensor]] = {}

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        shapes = tuple((name, x.shape, x.dtype) for name, x in inputs.items())
        if shapes not in self.recordings:
            inputs = moved(inputs, self.device)
            self.seen[shapes] += 1
            full = len(self.recordings) == MOST
            if self.device.type != "cuda" or self.seen[shapes] <= EAGER or full:
                return self.function(inputs)
            self.recordings[shapes] = self._record(inputs)
        graph, places, output = self.recordings[shapes]
        for name, x in inputs.items():
            places[name].copy_(x, non_blocking=True)
        graph.replay()
        return output.clone()

    def _record(self, inputs: Mapping[str, Tensor]) -> tuple[Any, dict[str, Tensor], Tensor]:
        """A graph, the tensors that it reads its inputs from, and the one that it writes to. Nothing is computed."""
        graph = torch.cuda.CUDAGraph()
        places = {name: x.clone() for name, x in inputs.items()}
        with _no_collection(), torch.cuda.graph(graph):
            output = self.function(places)
        return graph, places, output


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage is collected within it: freeing an older recording's memory would spoil the one that is being made."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def moved(inputs: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The same tensors on `device`."""
    return {name: x.to(device, non_blocking=True) for name, x in inputs.items()}
