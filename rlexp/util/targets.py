"""Classes by dotted name, as `_target_` in a yaml names them."""

from typing import Any

from rlexp.util import plugins
from rlexp.util.errors import UserError, said_of


def find(target: Any, base: type, option: str) -> Any:
    """The subclass of `base` that `target` (package.module.Class) names; `option` is who asks, in messages. Raises
    UserError where there is none."""
    module, _, name = str(target).rpartition(".")
    with said_of(option):
        if not module:
            raise UserError(f"'{name}' is not module.Class")
        found = getattr(plugins.import_module(module), name, None)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UserError(f"'{module}' has no {base.__name__} called '{name}'")
    return found
