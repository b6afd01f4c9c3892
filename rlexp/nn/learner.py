"""One update: forward, backward, clip, Adam, EMA, eager or compiled, for every algorithm.

A loss is a plain function `loss(net, batch) -> (scalar, {name: scalar})`. The learner lays all parameters of `net` in
one vector θ (the module's parameters are views into it) and performs, for the gradient g:

    g ← g · min(1, clip / ‖g‖)                                    gradient clipping by global norm
    m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²               Adam, Kingma & Ba 2015, algorithm 1
    θ ← θ − lr · (m̂ / (√v̂ + ε) + wd · θ)                          decoupled decay, Loshchilov & Hutter 2019
    θ̄ ← d θ̄ + (1 − d) θ                                           average of the weights, where `ema` = d is set

For networks as small as these a CPU spends its time on dispatch, not arithmetic: one vector makes the optimiser a
handful of operations, and `compile=True` turns the whole update, gradient included, into one compiled function
(torch.compile of torch.func.grad_and_value). Compiling changes rounding, not meaning. On a GPU every update, compiled
or not, is recorded as a CUDA graph and replayed (`rlexp.nn.capture`).
"""

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from rlexp.nn.capture import Captured, moved
from rlexp.util.memory import keep_freed

Batch = Mapping[str, Tensor]
Loss = Callable[[Any, Batch], tuple[Tensor, dict[str, Tensor]]]
Rate = float | Tensor


class _WithLoss(nn.Module):
    """A module whose forward pass is the loss, so that `functional_call` can swap the parameters of any network."""

    def __init__(self, net: nn.Module, loss: Loss):
        super().__init__()
        self.net = net
        self.loss = loss

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.loss(self.net, batch)


