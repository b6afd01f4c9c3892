"""`rlexp data`: the project's data sets, and other people's."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.util.errors import UserError, said_of

if TYPE_CHECKING:
    from rlexp.buffers.dataset import Dataset
    from rlexp.envs.spec import EnvConfig

FILES = (".hdf5", ".h5", ".npz", ".pkl", ".pickle")
BLOCKS = " ▁▂▃▄▅▆▇█"


def add(commands: Any) -> None:
    """Add `data` and its commands to the parser's."""
    parser = commands.add_parser("data", help="data sets: make, look at, import, export")
    actions = parser.add_subparsers(dest="action", required=True)

    ls = actions.add_parser("list", help="data sets with a recipe, and those on this machine")
    ls.set_defaults(run=list_all)

    m = actions.add_parser("make", help="make data sets by their recipes (gallery/datasets.yaml)")
    m.add_argument("names", nargs="+", metavar="NAME", help="hopper/medium; or hopper, for all of its data sets")
    m.add_argument("--processes", type=int, help="default: as many as there are cores; the data do not depend on it")
    m.add_argument("--replace", action="store_true", help="make those anew that are there")
    m.set_defaults(run=make)

    i = actions.add_parser("info", help="what is in data sets: steps, returns, lengths, by whom")
    i.add_argument("names", nargs="+", metavar="NAME", help="hopper/medium, hopper for all, minari:<id>, or a file")
    i.add_argument("--env", help="conf/env/ENV.yaml has the constants of the normalised score (default: as stored)")
    i.add_argument("--plot", nargs="?", const="returns.png", metavar="FILE.png", help="draw histograms of returns")
    i.set_defaults(run=info)

    im = actions.add_parser("import", help="store a file of recorded episodes as a data set")
    im.add_argument("file", help="D4RL hdf5, Decision Transformer pickle, npz, states_*.pkl beside actions_*.pkl")
    im.add_argument("name", help="what to call it, e.g. mine: then buffer.dataset=mine")
    im.add_argument("--env", required=True, help="of which environment it is, conf/env/ENV.yaml")
    im.add_argument("--replace", action="store_true", help="one of that name that is there")
    im.set_defaults(run=import_file)

    ex = actions.add_parser("export", help="write a data set as a file in D4RL's layout")
    ex.add_argument("name", help="hopper/medium, or minari:<id>")
    ex.add_argument("file", help="FILE.hdf5")
    ex.add_argument("--replace", action="store_true", help="a file that is there")
    ex.set_defaults(run=export)

    for command in (ls, m, i, im, ex):
        command.add_argument("--json", action="store_true", help="print JSON")


def list_all(args: argparse.Namespace) -> int:
    from rlexp.datasets import generate, store
    from rlexp.datasets.load import kinds

    own = [store.own_id(env, kind) for env, of in kinds().items() for kind in of]
    found: list[dict[str, Any]] = []
    for dataset_id in own + [name for name in store.local() if name not in own]:
        here = store.exists(dataset_id)
        facts = store.facts(dataset_id) if here else {}
        found.append(
            {
                "name": store.short(dataset_id),
                "here": here,
                "outdated": here and dataset_id in own and generate.outdated(*store.short(dataset_id).split("/")),
                "steps": facts.get("total_steps"),
                "episodes": facts.get("total_episodes"),
                "return_mean": facts.get("rlexp", {}).get("returns", {}).get("mean"),
                "mb": round(store.size(dataset_id), 1) if here else None,
            }
        )
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    width = max(len(data["name"]) for data in found)
    print(f"{'name':{width}}  {'steps':>11}  {'episodes':>8}  {'mean return':>11}  {'MB':>6}")
    for data in found:
        steps, episodes, mean = (_short(data[name]) for name in ("steps", "episodes", "return_mean"))
        mb = "" if data["mb"] is None else f"{data['mb']:.1f}"
        note = "  outdated" if data["outdated"] else "" if data["here"] else "  not made yet"
        print(f"{data['name']:{width}}  {steps:>11}  {episodes:>8}  {mean:>11}  {mb:>6}{note}")
    print(f"in {store.root()}")
    return 0


