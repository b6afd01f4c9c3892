"""Text, JSON and YAML files that anybody may have written or changed: what they hold, or one line that names the file.

Reading is bounded: neither depth nor references make much of little (a page of YAML aliases can stand for gigabytes).
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from rlexp.util.errors import UserError

DEEPEST = 50  # levels of a yaml file
LARGEST = 200_000  # characters of a yaml file
MOST = 10_000  # keys and values of a yaml file


def in_one_line(error: BaseException, most: int = 200) -> str:
    """The beginning of an error's message, which may have many lines, or fail to be made at all."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # an exception class of somebody else's
        text = ""
    return text[:most] or type(error).__name__


def named(error: BaseException, most: int = 500) -> str:
    """An error's class and message in one line; the class alone where there is no message."""
    kind = type(error).__name__
    text = in_one_line(error, most)
    return kind if text == kind else f"{kind}: {text}"


def read_text(path: Path) -> str:
    """What a UTF-8 file holds. Raises UserError where it is not there, is no file, or is in another encoding."""
    if not path.is_file():  # a pipe, say, would be waited for
        what = "is no file" if path.exists() else "no such file"
        raise UserError(f"{path}: {what}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line} is not UTF-8; save it in that encoding") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises UserError."""
    text = read_text(path)
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}: cannot be read as JSON ({in_one_line(error)})") from None
    except RecursionError:
        raise UserError(f"{path}: cannot be read as JSON (it is nested too deeply)") from None


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds. Raises UserError, for other JSON too."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds a {type(found).__name__}, where an object is expected")
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a yaml file of a run holds, as plain data; interpolations are left as they are written. Raises
    UserError with the line of the mistake."""
    from yaml import YAMLError

    text = read_text(path)
    if len(text) > LARGEST:
        raise UserError(f"{path}: is no config, it has {len(text):,} characters")
    try:
        _check_events(path, text)
        found = _loaded(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(yaml_mistake(path, error)) from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: is no mapping of keys to values")
    return found


def yaml_mistake(path: Path | str, error: Exception) -> str:
    """What a yaml parser found wrong in the file `path`, in one line with its number."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or in_one_line(error) or type(error).__name__
    place = f"line {mark.line + 1}: " if mark is not None else ""
    return f"{path}: {place}cannot be read as yaml ({' '.join(problem.split())})"


def _check_events(path: Path, text: str) -> None:
    """Raise UserError where a yaml text refers to parts of itself, or is nested deeply; YAMLError for a mistake."""
    import yaml

    depth = 0
    scalars = 0
    for event in yaml.parse(text, Loader=_loader()):
        if isinstance(event, yaml.AliasEvent):
            raise UserError(f"{path}: line {event.start_mark.line + 1}: aliases (*{event.anchor}) are not read here")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise UserError(f"{path}: line {event.start_mark.line + 1}: is nested too deeply")
        if isinstance(event, yaml.ScalarEvent):
            scalars += 1
        if scalars > MOST:
            raise UserError(f"{path}: is no config, it has more than {MOST:,} keys and values")


def _loaded(text: str) -> Any:
    """What a yaml text holds. Raises YAMLError, and ValueError for what is no plain data."""
    import yaml

    found = yaml.load(text, Loader=_loader())
    _require_plain(found)
    return found


def _require_plain(value: Any) -> None:
    """Raise ValueError for what yaml has beside mappings, lists, texts and numbers: sets, dates, bytes."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int | float):
                raise ValueError(f"{key!r} is no key")
            _require_plain(item)
    elif isinstance(value, list):
        for item in value:
            _require_plain(item)
    elif not isinstance(value, str | int | float | None):
        raise ValueError(f"a {type(value).__name__} is no value")


@cache
def _loader() -> Any:
    """Reads yaml as OmegaConf does, several times as fast: 1e-4 is a number, 2026-01-31 a text, and a key stands once
    in a mapping."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    found = f"found duplicate key {key.value}"
                    raise yaml.constructor.ConstructorError(None, None, found, key.start_mark)
                if isinstance(key, yaml.ScalarNode):
                    keys.add(key.value)
            return super().construct_mapping(node, deep=deep)

    Loader.yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in forms if tag != "tag:yaml.org,2002:timestamp"]
        for first, forms in Loader.yaml_implicit_resolvers.items()
    }
    number = re.compile(r"[-+]?\d+(?:_\d+)*(?:\.[\d_]*)?[eE][-+]?\d+$", re.ASCII)
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return Loader
