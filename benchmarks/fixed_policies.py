"""Mean return of three fixed Bernoulli policies on CartPole with 200 steps, a check that any CMA-ES on it should pass.

P(action 0) = sigmoid(s·w + b), x = (w, b), sampled. The course gives 15.6 for the first.

    python benchmarks/fixed_policies.py
"""

import numpy as np
from hydra import compose, initialize_config_dir

from rlexp.algos.cmaes import CMAESPolicy
from rlexp.envs.make import describe
from rlexp.experiment.config import build
from rlexp.rollout.evaluation import evaluate
from rlexp.util import paths, seeding

EPISODES = 1000
POLICIES = [(-1, -1, -1, -1, -1), (1, 0, 1, 0, 1), (0, 1, 2, 3, 4)]

with initialize_config_dir(str(paths.CONF), version_base="1.3"):
    env = build(compose("config", ["algo=cmaes", "env=cartpole200"])).env
for x in POLICIES:
    policy = CMAESPolicy(np.array([x]), describe(env), [], "tanh", explore=True)
    scores = evaluate(policy, env, seeding.stream(0, "final"), EPISODES).summary(env)
    error = scores["return_std"] / EPISODES**0.5
    print(f"x = {x}: mean {scores['return_mean']:.2f} ± {1.96 * error:.2f} (95 %, n = {EPISODES}, sampled actions)")
