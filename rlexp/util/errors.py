"""The one exception that means "the user can mend this": it becomes one line and exit code 2."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the user typed or supplied is wrong. The message says what, where, and the nearest valid choice."""


@contextmanager
def said_of(what: str, hint: str = "") -> Iterator[None]:
    """Within, a UserError's message is told of `what` (an option, a file): `what: message`, then `hint`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}{hint}") from None


def nearest(word: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the choice closest to `word`, or `""` where none is close."""
    choices = [choice for choice in choices if choice != word]
    match = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if not match:  # the same letters in another case, or a part of a longer name
        match = [c for c in choices if word.lower() in c.lower()][:1]
    return f"; did you mean '{match[0]}'?" if match else ""
