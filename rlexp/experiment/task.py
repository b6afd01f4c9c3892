"""From a checked config to what an algorithm is given: data and experts are loaded here."""

from rlexp.algos.base import Task
from rlexp.datasets.load import load
from rlexp.envs.spec import EnvSpec
from rlexp.experiment.config import RunConfig
from rlexp.policies.start import load_expert


def make_task(config: RunConfig, spec: EnvSpec, seed: int) -> Task:
    """The task of one seed, with the data and the expert that its algorithm needs. Raises UserError where there are
    none such."""
    data = load(config.buffer, config.env, spec) if "data" in config.algo_class.needs else None
    expert = None
    if config.expert.policy:
        expert = load_expert(config.expert.policy, config.env, spec, **config.expert.unsaid)
    return Task(config.env, spec, config.policy, seed, config.train.device, config.train.compile, data, expert)