class Learner:
    """Owns the parameters of `net`, their optimiser state and their average; `update(batch)` is one optimiser step.

    It moves `net` to `device`, and every batch that it is given: batches may be anywhere."""

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
        fused: bool = False,
        device: str = "cpu",
    ):
        """fused: Adam in one pass over memory, on a CPU and not compiled: large networks gain; it rounds otherwise."""
        keep_freed()
        self.net = net.to(device)
        self._loss = loss
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.clip = clip
        self.ema_decay = ema
        self.fused = fused
        self._with_loss = _WithLoss(net, loss)
        named = dict(self._with_loss.named_parameters())
        self._shapes = {name: p.shape for name, p in named.items()}
        self.theta = torch.cat([p.detach().reshape(-1) for p in named.values()])
        self.grad = torch.zeros_like(self.theta)
        values = self._split(self.theta)
        grads = self._split(self.grad)
        for name, p in named.items():
            p.data = values[name]
            p.grad = grads[name]
        self.m = torch.zeros_like(self.theta)
        self.v = torch.zeros_like(self.theta)
        self.t = torch.zeros((), dtype=torch.float64)  # on the CPU: read at every update
        self.ema = self.theta.clone() if ema is not None else None
        self._compiled = _compile(self._pure) if compile else None
        self.device = torch.device(device)
        self._captured = Captured(self._stacked, device)

    def _split(self, vector: Tensor) -> dict[str, Tensor]:
        parts = vector.split([shape.numel() for shape in self._shapes.values()])
        named = zip(self._shapes.items(), parts, strict=True)
        return {name: part.view(shape) for (name, shape), part in named}

    def view(self, vector: Tensor) -> Any:
        """A copy of the network that reads its parameters from `vector`, θ or θ̄, without gradients. It holds no values
        of its own: it follows every update and every load."""
        net = copy.deepcopy(self.net).requires_grad_(False)
        for p, value in zip(net.parameters(), self._split(vector).values(), strict=True):
            p.data = value
        return net

    def average(self) -> Any:
        """A copy of the network that reads the average of the weights, θ̄, as `view` does."""
        if self.ema is None:
            raise ValueError("this learner keeps no average: give it `ema`")
        return self.view(self.ema)

    def update(self, batch: Batch, lr: float | None = None) -> dict[str, Tensor]:
        """One optimiser step on `batch`; returns the loss's metrics and `opt/grad_norm` (unclipped) as tensors."""
        self.t += 1
        if lr is None:
            lr = self.lr
        rates = self._rates(lr)
        if self.device.type == "cuda":
            values = self._captured({**batch, "rates": torch.tensor(rates)})
            return dict(zip(self._names, values.unbind(), strict=True))
        if self.device.type != "cpu":
            batch = moved(batch, self.device)
        if self._compiled is not None:
            return self._compiled(batch, *torch.tensor(rates).unbind())  # tensors: numbers would be compiled in
        if self.fused:
            return self._learn(batch, partial(self._descend_fused, lr=lr))
        return self._eager(batch, *rates)

    def _rates(self, lr: float) -> tuple[float, float, float]:
        """Of m, of √v and of the decay: Adam's bias corrections are in them."""
        t = float(self.t)
        b1, b2 = self.betas
        return lr / (1 - b1**t), (1 - b2**t) ** -0.5, lr * self.weight_decay

    @torch.no_grad()
    def measure(self, batch: Batch) -> dict[str, float]:
        """The loss's metrics on `batch`; nothing is learned from it."""
        _, metrics = self._loss(self.net, moved(batch, self.device))
        return {name: float(value) for name, value in metrics.items()}

    def _stacked(self, batch: Batch) -> Tensor:
        """One update as a function of tensors alone: `batch` holds the rates too. Its metrics in one tensor."""
        columns = dict(batch)
        rates = columns.pop("rates").unbind()
        update = self._compiled or self._eager
        metrics = update(columns, *rates)
        self._names = list(metrics)
        return torch.stack(list(metrics.values()))

    def _eager(self, batch: Batch, *rates: Rate) -> dict[str, Tensor]:
        return self._learn(batch, lambda g: self._descend(g, *rates))

    def _learn(self, batch: Batch, descend: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        loss, metrics = self._loss(self.net, batch)
        gradient = self._gradient(loss)
        with torch.no_grad():
            norm = descend(gradient)
        return _detached(metrics, norm)

    def _gradient(self, loss: Tensor) -> Tensor:
        """Of all parameters, in one vector. A GPU would take a kernel for each of them to add it to its place."""
        if self.device.type == "cuda":
            parameters = list(self._with_loss.parameters())
            parts = torch.autograd.grad(loss, parameters, materialize_grads=True)
            return torch.cat([part.reshape(-1) for part in parts])
        self.grad.zero_()
        loss.backward()
        return self.grad

    def _pure(self, batch: Batch, *rates: Tensor) -> dict[str, Tensor]:
        params = self._split(self.theta)

        def loss(params: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            return functional_call(self._with_loss, params, (batch,))

        grads, (_, metrics) = grad_and_value(loss, has_aux=True)(params)
        with torch.no_grad():
            gradient = torch.cat([grads[name].reshape(-1) for name in params])
            norm = self._descend(gradient, *rates)
        return _detached(metrics, norm)

    def _descend(self, g: Tensor, rate: Rate, scale: Rate, decay: Rate) -> Tensor:
        """θ ← θ − (`rate` · m / (√v · `scale` + ε) + `decay` · θ): Adam with its bias corrections in the rates."""
        norm = torch.linalg.vector_norm(g)
        if self.clip is not None:
            g = g * (self.clip / (norm + 1e-6)).clamp(max=1.0)
        b1, b2 = self.betas
        self.m.lerp_(g, 1 - b1)
        self.v.mul_(b2).addcmul_(g, g, value=1 - b2)
        step = rate * self.m / (self.v.sqrt() * scale + self.eps)
        if self.weight_decay:
            step = step + decay * self.theta
        self.theta.sub_(step)
        self._follow()
        return norm

    def _descend_fused(self, g: Tensor, lr: float) -> Tensor:
        """The same by PyTorch's own kernel. `g` is clipped in its place."""
        norm = torch.linalg.vector_norm(g)
        if self.clip is not None:
            g.mul_((self.clip / (norm + 1e-6)).clamp(max=1.0))
        torch._fused_adamw_(
            [self.theta],
            [g],
            [self.m],
            [self.v],
            [],
            [self.t],
            lr=lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=self.weight_decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )
        self._follow()
        return norm

    def _follow(self) -> None:
        """θ̄ follows θ, where it is kept."""
        if self.ema is not None and self.ema_decay is not None:
            self.ema.lerp_(self.theta, 1 - self.ema_decay)

    def state_dict(self) -> dict[str, Any]:
        state = {"theta": self.theta, "m": self.m, "v": self.v, "t": self.t}
        if self.ema is not None:
            state["ema"] = self.ema
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self.state_dict():
            getattr(self, name).copy_(state[name])  # in place: the module's parameters are views


def _detached(metrics: Mapping[str, Tensor], norm: Tensor) -> dict[str, Tensor]:
    found = {name: value.detach() for name, value in metrics.items()}
    found["opt/grad_norm"] = norm
    return found


def _compile(update: Callable[..., dict[str, Tensor]]) -> Any:
    """`update` as one compiled function. At each call only the tensors' shapes and types are checked, which halves the
    overhead: nothing else that the update reads may change after it is made. Isolated, so that two learners of equal
    shapes never run each other's code. The C++ wrapper starts kernels without Python in between."""
    compiled: Any = torch.compile
    options: dict[str, Any] = {"cpp_wrapper": True}
    if "isolate_recompiles" not in inspect.signature(compiled).parameters:  # torch 2.11: all guards, then, tell apart
        return compiled(update, fullgraph=True, dynamic=False, options=options)
    options["guard_filter_fn"] = torch.compiler.keep_tensor_guards_unsafe
    return compiled(update, fullgraph=True, dynamic=False, isolate_recompiles=True, options=options)


def mean_metrics(metrics: list[dict[str, Tensor]]) -> dict[str, float]:
    """The mean of each metric over updates, as numbers."""
    if not metrics:
        return {}
    means = {name: float(torch.stack([m[name] for m in metrics]).mean()) for name in metrics[0]}
    if not all(map(math.isfinite, means.values())):
        _require_finite(metrics)
    return means


def _require_finite(metrics: list[dict[str, Tensor]]) -> None:
    """Raise FloatingPointError for the first of these updates that has a NaN or infinite metric, and name that: a loss
    before the gradient that follows from it."""
    for number, update in enumerate(metrics, 1):
        for name, value in update.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"{said(name)} is {word(float(value))} in update {number} of {len(metrics)}")


def said(name: str) -> str:
    """What a metric is, in messages about its value: the gradient, a loss, or its name alone."""
    if name.startswith("opt/grad_norm"):
        return f"the gradient ({name})"
    if name.startswith("loss/"):
        return f"the loss {name}"
    return name


def word(value: float) -> str:
    return "NaN" if math.isnan(value) else str(value)
