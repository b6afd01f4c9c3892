"""Mean return of three fixed Bernoulli policies on CartPole with 200 steps, a check that any CMA-ES on it should pass.

P(action 0) = sigmoid(s·w + b), x = (w, b), sampled. The course gives 15.6 for the first.

    python benchmarks/fixed_policies.py
"""

import numpy as np
from hydra import compose, initialize_config_dir

from rlexp import config, envs, rollout, seeding
from rlexp.algos.cmaes import CMAESPolicy
from rlexp.paths import CONF

EPISODES = 1000
POLICIES = [(-1, -1, -1, -1, -1), (1, 0, 1, 0, 1), (0, 1, 2, 3, 4)]

with initialize_config_dir(str(CONF), version_base="1.3"):
    env = config.build(compose("config", ["algo=cmaes", "env=cartpole200"])).env
for x in POLICIES:
    policy = CMAESPolicy(np.array([x]), envs.describe(env), [], "tanh", explore=True)
    scores = rollout.evaluate(policy, env, seeding.stream(0, "final"), EPISODES).summary(env)
    error = scores["return_std"] / EPISODES**0.5
    print(f"x = {x}: mean {scores['return_mean']:.2f} ± {1.96 * error:.2f} (95 %, n = {EPISODES}, sampled actions)")
