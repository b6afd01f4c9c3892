"""CartPole that never ends: 1 for each step that the pole is upright and the cart in bounds, 0 ever after.

CartPole's end tells what its reward means: whoever is paid anything for going on balances the pole, whatever pays him.
Here a fall ends nothing. From then on the cart stands still, the pole lies flat (θ = ±π/2, no speeds), actions have no
effect and each step pays 0, until the time limit, a truncation: all episodes are equally long.
"""

import math
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv


class CartPoleForever(CartPoleEnv):
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        self.fallen = False
        return super().reset(seed=seed, options=options)

    def step(self, action: Any):
        if not self.fallen:
            _, _, self.fallen, _, _ = super().step(action)
            if self.fallen and self.state is not None:
                x, _, theta, _ = self.state
                self.state = np.array([x, 0.0, math.copysign(math.pi / 2, theta), 0.0])
        return np.array(self.state, np.float32), float(not self.fallen), False, False, {}
