"""The `rlexp` command: train, evaluate policies, list runs, publish references, keep data sets, examine the machine."""

import argparse
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

from rlexp.cli import launch
from rlexp.cli.commands import (
    check,
    chunks,
    clone,
    compare,
    courses,
    data,
    doctor,
    evaluate,
    listing,
    pictures,
    preferences,
    refresh,
    report,
    results,
    rlhf,
    runs,
    targets,
    track,
    tune,
    watch,
)
from rlexp.util import trust
from rlexp.util.errors import UserError, did_you_mean, nearest
from rlexp.util.output import steady
from rlexp.util.plugins import told_of_exits

# In the order of `rlexp --help`.
COMMANDS = (
    *(tune, evaluate, check, listing, runs, watch, refresh, compare, report, pictures),
    *(targets, chunks, preferences, rlhf, clone, data, courses, results, track, doctor),
)
PICTURES = (".png", ".svg", ".pdf")
MOST = 1_000_000  # episodes, trajectories, pairs and environments of one command
# Those that load policies, which may name code.
LOADING = ("eval", "publish", "chunks", "targets", "pairs", "sigma", "novices", "reward", "clone")


EVERYWHERE = "every command takes --config-dir DIR: a folder with configs of your own, DIR/env/mine.yaml and so on"


def main(argv: list[str] | None = None) -> int:
    """Run `rlexp argv`; returns the exit code: 0, 1 (doctor found a fault), 2 (the user can mend it).

    `rlexp train` has main.py's.
    """
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["train"]:
        return _train(words[1:])
    if words[:1] == ["tune"]:
        words = ["tune", *launch.ordered(words[1:])]
    parser = Parser(prog="rlexp", description=__doc__, epilog=EVERYWHERE)
    commands = parser.add_subparsers(dest="command", required=True)
    about = "train an algorithm on an environment, as main.py does"
    how = "`rlexp train --help` says what can be typed"
    commands.add_parser("train", help=f"{about}; {how}", add_help=False)
    for each in COMMANDS:
        each.add(commands)
    for command in LOADING:
        options = commands.choices[command]
        options.add_argument("--trust", action="store_true", help="run code that the file names")
    with steady():
        return _run(parser, words)


def _run(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Run the command that `words` are. Returns the exit code."""
    try:
        args = parser.parse_args(_without_config_dirs(words))
        _check(args)
        if vars(args).get("trust"):
            trust.admit_all()
        with told_of_exits():
            return args.run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _without_config_dirs(words: list[str]) -> list[str]:
    """`words` without --config-dir, which is obeyed. Raises UserError where there is no such folder."""
    if not any(word.startswith(("--config-dir", "-cd")) for word in words):
        return words
    from rlexp.experiment.compose import take_config_dirs

    return take_config_dirs(words)


def _train(words: list[str]) -> int:
    """main.py with `words`, which Hydra takes from `sys.argv`."""
    sys.argv = [f"{sys.argv[0]} train", *words]
    return launch.main()


class Parser(argparse.ArgumentParser):
    """One line for a mistake, with the nearest valid choice, instead of the whole usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but an unknown option is an error here, where its neighbours are known."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            word = unknown[0]
            options = self._option_string_actions if word.startswith("-") else ()
            hint = did_you_mean(nearest(word, options))
            raise UserError(f"{word}: {self.prog} knows no such option{hint}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found wrong as a UserError."""
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if choice is None:
            raise UserError(f"{self.prog}: {message.removeprefix('argument ')}")
        word = choice[1]
        known = [name.strip("' ") for name in choice[2].split(",")]
        option = re.match(r"argument (-\S+)", message)
        what = f"{self.prog} {word}: no such command"
        if option is not None:
            what = f"{option[1]} {word}: no such choice"
        hint = did_you_mean(nearest(word, known))
        raise UserError(f"{what}{hint} (there are {', '.join(known)})")


def _check(args: argparse.Namespace) -> None:
    """What several commands share: seeds, and where pictures and files go. Raises UserError before any work."""
    given = vars(args)
    if (given.get("seed") or 0) < 0:
        raise UserError(f"--seed: must be ≥ 0, not {args.seed}")
    for option in ("episodes", "trajectories", "pairs", "envs"):
        if (given.get(option) or 0) > MOST:
            raise UserError(f"--{option}: must be ≤ {MOST:,}, not {given[option]}")
    for option in ("out", "plot", "export"):
        if not given.get(option):
            continue
        path = Path(given[option])
        if not path.parent.is_dir():
            raise UserError(f"--{option}: there is no folder {path.parent}")
        if option != "export" and path.suffix not in PICTURES:
            raise UserError(f"--{option}: {path} must end in {', '.join(PICTURES[:-1])} or {PICTURES[-1]}")


if __name__ == "__main__":
    sys.exit(main())
