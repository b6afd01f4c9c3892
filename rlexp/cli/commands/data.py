"""`rlexp data`: the project's data sets, and other people's. What is in them stands in data_info.py."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rlexp.cli.commands import data_info, foreign, print_json
from rlexp.cli.commands.data_info import chosen, one, opened
from rlexp.util.errors import UserError

STEPS = 100_000  # of a data set of one's own
MOST = {"steps": 1_000_000_000, "episodes": 1_000_000}
OF_POLICY = ("steps", "episodes", "sampled", "activation", "prefix", "bounded", "vecnormalize")


def add(commands: Any) -> None:
    """Add `data` and its commands to the parser's."""
    parser = commands.add_parser("data", help="data sets: make, look at, import, export")
    actions = parser.add_subparsers(dest="action", required=True)
    _add_list(actions)
    _add_make(actions)
    data_info.add(actions)
    _add_import(actions)
    _add_export(actions)
    for command in actions.choices.values():
        command.add_argument("--json", action="store_true", help="print JSON")


def _add_list(actions: Any) -> None:
    ls = actions.add_parser("list", help="data sets with a recipe, and those on this machine")
    ls.set_defaults(run=list_all)


def _add_make(actions: Any) -> None:
    m = actions.add_parser("make", help="make data sets by their recipes (gallery/datasets.yaml)")
    m.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="hopper/medium; or hopper, for all of its data sets",
    )
    m.add_argument(
        "--processes",
        type=int,
        help="default: as many as there are cores; the data do not depend on it",
    )
    m.add_argument("--replace", action="store_true", help="make those anew that are there")
    m.add_argument(
        "--policy", metavar="POLICY", help="make the one data set NAME, ENV/ANY-NAME, of this policy's episodes"
    )
    amount = m.add_mutually_exclusive_group()
    amount.add_argument("--steps", type=int, help=f"with --policy: how many (default {STEPS:,})")
    amount.add_argument("--episodes", type=int, help="with --policy: so many whole episodes instead of steps")
    m.add_argument("--sampled", action="store_true", help="with --policy: sampled instead of mean actions")
    m.add_argument("--trust", action="store_true", help="with --policy: run code that the file names")
    foreign.add_unsaid(m.add_argument_group("--policy of another program"))
    m.set_defaults(run=make)


def _add_import(actions: Any) -> None:
    im = actions.add_parser("import", help="store a file of recorded episodes as a data set")
    im.add_argument(
        "file",
        help="D4RL's or robomimic's hdf5, npz, pickle, states_*.pkl beside actions_*.pkl",
    )
    im.add_argument("name", help="what to call it, e.g. mine: then buffer.dataset=mine")
    im.add_argument("--env", required=True, help="of which environment it is, conf/env/ENV.yaml")
    im.add_argument("--replace", action="store_true", help="one of that name that is there")
    im.add_argument("--clip-actions", action="store_true", help="clip those outside of the environment's bounds")
    im.set_defaults(run=import_file)


def _add_export(actions: Any) -> None:
    ex = actions.add_parser("export", help="write a data set as a file in D4RL's layout")
    ex.add_argument("name", help="hopper/medium, or minari:<id>")
    ex.add_argument("file", help="FILE.hdf5")
    ex.add_argument("--replace", action="store_true", help="a file that is there")
    ex.set_defaults(run=export)


def list_all(args: argparse.Namespace) -> int:
    """A line for each data set, or one JSON list."""
    from rlexp.datasets import store
    from rlexp.datasets.load import kinds

    own = [store.own_id(env, kind) for env, several in kinds().items() for kind in several]
    others = [dataset_id for dataset_id in store.local() if dataset_id not in own]
    found = []
    for dataset_id in own + others:
        try:
            found.append(_facts(dataset_id, dataset_id in own))
        except UserError as error:  # one bad folder: the others are listed
            print(f"warning: {error}", file=sys.stderr)
    if args.json:
        print_json(found)
        return 0
    width = max([len(facts["name"]) for facts in found], default=4)
    print(f"{'name':{width}}  {'steps':>11}  {'episodes':>8}  {'mean return':>11}  {'MB':>6}")
    for facts in found:
        print(_line(facts, width))
    print(f"in {store.root()}")
    return 0


def _facts(dataset_id: str, own: bool) -> dict[str, Any]:
    """What the list says of a data set, which may not be on this machine yet."""
    from rlexp.datasets import generate, store

    name = store.short(dataset_id)
    if not store.exists(dataset_id):
        unknown = dict.fromkeys(("steps", "episodes", "return_mean", "mb"))
        return {"name": name, "here": False, "outdated": False, **unknown}
    facts = store.facts(dataset_id)
    return {
        "name": name,
        "here": True,
        "outdated": own and generate.outdated(*name.split("/")),
        "steps": facts.get("total_steps"),
        "episodes": facts.get("total_episodes"),
        "return_mean": facts.get("rlexp", {}).get("returns", {}).get("mean"),
        "mb": round(store.size(dataset_id), 1),
    }


def _line(facts: dict[str, Any], width: int) -> str:
    steps = _short(facts["steps"])
    episodes = _short(facts["episodes"])
    mean = _short(facts["return_mean"])
    megabytes = "" if facts["mb"] is None else f"{facts['mb']:.1f}"
    line = f"{facts['name']:{width}}  {steps:>11}  {episodes:>8}  {mean:>11}  {megabytes:>6}"
    if facts["outdated"]:
        return f"{line}  outdated"
    if not facts["here"]:
        return f"{line}  not made yet"
    return line


