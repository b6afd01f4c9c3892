"""Small environments of one peculiarity each, registered as Odd/<Name>-v0 with a limit of 20 steps."""

import contextlib
import signal
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Plain(gym.Env):
    """Ten steps, each paid 1; observations are four numbers that say nothing."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = spaces.Box(-1, 1, (4,), np.float32)
    action_space = spaces.Discrete(2)
    length = 10

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.action_space = type(self).action_space

    def observation(self):
        return self.np_random.uniform(-1, 1, 4).astype(np.float32)

    def reward(self, action):
        return 1.0

    def info(self, ended):
        return {}

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation(), {}

    def step(self, action):
        self.t += 1
        ended = self.t >= self.length
        return self.observation(), self.reward(action), ended, False, self.info(ended)

    def render(self):
        return np.full((64, 64, 3), 100, np.uint8)


# ---- what reset() and step() give


class ResetWithoutInfo(Plain):
    def reset(self, seed=None, options=None):
        return super().reset(seed=seed)[0]


class OneNumber(Plain):
    """Declares four."""

    def observation(self):
        return np.float32(0.5)


class FiveNumbers(Plain):
    def observation(self):
        return np.zeros(5, np.float32)


class MissingKey(Plain):
    observation_space = spaces.Dict({"x": spaces.Box(-1, 1, (2,)), "y": spaces.Discrete(3)})

    def observation(self):
        return {"x": np.zeros(2, np.float32)}


class FourValues(Plain):
    def step(self, action):
        obs, reward, ended, _, info = super().step(action)
        return obs, reward, ended, info


class RewardInArray(Plain):
    def reward(self, action):
        return np.array([1.0])


class NoReward(Plain):
    def reward(self, action):
        return None


class FlagInArray(Plain):
    def step(self, action):
        obs, reward, ended, cut, info = super().step(action)
        return obs, reward, np.array([ended]), cut, info


class InfoIsNone(Plain):
    def info(self, ended):
        return None


# ---- what they raise


class ResetRefused(Plain):
    def reset(self, seed=None, options=None):
        raise ConnectionRefusedError(111, "nobody listens")


class ResetRaises(Plain):
    def reset(self, seed=None, options=None):
        raise RuntimeError("no licence")


class StepRaises(Plain):
    def step(self, action):
        raise ValueError("lost its state")


class ResetExits(Plain):
    def reset(self, seed=None, options=None):
        raise SystemExit(0)


class StepExits(Plain):
    def step(self, action):
        raise GeneratorExit


class Unspeakable(Exception):
    def __str__(self):
        raise ValueError("no")


class StepRaisesUnspeakably(Plain):
    def step(self, action):
        raise Unspeakable


class MakingFails(Plain):
    def __init__(self, render_mode=None):
        raise KeyError("level")


class MakingExits(Plain):
    def __init__(self, render_mode=None):
        raise SystemExit(0)


class Panic(BaseException):
    """As simulators in Rust raise it."""


class StepPanics(Plain):
    def step(self, action):
        raise Panic("index out of bounds")


class RenderPanics(Plain):
    def render(self):
        raise Panic("no adapter")


class CloseExits(Plain):
    def close(self):
        raise SystemExit(0)


class RenderExits(Plain):
    def render(self):
        raise SystemExit(3)


class StepRaisesLate(Plain):
    """In its 30th step, counted over episodes: nobody who tries it out for 20 finds that."""

    steps = 0

    def step(self, action):
        self.steps += 1
        if self.steps == 30:
            raise ValueError("worn out")
        return super().step(action)


class Sleeps(Plain):
    """In the 80th step of all of them, where there is no file `mark` yet."""

    steps = 0

    def __init__(self, render_mode=None, mark=None, deaf=False):
        super().__init__(render_mode)
        self.mark = mark
        self.deaf = deaf

    def step(self, action):
        Sleeps.steps += 1
        if Sleeps.steps >= 80 and self.mark is not None and not Path(self.mark).exists():
            Path(self.mark).touch()
            if self.deaf:  # as code that is not Python's
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
            time.sleep(1000)
        return super().step(action)


class SleepsAtOnce(Plain):
    def reset(self, seed=None, options=None):
        time.sleep(1000)


class LoopsAtOnce(Plain):
    def step(self, action):
        while True:
            with contextlib.suppress(Exception):
                self.t += 1


class NeverMade(Plain):
    def __init__(self, render_mode=None):
        time.sleep(1000)


class RenderSleeps(Plain):
    def __init__(self, render_mode=None, deaf=False):
        super().__init__(render_mode)
        self.deaf = deaf

    def render(self):
        if self.t >= 2:
            if self.deaf:
                signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
            time.sleep(1000)
        return super().render()


class CloseRaises(Plain):
    def close(self):
        raise RuntimeError("closed twice")


# ---- spaces


class Sentence(spaces.Space):
    """A space that Gymnasium does not know."""

    def __init__(self):
        super().__init__((), str)

    def sample(self, mask=None, probability=None):
        return "go"

    def contains(self, x):
        return isinstance(x, str)


class OwnSpace(Plain):
    observation_space = Sentence()

    def observation(self):
        return "go"


class OwnSpaceInside(Plain):
    observation_space = spaces.Dict({"x": spaces.Box(-1, 1, (2,)), "said": Sentence()})

    def observation(self):
        return {"x": np.zeros(2, np.float32), "said": "go"}


class WholeNumbers(Plain):
    action_space = spaces.Box(0, 4, (2,), np.int64)


class DoubleBounds(Plain):
    """Bounds that float32 does not have: the nearest of them lie outside."""

    action_space = spaces.Box(-0.1, 0.1, (1,), np.float64)

    def step(self, action):
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        return super().step(action)


class OffCentre(Plain):
    action_space = spaces.Box(5, 35, (3,), np.float32)

    def reward(self, action):
        return -float(np.abs(action - 25).mean())


class WideBox(Plain):
    action_space = spaces.Box(-1000, 1000, (1,), np.float32)


class Pixels(Plain):
    observation_space = spaces.Box(0, 255, (6, 6, 3), np.uint8)

    def observation(self):
        return np.full((6, 6, 3), self.t, np.uint8)


class Clock(Plain):
    """Seconds since 1970, whose change float32 does not see; and a small number."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def observation(self):
        return np.array([1.7e9 + self.t, 0.1 * self.t])


