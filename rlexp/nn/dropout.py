"""Dropout whose mask a CPU makes of 16 random bits per unit, not of a float. On a GPU it is PyTorch's, one kernel."""

import math

import torch
from torch import Tensor
from torch.nn.functional import dropout as torchs


def mask_scale(like: Tensor, p: float) -> tuple[Tensor, float]:
    """A mask, 0 with probability p and else 1, and what it is to be multiplied by. p is rounded to 1/65,536."""
    level = min(round(p * 2**16), 2**16 - 1)
    n = like.numel()
    size = (math.ceil(n / 4),)
    low = -(2**63)
    if torch.compiler.is_compiling():  # does not know random_
        words = torch.randint(low, -low - 1, size, device=like.device)
    else:
        words = torch.empty(size, dtype=torch.int64, device=like.device).random_(low, None)
    keep = words.view(torch.int16)[:n].view(like.shape)
    keep.ge_(level - 2**15)  # 0 or 1 in its place: what gives bools, and makes floats of them, takes four times as long
    return keep.to(like.dtype), 1 / (1 - level / 2**16)


def dropout(x: Tensor, p: float) -> Tensor:
    if x.is_cuda or not p:
        return torchs(x, p)
    keep, scale = mask_scale(x, p)
    return x * keep.mul_(scale)


def add_dropout(x: Tensor, y: Tensor, p: float) -> Tensor:
    """x + dropout(y), in one pass over memory."""
    if x.is_cuda or not p:
        return x + torchs(y, p)
    keep, scale = mask_scale(y, p)
    return torch.addcmul(x, y, keep, value=scale)
