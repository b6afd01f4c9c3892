"""A package outside of rlexp: an algorithm with a policy of its own, an environment and a simulator of it."""

import gymnasium

gymnasium.register("Corridor-v0", entry_point="rlexp_reinforce.corridor:Corridor", max_episode_steps=20)
