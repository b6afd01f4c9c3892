"""Numbers that hand-outs give, beside ours, as gallery/checks.json keeps them: the table of hand-outs need not compute
them anew, which takes PyTorch and three thousand episodes."""

from dataclasses import dataclass

from rlexp.util import paths
from rlexp.util.errors import UserError
from rlexp.util.files import read_object

FILE = "checks.json"


@dataclass(frozen=True)
class Compared:
    """A number that a hand-out gives, and ours. They agree where they differ by no more than `tolerance`."""

    what: str
    expected: float
    found: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        return abs(self.found - self.expected) <= self.tolerance


def kept(name: str) -> list[Compared]:
    """What was found when the check called `name` was last kept; empty where it was not. Raises UserError."""
    file = paths.GALLERY / FILE
    if not file.is_file():
        return []
    try:
        return [Compared(**one) for one in read_object(file).get(name, [])]
    except TypeError:
        raise UserError(f"{file}: {name} holds what is no check") from None
