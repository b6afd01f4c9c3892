"""A transformer decoder: queries attend to each other and to a memory. Vaswani et al. 2017; normalised first.

Each layer, with x the queries, m the memory, LN layer normalisation and heads of d dims:

    x ← x + attention of LN(x) to itself
    x ← x + Σ_heads softmax(LN(x) W_q (m W_k)ᵀ / √d) m W_v W_o
    x ← x + W₂ gelu(W₁ LN(x))

Where queries are fewer than memory tokens, the order of products matters. `forward` multiplies from the left: the few
rows (LN(x) W_q) W_kᵀ and (softmax(…) m) W_v go through the weights, not the many rows of m. Where one memory is
attended to many times, as in denoising, `remember` keeps the products that hold no x, W_q W_kᵀ mᵀ and m W_v W_o, and
`recall` goes through no weights of this attention at all. In training on a CPU with one head, `rlexp.nn.attention`
makes the products of weights first. All orders give the same numbers but for rounding. Keys have no bias, or one that
training with one head leaves out: it would add the same to all scores of a query, which softmax ignores.

Shapes: B samples, Q queries, K memory tokens, D width, H heads. A mask is True where a token exists.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from rlexp.nn.attention import OneHead, weights_first

Remembered = tuple[Tensor, Tensor, Tensor]


def absent(exists_BN: Tensor) -> Tensor:
    """What a mask adds to attention scores (B, Q, N): 0 where a token exists, −∞ where not."""
    bias_BN = torch.zeros(exists_BN.shape, device=exists_BN.device)
    return bias_BN.masked_fill_(~exists_BN, -torch.inf)[:, None]


class Layer(nn.Module):
    """Heads stand beside samples, head first: G = H · B groups. Modules are called without looking for hooks."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.norm_self = nn.LayerNorm(width)
        self.norm_cross = nn.LayerNorm(width)
        self.norm_mlp = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out_self = nn.Linear(width, width)
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, width)
        self.out_cross = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def _split(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) as (G, N, D / H)."""
        return x_BND if self.heads == 1 else torch.cat(x_BND.chunk(self.heads, -1))

    def _join(self, x_GNd: Tensor) -> Tensor:
        return x_GNd if self.heads == 1 else torch.cat(x_GNd.chunk(self.heads), -1)

    def _all_heads(self, x_BN: Tensor) -> Tensor:
        return x_BN if self.heads == 1 else x_BN.repeat(self.heads, 1, 1)

    def _per_head(self, x_GNd: Tensor, w_HdD: Tensor) -> Tensor:
        """Each head's vectors times its own matrix."""
        x_HNd = x_GNd.reshape(self.heads, -1, x_GNd.shape[-1])
        return (x_HNd @ w_HdD).view(*x_GNd.shape[:-1], -1)

    def _within(self, x_BQD: Tensor, bias: Tensor) -> Tensor:
        qkv = self.qkv.forward(self.norm_self.forward(x_BQD))
        q_GQd, k_GQd, v_GQd = map(self._split, qkv.chunk(3, -1))
        weight_GQQ = torch.baddbmm(bias, q_GQd, k_GQd.mT, alpha=self.scale).softmax(-1)
        read_GQd = torch.bmm(weight_GQQ, v_GQd)
        return x_BQD + self.out_self.forward(self._join(read_GQd))

    def _mlp(self, x_BQD: Tensor) -> Tensor:
        h = self.up.forward(self.norm_mlp.forward(x_BQD))
        return x_BQD + self.down.forward(gelu(h))

    def _key_value(self) -> tuple[Tensor, Tensor]:
        """W_kᵀ (H, d, D) and W_v (H, D, d)."""
        w_k = self.k.weight.unflatten(0, (self.heads, -1))
        w_v = self.v.weight.unflatten(0, (self.heads, -1)).mT
        return w_k, w_v

    def forward(
        self,
        x_BQD: Tensor,
        memory_BKD: Tensor,
        query_bias: Tensor,
        memory_bias: Tensor,
    ) -> Tensor:
        if weights_first(x_BQD, self.heads):
            return self._weights_first(x_BQD, memory_BKD, query_bias, memory_bias)
        x_BQD = self._within(x_BQD, self._all_heads(query_bias))
        memory_GKD = self._all_heads(memory_BKD)
        w_k, w_v = self._key_value()
        q_BQD = self.q.forward(self.norm_cross.forward(x_BQD))
        q_GQD = self._per_head(self._split(q_BQD), w_k)
        bias = self._all_heads(memory_bias)
        score_GQK = torch.baddbmm(bias, q_GQD, memory_GKD.mT, alpha=self.scale)
        read_GQd = self._per_head(score_GQK.softmax(-1) @ memory_GKD, w_v)
        read_BQD = self._join(read_GQd) + self.v.bias
        return self._mlp(x_BQD + self.out_cross.forward(read_BQD))

    def _weights_first(self, x_BQD: Tensor, memory_BKD: Tensor, query_bias: Tensor, memory_bias: Tensor) -> Tensor:
        """`forward` with one head."""
        w_q, w_k, w_v = self.qkv.weight.chunk(3)
        b_q, _, b_v = self.qkv.bias.chunk(3)
        within = OneHead.of(w_q, b_q, w_k, w_v, b_v, self.out_self)
        h_BQD = self.norm_self.forward(x_BQD)
        x_BQD = x_BQD + within.attend(h_BQD, h_BQD, query_bias)
        weights = self.q.weight, self.q.bias, self.k.weight, self.v.weight, self.v.bias
        across = OneHead.of(*weights, self.out_cross)
        h_BQD = self.norm_cross.forward(x_BQD)
        return self._mlp(x_BQD + across.attend(h_BQD, memory_BKD, memory_bias))

    def remember(self, memory_BKD: Tensor, bias: Tensor) -> Remembered:
        """W_q W_kᵀ mᵀ / √d as (G, D, K); what b_q and the mask add to scores, (G, 1, K); and
        (m W_v + b_v) W_o, (G, K, D)."""
        k_GKd = self._split(self.k(memory_BKD)) * self.scale
        v_GKd = self._split(self.v(memory_BKD))
        w_q = self.q.weight.unflatten(0, (self.heads, -1))
        w_o = self.out_cross.weight.mT.unflatten(0, (self.heads, -1))
        by_bias_GK1 = self._per_head(k_GKd, self.q.bias.view(self.heads, -1, 1))
        query_GDK = self._per_head(k_GKd, w_q).mT
        bias_G1K = by_bias_GK1.mT + self._all_heads(bias)
        # the weights of a softmax sum to 1: what is added to every token's value is added to what
        # is read
        value_GKD = self._per_head(v_GKd, w_o) + self.out_cross.bias / self.heads
        return query_GDK, bias_G1K, value_GKD

    def recall(self, x_BQD: Tensor, query_bias: Tensor, remembered: Remembered) -> Tensor:
        """The same as `forward`."""
        query_GDK, bias_G1K, value_GKD = remembered
        x_BQD = self._within(x_BQD, query_bias)
        x_GQD = self._all_heads(self.norm_cross.forward(x_BQD))
        weight_GQK = torch.baddbmm(bias_G1K, x_GQD, query_GDK).softmax(-1)
        if self.heads == 1:
            return self._mlp(torch.baddbmm(x_BQD, weight_GQK, value_GKD))
        read_HBQD = (weight_GQK @ value_GKD).unflatten(0, (self.heads, -1))
        return self._mlp(x_BQD + read_HBQD.sum(0))


class Decoder(nn.Module):
    """Layers one after another, and a last normalisation."""

    layers: Sequence[Layer]

    def __init__(self, layers: int, width: int, heads: int):
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))  # type: ignore[assignment]
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BQD: Tensor, memory_BKD: Tensor, query_BQ: Tensor, memory_BK: Tensor) -> Tensor:
        """`query_BQ` and `memory_BK` say which queries and memory tokens exist: at least one of each."""
        query_bias = absent(query_BQ)
        memory_bias = absent(memory_BK)
        for layer in self.layers:
            x_BQD = layer(x_BQD, memory_BKD, query_bias, memory_bias)
        return self.norm(x_BQD)

    def remember(self, memory_BKD: Tensor, memory_BK: Tensor) -> list[Remembered]:
        """What `recall` needs of a memory."""
        bias = absent(memory_BK)
        return [layer.remember(memory_BKD, bias) for layer in self.layers]

    def recall(self, x_BQD: Tensor, remembered: list[Remembered]) -> Tensor:
        """`forward` with a remembered memory, all queries existing."""
        bias = x_BQD.new_zeros(1)
        for layer, part in zip(self.layers, remembered, strict=True):
            x_BQD = layer.recall(x_BQD, bias, part)
        return self.norm(x_BQD)
