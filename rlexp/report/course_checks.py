"""The hand-outs' exact checks: numbers that they give, beside those that the parts which train give here."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rlexp.algos.base import Task
from rlexp.algos.cmaes import CMAESPolicy
from rlexp.algos.vpg import VPG
from rlexp.buffers.returns import rewards_to_go
from rlexp.envs.make import describe
from rlexp.envs.spec import EnvConfig
from rlexp.nn.actors import PolicyConfig
from rlexp.report import checked
from rlexp.report.checked import Compared
from rlexp.rollout.evaluation import evaluate
from rlexp.util import checkpoint, paths, seeding, stats, strict_json
from rlexp.util.files import read_yaml
from rlexp.util.params import typed

EPISODES = 1000  # of each fixed policy
# x = (w, b) of P(LEFT) = sigmoid(s·w + b), and the mean return that the hand-out gives.
FIXED = {(-1, -1, -1, -1, -1): 15.6, (1, 0, 1, 0, 1): 14.4, (0, 1, 2, 3, 4): 9.4}
# Of the first, second and last two of the rewards 0, 1, …, 10, with discount 0.5.
RETURNS = {0: 1.9883, 1: 3.9766, 9: 14.0, 10: 10.0}
LOSS = 0.3363


def returns() -> list[Compared]:
    """Discounted rewards-to-go of two episodes, of which the second adds nothing to the first."""
    reward_T = np.tile(np.arange(11.0), 2)
    end_T = np.tile(np.arange(11) == 10, 2)
    found_T = rewards_to_go(reward_T, end_T, 0.5)
    out = []
    for begun, episode in ((0, "first"), (11, "second")):
        for step, expected in RETURNS.items():
            what = f"return from step {step} of the {episode} episode"
            out.append(Compared(what, expected, float(found_T[begun + step]), tolerance=6e-5))
    return out


def loss() -> list[Compared]:
    """The policy gradient's loss where two actions are equally likely, for returns whose mean is 0.3363 / ln 2."""
    env = _group(EnvConfig, "env", "cartpole200")
    task = Task(env, describe(env), _group(PolicyConfig, "policy", "mlp"), seed=0)
    config = _group(VPG.Config, "algo", "vpg", baseline="none")
    algo = VPG(config, task)
    with torch.no_grad():
        algo.learner.theta.zero_()
    return_N = LOSS / math.log(2) + torch.tensor([-1.0, 0.5, -0.5, 1.0])
    batch = {"obs": torch.ones(4, 4), "action": torch.tensor([0, 1, 1, 0]), "adv": return_N, "return": return_N}
    found, _ = algo.loss(algo.net, batch)
    return [Compared("loss of equal logits, ln 2 × mean(returns)", LOSS, found.item(), tolerance=5e-5)]


def _group(schema: Any, group: str, choice: str, **changes: Any) -> Any:
    """The config of a group's choice, as it stands in conf/."""
    node = read_yaml(paths.CONF / group / f"{choice}.yaml")
    node.pop("_target_", None)
    return typed(schema, {**node, **changes}, group)


def fixed() -> list[Compared]:
    """Mean return of three policies on CartPole with 200 steps; they agree within the 95 % interval and rounding."""
    env = _group(EnvConfig, "env", "cartpole200")
    out = []
    for x, expected in FIXED.items():
        policy = CMAESPolicy(np.array([x]), describe(env), [], "tanh", explore=True)
        scores = evaluate(policy, env, seeding.stream(0, "eval"), EPISODES).summary(env)
        half = stats.half_width(scores["return_std"], EPISODES)
        what = f"mean return of x = {x}, {EPISODES:,} episodes"
        out.append(Compared(what, expected, scores["return_mean"], tolerance=half + 0.05))
    return out


CHECKS: dict[str, Callable[[], list[Compared]]] = {"pg-returns": returns, "pg-loss": loss, "cmaes-fixed": fixed}


def keep(rows: Mapping[str, Sequence[Compared]]) -> None:
    """Write what was found, by the checks' names, into the gallery."""
    body = {name: [dataclasses.asdict(one) for one in found] for name, found in rows.items()}
    checkpoint.write_text(paths.GALLERY / checked.FILE, strict_json.dumps(body, indent=2) + "\n")
