"""In what two results differ beside their curves: settings, data, environment, versions, processor.

A result is described by what a gallery's card holds: `config` (resolved), `clock`, `eval`, `versions`, `hardware`,
`inputs`; of a foreign file by what it says: `clock`, `env` (id), `training` (no evaluations). Whatever one side does
not know cannot differ; it is listed as unknown.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from omegaconf import OmegaConf

from rlexp.report.naming import data_of
from rlexp.util import paths
from rlexp.util.former_keys import renamed
from rlexp.util.params import flat

About = Mapping[str, Any]  # what a card holds

GROUPS = ("algo", "env", "train", "policy", "buffer", "expert")
# Of a run, not of its result's distribution: an evaluation or a save more or less is chance like another seed.
IGNORED = (
    *("train.keep", "train.snapshot_every", "train.tensorboard", "train.threads", "train.patience"),
    *("train.eval_every", "train.save_every", "train.eval_episodes", "train.eval_sampled"),
    *("env.name", "env.random_return", "env.expert_return"),
    *("buffer.dataset", "buffer.path"),  # `data` says it
)
ARITHMETIC = ("train.device", "train.compile", "env.backend", "algo.precision")  # other digits, the same method
PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "Box2D", "envpool", "python")
PROCESSOR = ("cpu", "cpu_family", "cpu_model", "cpu_capability", "bfloat16", "gpu")
RUNS_SETTINGS = "settings of the run"  # unknown
REFERENCES_SETTINGS = "settings of the reference"
ALIKE = 0.01  # relative difference in steps and episodes of one recipe's data, made on two machines

# What a difference means, the worst first.
MEANINGLESS = "meaningless"  # another problem, other data, another measure
SETTING = "setting"
LENGTH = "length"  # compared as far as the shorter one goes
MEASURE = "measure"  # told otherwise, and still beside each other: episodes played to train beside evaluations
DIGITS = "digits"  # arithmetic: versions, processor, precision


@dataclass(frozen=True)
class Difference:
    """`what` is an option, or a fact such as `versions.torch`."""

    what: str
    run: Any
    reference: Any
    kind: str


def differences(run: About, reference: About) -> list[Difference]:
    """All differences that are known, the settings first."""
    found = [*_settings(run, reference), *_data(run, reference), *_evaluation(run, reference)]
    return [*found, *_machine(run, reference)]


def unknown(run: About, reference: About) -> list[str]:
    """What the run's side tells and the reference does not; the settings of the side that has no config."""
    if not run.get("config"):
        return [RUNS_SETTINGS]
    if not reference.get("config"):
        return [REFERENCES_SETTINGS]
    missing = []
    for group, names in (("versions", PACKAGES), ("hardware", PROCESSOR)):
        ours = run.get(group) or {}
        theirs = reference.get(group) or {}
        missing += [f"{group}.{name}" for name in names if ours.get(name) is not None and theirs.get(name) is None]
    if _inputs(run) and reference.get("inputs") is None:
        missing.append("data digest")
    return missing


def _settings(run: About, reference: About) -> Iterator[Difference]:
    """Options that differ. One that a config lacks, since it is newer, has its default there."""
    if not run.get("config") or not reference.get("config"):
        yield from _environment(run, reference)
        return
    ours = _options(run["config"])
    theirs = _options(reference["config"])
    for key in sorted({*ours, *theirs}):
        one = ours[key] if key in ours else _default(key, ours)
        other = theirs[key] if key in theirs else _default(key, theirs)
        is_known = not _is_reference(one) and not _is_reference(other)
        if is_known and one != other and (one or other):
            yield Difference(key, one, other, _kind(key))


def _environment(run: About, reference: About) -> Iterator[Difference]:
    """The environments, of which a foreign file may hold the id."""
    ours = _env_id(run)
    theirs = _env_id(reference)
    if ours and theirs and ours != theirs:
        yield Difference("env.id", ours, theirs, MEANINGLESS)


