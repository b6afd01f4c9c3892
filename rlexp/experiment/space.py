"""What a tuning searches: hyperparameters of a yaml in conf/tune/ as Optuna's distributions.

space:
  algo.lr: {low: 1e-5, high: 1e-2, log: true}
  algo.gae_lambda: {low: 0.8}                    # up to what PPO.Config declares
  policy.hidden: {choices: [[64, 64], [256, 256]]}
"""

import dataclasses
import json
import typing
from typing import TYPE_CHECKING, Any

from rlexp.experiment.config import RunConfig
from rlexp.util.configs import choices, find
from rlexp.util.errors import UserError, did_you_mean, nearest, said_of
from rlexp.util.files import read_yaml
from rlexp.util.params import OutOfRange, Params

if TYPE_CHECKING:
    import optuna

    Space = dict[str, optuna.distributions.BaseDistribution]  # by dotted option

KEYS = ("low", "high", "log", "step")


def read(name: str) -> dict[str, Any]:
    """conf/tune/<name>.yaml, of whichever conf folder: its space, not yet checked. Raises UserError."""
    file = find("tune", name)
    if file is None:
        known = choices("tune")
        raise UserError(
            f"tune={name}: there is none such{did_you_mean(nearest(name, known))}; there are {', '.join(known)}"
        )
    node = read_yaml(file)
    if not isinstance(node, dict) or not isinstance(node.get("space"), dict) or not node["space"]:
        raise UserError(f"{file}: has no space of options, such as space: {{algo.lr: {{low: 1e-5, high: 1e-2}}}}")
    return node["space"]


def space(node: dict[str, Any], run: RunConfig, name: str) -> "Space":
    """The distributions of `node`'s options, of a run such as `run`. Raises UserError for what is no option, and for
    bounds outside of the declared ones."""
    found = {}
    for key, facts in node.items():
        with said_of(f"tune={name}: {key}"):
            found[key] = _distribution(_declared(key, run), facts)
    return found


def words(params: dict[str, Any]) -> list[str]:
    """The options of a trial as they are typed."""
    return [f"{key}={value}" for key, value in params.items()]


def _declared(key: str, run: RunConfig) -> tuple["dataclasses.Field[Any]", Any]:
    """The declaration of the option `key`, and its type."""
    group, _, leaf = key.partition(".")
    config = getattr(run, group, None)
    if not isinstance(config, Params):
        raise UserError("is no option of a group, such as algo.lr")
    fields = {field.name: field for field in dataclasses.fields(config)}
    if leaf not in fields:
        raise UserError(f"there is no such option{did_you_mean(nearest(leaf, fields))}")
    return fields[leaf], typing.get_type_hints(type(config))[leaf]


def _distribution(
    declared: tuple["dataclasses.Field[Any]", Any], facts: Any
) -> "optuna.distributions.BaseDistribution":
    from optuna import distributions

    field, kind = declared
    if not isinstance(facts, dict):
        raise UserError(f"{facts!r} is no {{low:, high:}} or {{choices:}}")
    if set(facts) == {"choices"}:
        if not isinstance(facts["choices"], list) or not facts["choices"]:
            raise UserError("choices: is no list of values")
        for value in facts["choices"]:
            _check(field, value)
        return distributions.CategoricalDistribution([_word(value) for value in facts["choices"]])
    wrong = next((key for key in facts if key not in KEYS), None)
    if wrong is not None:
        raise UserError(f"{wrong}: unknown{did_you_mean(nearest(wrong, [*KEYS, 'choices']))}")
    bounds = {"low": _bound(field, facts, "low", "≥"), "high": _bound(field, facts, "high", "≤")}
    more = {key: facts[key] for key in ("log", "step") if key in facts}
    is_whole = kind in (int, int | None)
    made = distributions.IntDistribution if is_whole else distributions.FloatDistribution
    try:
        return made(**bounds, **more)
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from None


def _bound(field: "dataclasses.Field[Any]", facts: dict[str, Any], end: str, sign: str) -> Any:
    """The end of a range: given, and within what is declared, or the declared one."""
    declared = field.metadata.get("bounds", {}).get(sign)
    value = facts.get(end, declared)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UserError(f"{end}: is no number; none is declared either")
    _check(field, value)
    return value


def _check(field: "dataclasses.Field[Any]", value: Any) -> None:
    """Raises UserError for a value outside of what is declared."""
    try:
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                Params._check(field.name, item, field.metadata)
    except (OutOfRange, TypeError) as error:
        raise UserError(str(error)) from None


def _word(value: Any) -> Any:
    """A choice as Optuna keeps it and Hydra reads it."""
    if isinstance(value, list):
        return json.dumps(value, separators=(",", ":"))
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else json.dumps(value)
