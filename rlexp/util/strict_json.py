"""JSON that every reader takes: NaN and infinities, which Python would write and JSON does not have, become null."""

import json
import math
from typing import Any


def dumps(value: Any, indent: int | None = None) -> str:
    """`value` as JSON."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    """`value` with None for every float that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
