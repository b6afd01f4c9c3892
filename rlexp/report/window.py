"""Episodes of a trained policy in a live window."""

import os
import sys
from typing import TYPE_CHECKING

import gymnasium as gym
import numpy as np

from rlexp.envs.make import make
from rlexp.util import seeding
from rlexp.util.errors import UserError

if TYPE_CHECKING:  # policies import PyTorch
    from rlexp.policies.base import Policy
    from rlexp.policies.files import Saved


def has_display() -> bool:
    """Whether a window can open here."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(saved: "Saved", n: int, *, sampled: bool = False, seed: int = 0) -> None:
    """Play `n` episodes in a live window and print their returns. Raises UserError where there is no display."""
    if not has_display():
        raise UserError("--render: there is no display for a window; --video writes a film instead")
    saved.policy.explore = sampled
    rng = np.random.default_rng(seeding.stream(seed, "final"))
    try:
        env = make(saved.env, render_mode="human")
        for i in range(n):
            total = _play(env, saved.policy, rng)
            print(f"episode {i}: return {total:.1f}")
        env.close()
    except UserError:
        raise
    except Exception as error:  # each windowing library has its own
        hint = "--video writes a film instead"
        raise UserError(f"--render: cannot open a window ({error}); {hint}") from None


def _play(env: gym.Env, policy: "Policy", rng: np.random.Generator) -> float:
    """The return of one episode."""
    policy.start(1, rng)
    obs, _ = env.reset(seed=int(rng.integers(2**31)))
    total = 0.0
    ended = False
    while not ended:
        obs_1O = np.asarray(obs, np.float32)[None]
        obs, reward, terminated, truncated, _ = env.step(policy.act(obs_1O)[0])
        policy.observe(np.array([reward], np.float32))
        total += float(reward)
        ended = terminated or truncated
    return total
