"""Options of the commands that load policies: what a file of another program does not say itself."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.util.errors import UserError

if TYPE_CHECKING:
    from rlexp.policies.files import Saved

OPTIONS = ("env", "activation", "prefix", "bounded", "vecnormalize")


def add_options(parser: Any) -> None:
    """Add them to a command's parser."""
    group = parser.add_argument_group(
        "files of other programs",
        "PyTorch state_dicts (.pt, .pth, .ckpt) and zips of Stable-Baselines3; what such a file does not say itself",
    )
    parser.add_argument(
        "--clip-actions",
        action=argparse.BooleanOptionalAction,
        help="continuous actions are clipped to the action space, or executed as drawn (default: as in training)",
    )
    group.add_argument("--env", help="the environment it acts in: conf/env/ENV.yaml, or any Gymnasium id")
    add_unsaid(group)


def add_unsaid(group: Any) -> None:
    """Add the options about the network in a file."""
    group.add_argument("--activation", help="between its layers (tanh is assumed, and said)")
    group.add_argument("--prefix", help="of the actor's tensors' names, where the file holds several networks")
    group.add_argument("--bounded", action="store_true", help="a last tanh scales its actions to the action space")
    group.add_argument("--vecnormalize", metavar="PKL", help="of VecNormalize (default: the one beside the zip)")


def load_all(args: argparse.Namespace, files: list[Path]) -> list["Saved"]:
    """The policies in `files`, some of which may be other programs'; these act in the first own one's environment where
    --env names none. Raises UserError, also for an option that is about none of them."""
    from rlexp.policies.files import load_policy
    from rlexp.policies.foreign import is_foreign

    unsaid = {key: value for key in OPTIONS if (value := getattr(args, key))}
    clip = args.clip_actions
    own = {file: load_policy(file, clip_actions=clip) for file in files if not is_foreign(file)}
    if len(own) == len(files) and unsaid:
        raise UserError(f"--{next(iter(unsaid))}: is about files of other programs; {files[0]} is rlexp's own")
    if own and "env" not in unsaid:
        unsaid["env"] = next(iter(own.values())).env
    if "env" not in unsaid:
        raise UserError(
            f"{files[0]}: is a file of another program, which does not say its environment; name it with --env "
            "(conf/env/ENV.yaml, or any Gymnasium id)"
        )
    return [own[file] if file in own else load_policy(file, clip_actions=clip, **unsaid) for file in files]


def notes(saved: "Saved") -> list[str]:
    """What is to be said with a policy's first evaluation, a line each."""
    if saved.assumed is None:
        return saved.notes
    assumed = f"its file does not say its activation; {saved.assumed} is assumed (--activation says another)"
    return [*saved.notes, assumed]
