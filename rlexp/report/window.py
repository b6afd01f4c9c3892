"""What a notebook needs of trained policies, and what `rlexp eval` is made of.

import rlexp
saved = rlexp.load_policy("runs/2026-01-31/12-00-00_ppo_cartpole")
rlexp.evaluate(saved, episodes=100)["return_mean"]
rlexp.record(saved, "episode.mp4")

By hand, for policies that remember their episode as for those that do not:

saved.policy.start(1, np.random.default_rng(0))  # at its beginning
action = saved.policy.act(obs[None])[0]          # obs (O,), raw as the environment gives it
saved.policy.observe(np.array([reward]))         # after each step
"""

import os
import sys

import numpy as np

from rlexp.envs.make import make
from rlexp.policies.files import Saved
from rlexp.util import seeding
from rlexp.util.errors import UserError


def has_display() -> bool:
    """Whether a window can open here."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def show(saved: Saved, n: int, *, sampled: bool = False, seed: int = 0) -> None:
    """`n` episodes in a live window. Raises UserError where there is no display."""
    if not has_display():
        raise UserError("--render: there is no display for a window; --video writes a film instead")
    saved.policy.explore = sampled
    try:
        env = make(saved.env, render_mode="human")
        rng = np.random.default_rng(seeding.stream(seed, "final"))
        for i in range(n):
            saved.policy.start(1, rng)
            obs, ended = env.reset(seed=int(rng.integers(2**31)))[0], False
            total = 0.0
            while not ended:
                obs, reward, terminated, truncated, _ = env.step(saved.policy.act(np.asarray(obs, np.float32)[None])[0])
                saved.policy.observe(np.array([reward], np.float32))
                total, ended = total + float(reward), terminated or truncated
            print(f"episode {i}: return {total:.1f}")
        env.close()
    except UserError:
        raise
    except Exception as error:  # each windowing library has its own
        raise UserError(f"--render: cannot open a window ({error}); --video writes a film instead") from None
