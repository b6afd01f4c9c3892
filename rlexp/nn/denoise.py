"""Denoising diffusion, without a network: noise schedule, adding noise, and sampling by DDPM or DDIM.

Ho et al. 2020 (DDPM); Nichol & Dhariwal 2021 (squared cosine schedule); Song et al. 2021 (DDIM). A sample x_0 is
drowned in T levels of noise t = 0 … T − 1, and a network ε̂(x_t, t) learns to tell the noise from the sample:

    ᾱ_t = Π_{s≤t} (1 − β_s)                       share of the signal's variance that is left; 1 before the first level
    β_t = min(1 − f((t + 1)/T) / f(t/T), 0.999),   f(u) = cos²(π/2 · (u + 0.008) / 1.008)        (N&D eq. 17)
    x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε,   ε ~ N(0, I)                                                 (Ho eq. 4)

Sampling starts at x ~ N(0, I) and goes down a series of levels. From level t to a lower one s, with ᾱ = ᾱ_t, ᾱ' = ᾱ_s:

    x̂_0 = (x − √(1 − ᾱ) ε̂) / √ᾱ, clipped to ±`clip` where one is given                            (Ho eq. 15)
    DDPM  x ← [√ᾱ' (1 − α) x̂_0 + √α (1 − ᾱ') x] / (1 − ᾱ) + √((1 − ᾱ')/(1 − ᾱ) · (1 − α)) z,  α = ᾱ/ᾱ'    (Ho eq. 7)
    DDIM  x ← √ᾱ' x̂_0 + √(1 − ᾱ') ε',   ε' = (x − √ᾱ x̂_0) / √(1 − ᾱ), the noise that x̂_0 leaves    (Song eq. 12, σ = 0)

Both are x ← a x̂_0 + b x + σ z with numbers that depend on the levels only: `DenoisingStep`. After the last ᾱ' is 1,
hence σ = 0 and x = x̂_0: no noise is left and none is added. Where all T levels are used and nothing is clipped, DDPM's
step is the course's x ← (x − (1 − α)/√(1 − ᾱ) ε̂)/√α + σ z.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

SAMPLERS = ("ddpm", "ddim")


def squared_cosine(levels: int) -> np.ndarray:
    """ᾱ_t of all levels (T,), float64."""
    f = np.cos(np.pi / 2 * (np.arange(levels + 1) / levels + 0.008) / 1.008) ** 2
    return np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))


def add_noise(x_N: Tensor, noise_N: Tensor, alpha_bar_B: Tensor) -> Tensor:
    """x_t of samples (B, …), each with an ᾱ of its own."""
    alpha_bar_N = alpha_bar_B.reshape(-1, *[1] * (x_N.ndim - 1))
    return alpha_bar_N.sqrt() * x_N + (1 - alpha_bar_N).sqrt() * noise_N


@dataclass(frozen=True)
class DenoisingStep:
    """From one level to a lower one: x ← `a` x̂_0 + `b` x + `std` z, where x = `signal` x_0 + `noise` ε."""

    level: int
    signal: float
    noise: float
    a: float
    b: float
    std: float


def steps(sampler: str, alpha_bar_T: np.ndarray, n: int) -> list[DenoisingStep]:
    """`n` ≤ T steps, evenly spaced from the highest level, where nothing but noise is left, to none."""
    levels = np.round(len(alpha_bar_T) * (1 - np.arange(n) / n)).astype(int) - 1
    before_S = alpha_bar_T[levels]
    after_S = [*before_S[1:], 1.0]
    coefficients = _ddpm if sampler == "ddpm" else _ddim
    found = []
    for level, before, after in zip(levels, before_S, after_S, strict=True):
        numbers = (before**0.5, (1 - before) ** 0.5, *coefficients(before, after))
        found.append(DenoisingStep(int(level), *map(float, numbers)))
    return found


def _ddpm(before: float, after: float) -> tuple[float, float, float]:
    """a, b and σ of the step from ᾱ = `before` to ᾱ' = `after`. Ho eq. 7."""
    alpha = before / after
    a = after**0.5 * (1 - alpha) / (1 - before)
    b = alpha**0.5 * (1 - after) / (1 - before)
    std = ((1 - after) / (1 - before) * (1 - alpha)) ** 0.5
    return a, b, std


def _ddim(before: float, after: float) -> tuple[float, float, float]:
    """The same. Song eq. 12, σ = 0."""
    b = ((1 - after) / (1 - before)) ** 0.5
    a = after**0.5 - b * before**0.5
    return a, b, 0.0


def sample(
    predict: Callable[[Tensor, int], Tensor],
    noise_SN: Tensor,
    steps: Sequence[DenoisingStep],
    clip: float | None,
) -> Tensor:
    """A sample of the shape of `noise_SN[0]`. `predict(x, level)` is ε̂; `noise_SN` holds the S steps' Gaussian noise:
    where to start, and z of all but the last."""
    x_N = noise_SN[0]
    for i, step in enumerate(steps):
        x0_N = (x_N - step.noise * predict(x_N, step.level)) / step.signal
        if clip is not None:
            x0_N = x0_N.clamp(-clip, clip)
        x_N = step.a * x0_N + step.b * x_N
        if step.std:
            x_N = x_N + step.std * noise_SN[i + 1]
    return x_N
