"""Classes by dotted name, as `_target_` in a yaml names them."""

import inspect
from typing import Any

from rlexp.util import plugins
from rlexp.util.errors import UserError, did_you_mean, nearest, said_of


def find(target: Any, base: type, option: str) -> Any:
    """The subclass of `base` that `target` (package.module.Class) names; `option` is who asks, in messages. Raises
    UserError where there is none."""
    module, _, name = str(target).rpartition(".")
    with said_of(option):
        if not module:
            raise UserError(f"'{name}' is not module.Class")
        classes = vars(plugins.import_module(module))
        known = [key for key, value in classes.items() if _is_concrete(value, base)]
        if name not in known:
            hint = did_you_mean(nearest(name, known))
            raise UserError(f"'{module}' has no {base.__name__} called '{name}'{hint}")
    return classes[name]


def _is_concrete(value: Any, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base) and not inspect.isabstract(value)
