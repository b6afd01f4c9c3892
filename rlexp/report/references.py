"""Reference curves that come with the project, gallery/<algo>_<env>[-<variant>].csv with a card each."""

import json
from pathlib import Path
from typing import Any

from rlexp.datasets import store
from rlexp.report.history import names
from rlexp.util import paths
from rlexp.util.errors import UserError, did_you_mean, nearest


def find(reference: str | None, name: str, data: str | None = None) -> Path | None:
    """The csv of the entry `reference`. Where that is None: of `name` or, if it has learned from other data than
    `data` and a variant from the same, of that; None if there is no such entry. Raises UserError."""
    known = entries()
    if reference is None:
        variants = [stem for stem in known if stem == name or stem.startswith(f"{name}-")]
        usable = [known[stem] for stem in variants if name in known]
        same = [entry for entry in usable if data_of(card(entry).get("config", {})) == data]
        return next(iter(same + usable), None)
    if reference in known:
        return known[reference]
    close = nearest(reference, known)
    if close is not None:
        hint = did_you_mean(close)
    elif known:
        hint = f"; there are {', '.join(known)}"
    else:
        hint = "; the gallery is empty"
    raise UserError(f"reference={reference}: no such gallery entry{hint}")


def entries() -> dict[str, Path]:
    """The csv of every entry by its name, in alphabetical order. Of two of one name the user's own is meant."""
    found = {file.stem: file for gallery in reversed(paths.galleries()) for file in gallery.glob("*.csv")}
    return dict(sorted(found.items()))


def data_of(config: dict[str, Any]) -> str | None:
    """What a resolved config learns from, in short: medium, where that is rlexp/<its env>/medium-v0."""

    buffer = config.get("buffer") or {}
    if buffer.get("path") or not (name := buffer.get("dataset")):
        return buffer.get("path")
    known = store.short(name.removeprefix("minari:")) if name.startswith("minari:") else name
    return known.removeprefix(f"{names(config)[1]}/")


def card(entry: Path) -> dict[str, Any]:
    """What is known of the run behind an entry's csv."""
    return json.loads(entry.with_suffix(".json").read_text())
