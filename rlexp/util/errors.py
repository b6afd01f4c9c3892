"""The one exception that means "the user can mend this": it becomes one line and exit code 2."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Control characters, as Python writes them: names in files may hold some, that end a line or command a terminal.
ESCAPED = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)}


class UserError(Exception):
    """Something the user typed or supplied is wrong. The message says what, where, and the nearest valid choice, in one
    line."""

    def __str__(self) -> str:
        return super().__str__().translate(ESCAPED)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: IPython asks for this."""
        return [f"error: {self}"]


@contextmanager
def said_of(what: str, hint: str = "") -> Iterator[None]:
    """Within, a UserError's message is told of `what` (an option, a file): `what: message`, then `hint`. A message that
    begins with the option's value or the file does not say it twice."""
    try:
        yield
    except UserError as error:
        message = str(error).removeprefix(f"{what.partition('=')[2] or what}: ")
        raise UserError(f"{what}: {message}{hint}") from None


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice closest to `word`, other than `word` itself; None where none is close.

    Close is what differs in few letters or only in case, and a longer name that contains `word`.
    """
    others = [choice for choice in choices if choice != word]
    similar = difflib.get_close_matches(word, others, n=1, cutoff=0.6)
    containing = [choice for choice in others if word.lower() in choice.lower()]
    return next(iter(similar + containing), None)


def among(choices: Iterable[str], most: int = 8) -> str:
    """What there is to choose from, as far as one line may hold it: `a, b, c`, or `a, b and 39 more`."""
    names = list(choices)
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def did_you_mean(choice: str | None) -> str:
    """What a message about a misspelt word ends with: `"; did you mean 'x'?"`, or nothing for None."""
    if choice is None:
        return ""
    return f"; did you mean '{choice}'?"
