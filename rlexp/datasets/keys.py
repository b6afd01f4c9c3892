"""What others call the arrays of recorded episodes."""

from collections.abc import Iterable

from rlexp.datasets.arrays import Wrong
from rlexp.util.errors import did_you_mean, nearest

# Where a file has several of one line, the first is meant. `dones` are terminals: whether a time limit is among them
# they do not say.
ALIASES = {
    "observations": ("observations", "observation", "obs", "states", "state"),
    "actions": ("actions", "action", "acts", "act"),
    "rewards": ("rewards", "reward", "rews", "rew"),
    "terminals": ("terminals", "terminal", "terminations", "terminated", "dones", "done"),
    "timeouts": ("timeouts", "timeout", "truncations", "truncated"),
    "next_observations": ("next_observations", "next_observation", "next_obs", "next_states", "next_state"),
}
BESIDE = ("info", "metadata", "env_info", "agent_info", "image_obs")  # what begins so may be there, and is not read
_KNOWN = [name for names in ALIASES.values() for name in names]


def find(keys: Iterable[str], needed: Iterable[str] = (), where: str = "", *, strict: bool = True) -> dict[str, str]:
    """The name in the file of each array that is there, by our name for it. Raises Wrong.

    needed: our names of those that must be there
    where: what the message begins with
    strict: a name that is not known is a mistake, of a letter perhaps
    """
    keys = [str(key) for key in keys]
    found = {}
    for ours, names in ALIASES.items():
        there = [name for name in names if name in keys]
        if there:
            found[ours] = there[0]
    if strict:
        for key in keys:
            if key not in _KNOWN and not key.startswith(BESIDE):
                raise Wrong(f"{where}unknown key '{key}'{did_you_mean(nearest(key, _KNOWN))}")
    for ours in needed:
        if ours not in found:
            raise Wrong(f"{where}has no '{ours}'; it has {', '.join(keys) or 'nothing'}")
    return found
