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
from pathlib import Path

import numpy as np

from rlexp import envs, film, rollout, seeding
from rlexp.errors import UserError
from rlexp.policies import Saved

SIDE_BY_SIDE = 500  # episodes; each has a simulator of its own, of some megabytes


def has_display() -> bool:
    """Whether a window can open here."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def play(saved: Saved, n: int, *, sampled: bool = False, seed: int = 0) -> rollout.Evaluation:
    """`n` fresh episodes of a policy in the environment it was trained on, on Gymnasium, from a stream of their own:
    training never saw these episodes. `sampled`: sampled instead of mean (most likely) actions; raises UserError for a
    policy that has none."""
    if n < 1:
        raise UserError(f"episodes must be ≥ 1, not {n}")
    before, saved.policy.explore = saved.policy.explore, sampled
    episodes: list[rollout.Episode] = []
    try:
        if sampled and not saved.policy.samples:
            raise UserError(f"{saved.path}: has no spread to sample from; its actions are the mean ones")
        while (left := n - len(episodes)) > 0:
            sequence = seeding.stream(seed, "final", *([len(episodes)] if episodes else []))
            count = min(left, SIDE_BY_SIDE)
            episodes += rollout.evaluate(saved.policy, saved.env.on_gymnasium(), sequence, count).episodes
        return rollout.Evaluation(episodes, saved.policy.samples)
    finally:
        saved.policy.explore = before


def evaluate(saved: Saved, episodes: int = 100, *, sampled: bool = False, seed: int = 0) -> dict[str, float]:
    """Mean, std (ddof 1), min, median and max return, mean length, and the normalised score where there is one."""
    return play(saved, episodes, sampled=sampled, seed=seed).summary(saved.env)


def record(saved: Saved, path: str | Path, *, sampled: bool = False, seed: int = 0, size: int = 320) -> Path:
    """Film one episode as mp4 (and GIF where `path` ends so). Raises film.CannotRender where the machine can't."""
    path = Path(path)
    if path.suffix not in (".mp4", ".gif"):
        raise UserError(f"{path}: films end in .mp4 or .gif")
    episode = play(saved, 1, sampled=sampled, seed=seed).episodes[0]
    env = saved.env.on_gymnasium()
    film.film(env, episode, path.with_suffix(".mp4"), seconds=60, size=size, gif=path.suffix == ".gif")
    return path


def show(saved: Saved, n: int, *, sampled: bool = False, seed: int = 0) -> None:
    """`n` episodes in a live window. Raises UserError where there is no display."""
    if not has_display():
        raise UserError("--render: there is no display for a window; --video writes a film instead")
    saved.policy.explore = sampled
    try:
        env = envs.make(saved.env, render_mode="human")
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