class BeyondFloat32(Plain):
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def observation(self):
        return np.array([1e300, 0.0])


# ---- NaN and infinities; `since` is a step that no trial reaches


class Late(Plain):
    since = 30
    steps = 0

    def step(self, action):
        self.steps += 1
        return super().step(action)

    @property
    def due(self):
        return self.steps >= self.since


class NanObservation(Late):
    def observation(self):
        value = np.nan if self.due else 0.5
        return np.full(4, value, np.float32)


class NanAtTheEnd(Plain):
    """Only in the last observation of an episode, on which nobody acts."""

    def observation(self):
        return np.full(4, np.nan if self.t == self.length else 0.5, np.float32)


class NanReward(Late):
    def reward(self, action):
        return np.nan if self.due else 1.0


class InfiniteReward(Late):
    def reward(self, action):
        return np.inf if self.due else 1.0


class MinusInfiniteReward(Plain):
    """Whoever takes action 0 in the third step is paid minus infinity."""

    def reward(self, action):
        return -np.inf if self.t == 3 and action == 0 else 1.0


class NanRewardAtOnce(NanReward):
    since = 4  # the third of the second try


class NanObservationAtOnce(NanObservation):
    since = 4  # the third of the second try


# ---- the rest


class SuccessUnknown(Plain):
    """Says of success what it knows: nothing, until the end."""

    def info(self, ended):
        return {"is_success": True if ended else None}


class Rgba(Plain):
    def render(self):
        frame = np.zeros((64, 64, 4), np.uint8)
        frame[..., 0] = 255
        frame[..., 3] = 255
        return frame


class Shares(Plain):
    def render(self):
        frame = np.zeros((64, 64, 3))
        frame[..., 0] = 1.0
        return frame


class ColoursFirst(Plain):
    def render(self):
        frame = np.zeros((3, 64, 64), np.uint8)
        frame[0] = 255
        return frame


class Negative(Plain):
    def render(self):
        return np.full((64, 64, 3), -1.0)


class Growing(Plain):
    def render(self):
        return np.zeros((64 + self.t, 64, 3), np.uint8)


for _name, _class in list(globals().items()):
    if isinstance(_class, type) and issubclass(_class, Plain):
        gym.register(f"Odd/{_name}-v0", entry_point=f"tests.peculiar:{_name}", max_episode_steps=20)
