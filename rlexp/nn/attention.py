"""Attention with one head in half the products: tokens x attend to tokens m. Vaswani et al. 2017.

    softmax((x W_q + b_q) (m W_k)ᵀ / √D) (m W_v + b_v) W_o + b_o

A single head's weights stand side by side, so that their products can be made first:

    A = W_q W_kᵀ / √D,   a = b_q W_kᵀ / √D,   C = W_v W_o,   c = b_v W_o
    softmax((x A + a) mᵀ) (m C + c) + b_o

This is the same but for rounding, and so are the gradients of all weights. Of four products of tokens with weights two
are left; where tokens are many more than D, those of weights with weights cost little. Each of several heads would have
an A and a C of its own, as large as these, and nothing would be saved.

Shapes: B samples, N and M tokens, D width. `nn.Linear` keeps weights transposed, and so are A and C here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


def weights_first(x_BND: Tensor, heads: int) -> bool:
    """Whether that is done: in training on a CPU, where tokens are at least twice as many as D. Who acts has fewer, and
    keeps the numbers of former versions; to a GPU more kernels are dearer."""
    rows = x_BND.shape[0] * x_BND.shape[1]
    return heads == 1 and rows >= 2 * x_BND.shape[2] and not x_BND.is_cuda and torch.is_grad_enabled()


class OneHead(NamedTuple):
    """The products of one head's weights."""

    score: Tensor  # Aᵀ
    score_bias: Tensor  # a
    value: Tensor  # Cᵀ
    value_bias: Tensor  # c
    bias: Tensor  # b_o

    @classmethod
    def of(cls, w_q: Tensor, b_q: Tensor, w_k: Tensor, w_v: Tensor, b_v: Tensor, out: nn.Linear) -> OneHead:
        """Of (D, D) weights and (D,) biases as `nn.Linear` keeps them."""
        scaled_k = w_k.mT * w_q.shape[0] ** -0.5
        return cls(scaled_k @ w_q, scaled_k @ b_q, out.weight @ w_v, out.weight @ b_v, out.bias)

    def scores(self, x_BND: Tensor, m_BMD: Tensor, bias: Tensor) -> Tensor:
        """What the softmax is taken of, (B, N, M), with `bias` (a mask) added."""
        q_BND = linear(x_BND, self.score, self.score_bias)
        scores: Tensor = _Scores.apply(bias.to(q_BND.dtype), q_BND, m_BMD.to(q_BND.dtype))  # type: ignore[no-untyped-call]
        return scores

    def read(self, weight_BNM: Tensor, m_BMD: Tensor) -> Tensor:
        """What x reads with these weights, whatever their sums are: (B, N, D). The fewer rows go through C."""
        _, n, m = weight_BNM.shape
        if n < m:
            sums_BN1 = weight_BNM.sum(-1, keepdim=True)
            return linear(weight_BNM @ m_BMD, self.value, self.bias) + sums_BN1 * self.value_bias
        return torch.baddbmm(self.bias, weight_BNM, linear(m_BMD, self.value, self.value_bias))

    def attend(self, x_BND: Tensor, m_BMD: Tensor, bias: Tensor) -> Tensor:
        """All of it, (B, N, D), for N ≤ M: the few rows of N go through C. That the weights sum to 1 makes one bias of
        two."""
        weight_BNM = self.scores(x_BND, m_BMD, bias).softmax(-1)
        return linear(weight_BNM @ m_BMD, self.value, self.value_bias + self.bias)


class _Scores(torch.autograd.Function):
    """bias + q mᵀ, without a gradient of the bias. That of m comes out in the order of m, not transposed."""

    @staticmethod
    def forward(bias: Tensor, q_BND: Tensor, m_BMD: Tensor) -> Tensor:
        return torch.baddbmm(bias, q_BND, m_BMD.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[None, Tensor, Tensor]:
        q_BND, m_BMD = ctx.saved_tensors
        return None, grad[0] @ m_BMD, grad[0].mT @ q_BND