def _short(x: float | None) -> str:
    return "" if x is None else f"{x:,.{0 if isinstance(x, int) else 1 if abs(x) >= 100 else 2}f}"


def make(args: argparse.Namespace) -> int:
    from rlexp.util.processes import limit_threads

    if args.processes is not None and args.processes < 1:
        raise UserError(f"--processes: must be ≥ 1, not {args.processes}")
    limit_threads(1)  # before what needs numpy

    from rlexp.datasets import generate, recipes, store

    made = []
    for name in _names(args.names, unions=True):
        env, _, kind = name.partition("/")
        if name.startswith("minari:") or kind not in recipes.table().get(env, {}):
            raise UserError(f"{name}: has no recipe in gallery/datasets.yaml; it was imported or downloaded")
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


def info(args: argparse.Namespace) -> int:
    from rlexp.datasets import recipes, store
    from rlexp.datasets.load import find

    found, spreads = [], []
    names = _names(args.names, unions=False)
    missing = [name for name in names if name not in args.names and not store.exists(find(name))]
    if missing and len(missing) == len(names):
        raise UserError(f"{', '.join(missing)}: not made yet; rlexp data make {' '.join(args.names)}")
    for name in (name for name in names if name not in missing):
        data, env, made = _opened(name)
        env = recipes.environment(args.env) if args.env else env
        facts = {"name": name, **made, **summary(data, env)}
        found.append(facts)
        if not args.json:
            _print(facts, data)
        if args.plot:
            from rlexp.report.histograms import Spread

            bounds = (env.random_return, env.expert_return) if env else (None, None)
            where, _, kind = name.partition("/") if facts["here"] else ("", "", "")
            if not data.rewarded:
                raise UserError(f"--plot: {name} has no rewards, so its episodes have no returns")
            spreads.append(Spread(name if facts["here"] else Path(name).name, where, kind, data.return_E, *bounds))
    if args.plot:
        from rlexp.report import histograms

        histograms.draw(spreads, Path(args.plot))
        print(args.plot, file=sys.stderr if args.json else sys.stdout)
    if missing:
        print(f"not made yet: {', '.join(missing)}", file=sys.stderr)
    if args.json:
        print(json.dumps(found, indent=2))
    return 0


def import_file(args: argparse.Namespace) -> int:
    from rlexp.datasets import formats, recipes, store
    from rlexp.datasets.load import kinds
    from rlexp.envs.make import describe

    env = recipes.environment(args.env)
    owner, _, kind = args.name.rpartition("/")
    dataset_id = store.own_id(env.name, kind)
    store.folder(dataset_id)
    if owner not in ("", env.name):
        raise UserError(f"{args.name}: --env {args.env} calls it {env.name}/{kind}")
    if kind in recipes.table().get(env.name, {}):
        raise UserError(f"{env.name}/{kind}: is the name of one of this project's own; give it another")
    if kind in kinds().get(env.name, []) and not args.replace:
        raise UserError(f"{env.name}/{kind}: is there already; --replace, or another name")
    data = formats.read(Path(args.file))
    data.check(describe(env))
    with store.locked(dataset_id):
        store.write(dataset_id, data, env, {"imported": Path(args.file).name})
    print(json.dumps({"name": f"{env.name}/{kind}"}) if args.json else f"{env.name}/{kind}: {store.folder(dataset_id)}")
    return 0


def export(args: argparse.Namespace) -> int:
    from rlexp.datasets import formats

    file = Path(args.file)
    if file.suffix.lower() not in (".hdf5", ".h5"):
        raise UserError(f"{file}: must end in .hdf5")
    if not file.parent.is_dir():
        raise UserError(f"{file}: there is no folder {file.parent}")
    if file.exists() and not args.replace:
        raise UserError(f"{file}: is there already; --replace, or another name")
    formats.write_d4rl(file, _opened(_one(args.name))[0])
    print(json.dumps({"file": str(file)}) if args.json else file)
    return 0


