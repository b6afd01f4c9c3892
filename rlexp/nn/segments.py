"""Sums over consecutive pieces of different lengths."""

import torch
from torch import Tensor


def segment_sums(x_MN: Tensor, length_P: Tensor) -> Tensor:
    """(M, P): the sum over each of P consecutive pieces of the last axis, of `length_P` steps, N in all.

    The same bit for bit at every call: on a GPU `index_add` adds in no fixed order, so `segment_reduce` does it there.
    """
    if x_MN.is_cuda:
        sums_PM = torch.segment_reduce(x_MN.mT, "sum", lengths=length_P, unsafe=True)
        return sums_PM.mT
    place_N = torch.repeat_interleave(torch.arange(len(length_P)), length_P)
    return x_MN.new_zeros(len(x_MN), len(length_P)).index_add(1, place_N, x_MN)