def _short(x: float | None) -> str:
    """A count, or a mean with about four digits; nothing for None."""
    if x is None:
        return ""
    if isinstance(x, int):
        return f"{x:,}"
    return f"{x:,.1f}" if abs(x) >= 100 else f"{x:,.2f}"


def make(args: argparse.Namespace) -> int:
    """Make data sets one after another, and print where each is."""
    from rlexp.util.processes import limit_threads

    if args.processes is not None and args.processes < 1:
        raise UserError(f"--processes: must be ≥ 1, not {args.processes}")
    limit_threads(1)  # before what needs numpy
    if args.policy is not None:
        return make_of(args)
    given = next((name for name in OF_POLICY if getattr(args, name)), None)
    if given is not None:
        raise UserError(f"--{given}: is about --policy POLICY; a recipe says its own")

    from rlexp.datasets import generate, recipes, store

    made = []
    for name in chosen(args.names, unions=True):
        env, _, kind = name.partition("/")
        if name.startswith("minari:") or kind not in recipes.table().get(env, {}):
            reason = "it was imported or downloaded"
            raise UserError(f"{name}: has no recipe in gallery/datasets.yaml; {reason}")
        try:
            generate.make(env, kind, args.processes, replace=args.replace)
        except KeyboardInterrupt:
            print(f"interrupted; nothing of {name} was kept", file=sys.stderr)
            return 130
        made.append(str(store.folder(store.own_id(env, kind))))
        if not args.json:
            print(f"{name}: {made[-1]}")
    if args.json:
        print(json.dumps({"made": made}))
    return 0


def make_of(args: argparse.Namespace) -> int:
    """Make one data set of the policy that is named, and print where it is."""
    from rlexp.datasets import generate, shards, store
    from rlexp.datasets.recipes import Share
    from rlexp.policies.files import find_policy
    from rlexp.policies.foreign import is_foreign

    for option, most in MOST.items():
        amount = getattr(args, option)
        if amount is not None and not 1 <= amount <= most:
            raise UserError(f"--{option}: must be from 1 to {most:,}, not {amount:,}")
    env, _, kind = args.names[0].partition("/")
    if len(args.names) > 1 or not kind:
        raise UserError(f"--policy: makes one data set, ENV/ANY-NAME; not {' '.join(args.names)}")
    dataset_id = store.own_id(env, kind)
    folder = store.folder(dataset_id)  # refuses what is no name
    _check_free(env, kind, args.replace)
    file = find_policy(args.policy)[0]
    unsaid = {key: value for key in foreign.OPTIONS if (value := getattr(args, key, None))}
    if is_foreign(file):
        unsaid["env"] = env
    steps = None if args.episodes else args.steps or STEPS
    share = Share(file.resolve(), steps, args.episodes, args.sampled, tuple(unsaid.items()))
    try:
        generate.make_of(env, kind, share, args.processes, replace=args.replace)
    except KeyboardInterrupt:
        print(f"interrupted; nothing of {args.names[0]} was kept", file=sys.stderr)
        return 130
    notes = foreign.notes(shards.loaded(share))
    if args.json:
        print(json.dumps({"made": [str(folder)], **({"notes": notes} if notes else {})}))
        return 0
    print(f"{env}/{kind}: {folder}")
    for note in notes:
        print(f"  {note}")
    return 0


def import_file(args: argparse.Namespace) -> int:
    """Store a file's episodes as a data set, and print where it is."""
    from rlexp.datasets import formats, recipes, store
    from rlexp.datasets.load import fitted
    from rlexp.envs.make import describe

    env = recipes.environment(args.env)
    owner, _, kind = args.name.rpartition("/")
    name = f"{env.name}/{kind}"
    dataset_id = store.own_id(env.name, kind)
    folder = store.folder(dataset_id)
    if owner not in ("", env.name):
        raise UserError(f"{args.name}: --env {args.env} calls it {name}")
    _check_free(env.name, kind, args.replace)
    found = formats.read(Path(args.file), env.time_limit)
    data = fitted(found, describe(env), "--clip-actions", clip=args.clip_actions)
    with store.locked(dataset_id):
        store.write(dataset_id, data, env, {"imported": Path(args.file).name})
    print(json.dumps({"name": name}) if args.json else f"{name}: {folder}")
    return 0


def _check_free(env: str, kind: str, replace: bool) -> None:
    """Raises UserError for the name of a data set that is not to be replaced."""
    from rlexp.datasets import recipes
    from rlexp.datasets.load import kinds

    name = f"{env}/{kind}"
    if kind in recipes.table().get(env, {}):
        raise UserError(f"{name}: is the name of one of this project's own; give it another")
    if kind in kinds().get(env, []) and not replace:
        raise UserError(f"{name}: is there already; --replace, or another name")


def export(args: argparse.Namespace) -> int:
    """Write a data set as a file, and print its name."""
    from rlexp.datasets import formats

    file = Path(args.file)
    if file.suffix.lower() not in (".hdf5", ".h5"):
        raise UserError(f"{file}: must end in .hdf5")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}")
    if file.exists() and not args.replace:
        raise UserError(f"{file}: is there already; --replace, or another name")
    data, _, _ = opened(one(args.name))
    formats.write_d4rl(file, data)
    print(json.dumps({"file": str(file)}) if args.json else file)
    return 0
