"""One update: forward, backward, clip, Adam, EMA, eager or compiled, for every algorithm.

A loss is a plain function `loss(net, batch) -> (scalar, {name: scalar})`. The learner lays all parameters of `net` in
one vector θ (the module's parameters are views into it) and performs, for the gradient g:

    g ← g · min(1, clip / ‖g‖)                                    gradient clipping by global norm
    m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²               Adam, Kingma & Ba 2015, algorithm 1
    θ ← θ − lr · (m̂ / (√v̂ + ε) + wd · θ)                          decoupled decay, Loshchilov & Hutter 2019
    θ̄ ← d θ̄ + (1 − d) θ                                           average of the weights, where `ema` = d is set

For networks as small as these a CPU spends its time on dispatch, not arithmetic: one vector makes the optimiser a
handful of operations, and `compile=True` turns the whole update, gradient included, into one compiled function
(torch.compile of torch.func.grad_and_value). Compiling changes rounding, not meaning.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

Batch = Mapping[str, Tensor]
Loss = Callable[[Any, Batch], tuple[Tensor, dict[str, Tensor]]]


class _WithLoss(nn.Module):
    """A module whose forward pass is the loss, so that `functional_call` can swap the parameters of any network."""

    def __init__(self, net: nn.Module, loss: Loss):
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss(self.net, batch)


class Learner:
    """Owns the parameters of `net`, their optimiser state and their average; `update(batch)` is one optimiser step."""

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip: float | None = None,
        ema: float | None = None,
        compile: bool = False,
    ):
        self.net, self.lr, self.betas, self.eps = net, lr, betas, eps
        self.weight_decay, self.clip, self.ema_decay = weight_decay, clip, ema
        self._with_loss = _WithLoss(net, loss)
        self._named = dict(self._with_loss.named_parameters())
        self.theta = torch.cat([p.detach().reshape(-1) for p in self._named.values()])
        self.grad = torch.zeros_like(self.theta)
        for p, value, grad in zip(self._named.values(), self._split(self.theta), self._split(self.grad), strict=True):
            p.data, p.grad = value, grad
        self.m, self.v = torch.zeros_like(self.theta), torch.zeros_like(self.theta)
        self.t = torch.zeros((), dtype=torch.float64, device=self.theta.device)  # 1 − β₂ᵗ needs the digits
        self.ema = self.theta.clone() if ema is not None else None
        self._update = torch.compile(self._pure, fullgraph=True, dynamic=False) if compile else self._eager

    def _split(self, vector: Tensor) -> list[Tensor]:
        sizes = [p.numel() for p in self._named.values()]
        return [part.view_as(p) for part, p in zip(vector.split(sizes), self._named.values(), strict=True)]

    def update(self, batch: Batch, lr: float | None = None) -> dict[str, Tensor]:
        """One optimiser step on `batch`; returns the loss's metrics and `opt/grad_norm` (unclipped) as tensors."""
        step_size = torch.tensor(self.lr if lr is None else lr)  # a tensor: a schedule must not recompile
        return self._update(batch, step_size)

    def _eager(self, batch: Batch, lr: Tensor) -> dict[str, Tensor]:
        self.grad.zero_()
        loss, metrics = self._with_loss(batch)
        loss.backward()
        with torch.no_grad():
            norm = self._descend(self.grad, lr)
        return {**{name: value.detach() for name, value in metrics.items()}, "opt/grad_norm": norm}

    def _pure(self, batch: Batch, lr: Tensor) -> dict[str, Tensor]:
        params = dict(zip(self._named, self._split(self.theta), strict=True))
        grads, (_, metrics) = grad_and_value(lambda p: functional_call(self._with_loss, p, (batch,)), has_aux=True)(
            params
        )
        with torch.no_grad():
            norm = self._descend(torch.cat([grads[name].reshape(-1) for name in params]), lr)
        return {**{name: value.detach() for name, value in metrics.items()}, "opt/grad_norm": norm}

    def _descend(self, g: Tensor, lr: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(g)
        if self.clip is not None:
            g = g * (self.clip / (norm + 1e-6)).clamp(max=1.0)
        b1, b2 = self.betas
        self.t.add_(1)
        self.m.lerp_(g, 1 - b1)
        self.v.mul_(b2).addcmul_(g, g, value=1 - b2)
        step = (self.m / (1 - b1**self.t)) / ((self.v / (1 - b2**self.t)).sqrt() + self.eps)
        if self.weight_decay:
            step = step + self.weight_decay * self.theta
        self.theta.sub_(lr * step)
        if self.ema is not None and self.ema_decay is not None:
            self.ema.lerp_(self.theta, 1 - self.ema_decay)
        return norm

    def state_dict(self) -> dict[str, Any]:
        state = {"theta": self.theta, "m": self.m, "v": self.v, "t": self.t}
        return state if self.ema is None else {**state, "ema": self.ema}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self.state_dict():
            getattr(self, name).copy_(state[name])  # in place: the module's parameters are views


def mean_metrics(metrics: list[dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each metric over updates, as numbers."""
    return {name: float(torch.stack([m[name] for m in metrics]).mean()) for name in metrics[0]} if metrics else {}
