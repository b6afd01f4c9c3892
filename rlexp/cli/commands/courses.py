"""`rlexp courses`: the hand-outs of five courses, part by part: command, files to hand in, bar, our number, verdict.

`rlexp courses checks` compares the numbers that hand-outs give for checking with ours; exit code 1 where they differ.
"""

import argparse
import dataclasses
import math
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from rlexp.cli import launch
from rlexp.cli.commands import finite, print_json
from rlexp.util.errors import UserError, did_you_mean, nearest

if TYPE_CHECKING:
    from rlexp.report.courses import Found, Part

CHECKING = "checks"
ENGINES = {"main.py": "serial", "main_mp.py": "processes"}


def add(commands: Any) -> None:
    """Put the command on the `rlexp` command line."""
    c = commands.add_parser("courses", help="five courses' hand-outs: command, files to hand in, bar, verdict")
    c.add_argument("part", nargs="?", help=f"one part in full; '{CHECKING}': the numbers that hand-outs check with")
    c.add_argument("names", nargs="*", help=f"of {CHECKING} (default: all)")
    c.add_argument("--hand-out", metavar="X", help="the parts of one hand-out only")
    c.add_argument("--markdown", action="store_true", help="print the page COURSES.md")
    c.add_argument(
        "--keep", action="store_true", help=f"of {CHECKING}: write gallery/checks.json, which the table reads"
    )
    c.add_argument("--json", action="store_true", help="print JSON")
    c.add_argument(
        "--run",
        nargs=argparse.REMAINDER,
        dest="options",
        metavar="OPTION",
        help="run the part's command, with these options behind it",
    )
    c.set_defaults(run=courses)


def courses(args: argparse.Namespace) -> int:
    """Print the table, or a part; or run one."""
    from rlexp.report import courses as table
    from rlexp.report import courses_page as page

    if args.part == CHECKING:
        return _checks(args)
    if args.keep:
        raise UserError(f"--keep: goes with `rlexp courses {CHECKING}`")
    if args.names:
        raise UserError(f"rlexp courses: one part at a time, not {' '.join([args.part, *args.names])}")
    known = table.parts()
    if args.options is not None:
        if args.part is None:
            raise UserError("--run: name the part to run")
        return _start(table.find(args.part, known), args.options)
    chosen = list(known.values())
    if args.hand_out is not None:
        chosen = _of(args.hand_out, chosen)
    if args.part is not None:
        chosen = [table.find(args.part, known)]
    if args.json:
        print_json([_facts(part) for part in chosen])
    elif args.markdown:
        print(page.markdown(chosen), end="")
    elif args.part is not None:
        print("\n".join(page.details(chosen[0])))
    else:
        print("\n".join(page.overview(chosen)).lstrip())
    return 0


def _of(handout: str, parts: "list[Part]") -> "list[Part]":
    """The parts of one hand-out. Raises UserError."""
    found = [part for part in parts if part.handout == handout]
    if not found:
        known = list(dict.fromkeys(part.handout for part in parts))
        hint = did_you_mean(nearest(handout, known))
        raise UserError(f"--hand-out {handout}: no such hand-out{hint} (there are {', '.join(known)})")
    return found


def _facts(part: "Part") -> dict[str, Any]:
    """A part as --json prints it, with what was found for each of its bars."""
    from rlexp.report.courses import judged

    facts = dataclasses.asdict(part)
    for bar, body in zip(part.bars, facts["bars"], strict=True):
        body["found"] = [_number(found) for found in judged(bar)]
    return facts


def _number(found: "Found") -> dict[str, Any]:
    facts = dataclasses.asdict(found)
    facts["mean"] = None if math.isnan(found.mean) else found.mean
    facts["half"] = finite(found.half)
    return facts


def _start(part: "Part", options: list[str]) -> int:
    """Run a part's command with `options` behind it. Returns its exit code. Raises UserError."""
    program, *words = shlex.split(part.command)
    if program == "python":
        script, *words = words
        sys.argv = [f"{sys.argv[0]} train", *words, *options]
        return launch.main(ENGINES[script])
    if any(word.startswith(("RUN", "STUDY")) for word in words):
        raise UserError(f"--run: {part.name} needs a run; put its folder for RUN into: {part.command}")
    return subprocess.run([sys.executable, "-m", "rlexp", *words, *options]).returncode


def _checks(args: argparse.Namespace) -> int:
    """Expected and found numbers. Returns 1 where any of them differ."""
    from rlexp.report.course_checks import CHECKS, keep

    if args.keep and args.names:
        raise UserError(f"--keep: takes all checks, not {' '.join(args.names)} alone")
    for name in args.names:
        if name not in CHECKS:
            hint = did_you_mean(nearest(name, CHECKS))
            raise UserError(f"{name}: no such check{hint} (there are {', '.join(CHECKS)})")
    found = {name: CHECKS[name]() for name in args.names or CHECKS}
    if args.keep:
        keep(found)
    rows = [(name, one) for name, ones in found.items() for one in ones]
    if args.json:
        print_json([{"check": name, **dataclasses.asdict(one), "agrees": one.agrees} for name, one in rows])
    else:
        print("| check | what | expected | found | within | agrees |")
        print("|---|---|---|---|---|---|")
        for name, one in rows:
            word = "yes" if one.agrees else "NO"
            print(f"| {name} | {one.what} | {one.expected:g} | {one.found:.4f} | {one.tolerance:.2g} | {word} |")
    return 0 if all(one.agrees for _, one in rows) else 1
