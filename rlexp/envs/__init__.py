"""Environments: what is configured (`EnvConfig`), what is known of one (`EnvSpec`), and many at once (`VecEnv`)."""

from rlexp.envs.make import EnvConfig, EnvSpec, describe, make, task_of
from rlexp.envs.vector import Step, VecEnv

__all__ = ["EnvConfig", "EnvSpec", "Step", "VecEnv", "describe", "make", "task_of"]
