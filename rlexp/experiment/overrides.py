"""The words of a command line, key=value, read by Hydra's own parser for new runs and for resumed ones."""

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from rlexp.util.errors import UserError


def parse(words: list[str]) -> list[Override]:
    """Each word as Hydra understands it. Raises UserError for what it does not."""
    parser = OverridesParser.create()
    found = []
    for word in words:
        try:
            found.append(parser.parse_override(word))
        except HydraException:
            text = word.partition("=")[2]
            raise UserError(f"{word}: '{text}' cannot be read; is a bracket or a quote open?") from None
    return found


def value(override: Override) -> Any:
    """The value of an override as plain data. Raises UserError for several values, which are a sweep."""
    if override.is_sweep_override():
        raise UserError(f"{override.input_line}: several values are a sweep; a resumed run takes one")
    return override.value()