def _env_id(about: About) -> str | None:
    config = about.get("config") or {}
    return about.get("env") or (config.get("env") or {}).get("id")


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a result depends on, by dotted keys of today."""
    groups = {name: config.get(name) or {} for name in GROUPS}
    groups["algo"] = renamed(groups["algo"])
    return {key: value for key, value in flat(groups).items() if key not in IGNORED}


def _kind(key: str) -> str:
    if key in ARITHMETIC:
        return DIGITS
    if key == "train.budget":
        return LENGTH
    if key.startswith("env.") or key in ("buffer.top_percent", "buffer.trajectories"):
        return MEANINGLESS
    return SETTING


def _default(key: str, options: Mapping[str, Any]) -> Any:
    """The value in conf/ of an option that is newer than a config; None where that is not known."""
    group, _, name = key.partition(".")
    algorithm = str(options.get("algo._target_")).split(".")[-2:-1]
    choice = {"algo": algorithm, "policy": ["mlp"], "env": ["gym"]}.get(group, ["default"])
    return _defaults(group, *choice).get(name)


@cache
def _defaults(group: str, choice: str = "") -> dict[str, Any]:
    file = paths.CONF / group / f"{choice}.yaml"
    if not file.is_file():
        return {}
    node: Any = OmegaConf.to_container(OmegaConf.load(file))
    return flat(node)


def _is_reference(value: Any) -> bool:
    """Whether a default is only known once a config is composed, as ${train.budget}, or on a machine, as auto."""
    return isinstance(value, str) and ("${" in value or value == "auto")


def _data(run: About, reference: About) -> Iterator[Difference]:
    """Recorded data by name and digest, and other files that the runs began from by digest."""
    if run.get("config") and reference.get("config"):
        ours = data_of(run["config"])
        theirs = data_of(reference["config"])
        if ours != theirs:
            yield Difference("data", ours, theirs, MEANINGLESS)
            return
    own_inputs = _inputs(run)
    their_inputs = _inputs(reference)
    for name in own_inputs.keys() & their_inputs.keys():
        own = own_inputs[name]
        their = their_inputs[name]
        if own.get("digest") != their.get("digest"):
            kind = DIGITS if name == "buffer" and _alike(own, their) else MEANINGLESS
            yield Difference(f"{name} digest", own.get("digest"), their.get("digest"), kind)


def _inputs(about: About) -> dict[str, Any]:
    return about.get("inputs") or {}


def _alike(own: Mapping[str, Any], their: Mapping[str, Any]) -> bool:
    """Whether two data sets of one name are of one recipe, which simulators on two machines follow to other digits."""
    for count in ("steps", "episodes"):
        one = own.get(count)
        other = their.get(count)
        if not one or not other or abs(one - other) > ALIKE * other:
            return False
    return own.get("name") == their.get("name")


def _evaluation(run: About, reference: About) -> Iterator[Difference]:
    """Sampled or mean actions, or episodes played to train; the number of episodes changes no mean."""
    if bool(run.get("training")) != bool(reference.get("training")):
        yield Difference("returns", _returns(run), _returns(reference), MEASURE)
    ours = (run.get("eval") or {}).get("actions")
    theirs = (reference.get("eval") or {}).get("actions")
    if ours and theirs and ours != theirs:
        yield Difference("actions of evaluations", ours, theirs, MEANINGLESS)


def _returns(about: About) -> str:
    return "of episodes played to train" if about.get("training") else "of evaluations"


def _machine(run: About, reference: About) -> Iterator[Difference]:
    for group, names in (("versions", PACKAGES), ("hardware", PROCESSOR)):
        ours = run.get(group) or {}
        theirs = reference.get(group) or {}
        for name in names:
            one = ours.get(name)
            other = theirs.get(name)
            if one is not None and other is not None and one != other:
                yield Difference(f"{group}.{name}", one, other, DIGITS)