def summary(data: "Dataset", env: "EnvConfig | None") -> dict[str, Any]:
    """What `info` says of episodes; standard deviations with ddof 1."""
    total_E, length_E = data.return_E, data.length_E
    returns: dict[str, float] = {}
    if data.rewarded:
        returns["return_mean"] = float(total_E.mean())
        returns["return_std"] = float(total_E.std(ddof=1)) if len(total_E) > 1 else 0.0
        returns["return_min"] = float(total_E.min())
        returns["return_max"] = float(total_E.max()) + 0.0  # −0 is 0
        if env and (score := env.score(returns["return_mean"])) is not None:
            returns["score"] = score
    return {
        "steps": len(data),
        "episodes": len(length_E),
        **returns,
        "length_mean": float(length_E.mean()),
        "length_min": int(length_E.min()),
        "length_max": int(length_E.max()),
        "terminated": float(data.terminated_E.mean()),
        "obs_dim": data.obs_NO.shape[1],
        "action": f"{data.action.shape[1]} dims" if data.action.ndim == 2 else "numbers",
    }


def _print(facts: dict[str, Any], data: "Dataset") -> None:
    import numpy as np

    size = f", {facts['mb']} MB" if facts["here"] else ""
    score = f", score {facts['score']:.1f}" if "score" in facts else ""
    lines = [
        f"{facts['name']}",
        f"  {facts['steps']:,} steps, {facts['episodes']:,} episodes{size}; {facts['obs_dim']} observation dims, "
        f"actions: {facts['action']}",
        "  return   not recorded",
        f"  length   {facts['length_mean']:.1f} on average, {facts['length_min']} to {facts['length_max']}; "
        f"{facts['terminated']:.1%} terminated",
        f"  by       {facts['made_by']}",
    ]
    if data.rewarded:
        low, high, spread = facts["return_min"], facts["return_max"], f"± {facts['return_std']:.2f} (std)"
        lines[2] = f"  return   {facts['return_mean']:.2f} {spread}, {low:.2f} to {high:.2f}{score}"
        counts = np.histogram(data.return_E, 40)[0]
        bars = "".join(BLOCKS[-(-8 * int(n) // max(1, counts.max()))] for n in counts)
        lines.append(f"  returns  {low:.4g} {bars} {high:.4g}")
    print("\n".join(lines))


def _opened(name: str) -> "tuple[Dataset, EnvConfig | None, dict[str, Any]]":
    """A data set or file, its environment where that is known, and what is known of its making."""
    from rlexp.datasets import formats, recipes, store
    from rlexp.datasets.load import find

    if name.endswith(FILES):
        data = formats.read(Path(name))
        data.check_numbers()
        return data, None, {"here": False, "made_by": "unknown policies"}
    dataset_id = find(name)
    if not store.exists(dataset_id):
        raise UserError(f"{name}: is not on this machine" + ("" if ":" in name else f"; rlexp data make {name}"))
    data = store.read(dataset_id)
    data.check_numbers()
    facts = store.facts(dataset_id)
    own = facts.get("rlexp", {})
    by = store.made_by(own.get("policies", []))
    made = {"here": True, "id": dataset_id, "mb": round(store.size(dataset_id), 1), "made_by": by, "made": own}
    return data, recipes.environment(own["env"]) if own else None, made


def _names(words: list[str], *, unions: bool) -> list[str]:
    """Names of data sets and files; an environment's name stands for all of its own, mere unions among them or not."""
    from rlexp.datasets import recipes
    from rlexp.datasets.load import kinds

    names, known, table = [], kinds(), recipes.table()
    for word in words:
        if word in known:
            own = table.get(word, {})
            whole = [kind for kind in known[word] if unions or kind not in own or not own[kind].parts]
            names += [f"{word}/{kind}" for kind in whole]
        else:
            names.append(_one(word))
    return names


def _one(word: str) -> str:
    from rlexp.datasets.load import find, kinds

    if not word.endswith(FILES):
        if "/" not in word and not word.startswith("minari:"):
            raise UserError(f"{word}: no data set; name one like hopper/medium, {', '.join(kinds())}, or a file")
        with said_of(word):
            find(word)
    return word
