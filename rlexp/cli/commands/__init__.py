"""The subcommands of `rlexp` that belong to some algorithms or to data; rlexp/cli.py has the rest."""

from rlexp.util.errors import UserError


def distinct(given: str | None, usual: list[str]) -> list[str]:
    """What several runs are called in a picture: `given`, with commas between, or their `usual` names. Raises UserError
    unless these are as many, and different."""
    names = given.split(",") if given else usual
    if len(set(names)) != len(names) or len(names) != len(usual):
        raise UserError(f"--names: takes as many different names as there are runs ({len(usual)}), with commas between")
    return names
