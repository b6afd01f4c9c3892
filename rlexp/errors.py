"""The one exception that means "the user can mend this": it becomes one line and exit code 2."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user typed or supplied is wrong. The message says what, where, and the nearest valid choice."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the choice closest to `word`, or `""` where none is close."""
    choices = [choice for choice in choices if choice != word]
    match = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if not match:  # the same letters in another case, or a part of a longer name
        match = [c for c in choices if word.lower() in c.lower()][:1]
    return f"; did you mean '{match[0]}'?" if match else ""
