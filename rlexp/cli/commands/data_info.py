"""`rlexp data info`: what is in data sets. And how a name on the command line becomes a data set."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlexp.cli.commands import print_json
from rlexp.util.errors import UserError, said_of

if TYPE_CHECKING:
    from rlexp.buffers.dataset import Dataset
    from rlexp.envs.spec import EnvConfig
    from rlexp.report.histograms import Spread

FILES = (".hdf5", ".h5", ".npz", ".pkl", ".pickle")
BLOCKS = " ▁▂▃▄▅▆▇█"
BARS = 40


def add(actions: Any) -> None:
    """Add `info` to the commands of `rlexp data`."""
    i = actions.add_parser("info", help="what is in data sets: steps, returns, lengths, by whom")
    i.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="hopper/medium, hopper for all, minari:<id>, or a file",
    )
    i.add_argument(
        "--env",
        help="conf/env/ENV.yaml, or any Gymnasium id: the constants of the normalised score (default: as stored), and "
        "the time limit where a file does not say it",
    )
    i.add_argument(
        "--plot",
        nargs="?",
        const="returns.png",
        metavar="FILE.png",
        help="draw histograms of returns",
    )
    i.set_defaults(run=info)


def info(args: argparse.Namespace) -> int:
    """Some lines for each data set, or one JSON list; and the picture where one is asked for."""
    from rlexp.envs.named import environment

    names, missing = _present(args.names)
    found = []
    spreads = []
    for name in names:
        data, env, made = opened(name, args.env)
        if args.env:
            env = environment(args.env)
        facts = {"name": name, **made, **summary(data, env)}
        found.append(facts)
        if not args.json:
            print(_text(facts, data))
        if args.plot:
            spreads.append(_spread(name, made["here"], data, env))
    if args.plot:
        from rlexp.report import histograms

        histograms.draw(spreads, Path(args.plot))
        print(args.plot, file=sys.stderr if args.json else sys.stdout)
    if missing:
        print(f"not made yet: {', '.join(missing)}", file=sys.stderr)
    if args.json:
        print_json(found)
    return 0


def _present(words: list[str]) -> tuple[list[str], list[str]]:
    """(names to look at, names not made yet) of what was typed. Raises UserError where nothing is there.

    A data set that was typed by its own name is to be looked at, there or not.
    """
    from rlexp.datasets import store
    from rlexp.datasets.load import find

    names = chosen(words, unions=False)
    missing = [name for name in names if name not in words and not store.exists(find(name))]
    if missing and len(missing) == len(names):
        raise UserError(f"{', '.join(missing)}: not made yet; rlexp data make {' '.join(words)}")
    return [name for name in names if name not in missing], missing


def chosen(words: list[str], *, unions: bool) -> list[str]:
    """Names of data sets and files. An environment's name stands for all of its own, with `unions` of others too.

    Raises UserError for what is no name.
    """
    from rlexp.datasets import recipes
    from rlexp.datasets.load import kinds

    known = kinds()
    table = recipes.table()
    names = []
    for word in words:
        if word not in known:
            names.append(one(word))
            continue
        own = table.get(word, {})
        for kind in known[word]:
            is_union = kind in own and bool(own[kind].parts)
            if unions or not is_union:
                names.append(f"{word}/{kind}")
    return names


def is_file(word: str) -> bool:
    """Whether `word` names a file of recorded episodes, by its ending, and no data set."""
    return word.lower().endswith(FILES)


def one(word: str) -> str:
    """`word`, if it names one data set or file. Raises UserError."""
    from rlexp.datasets.load import find, kinds

    if is_file(word):
        return word
    if "/" not in word and not word.startswith("minari:"):
        known = ", ".join(kinds())
        raise UserError(f"{word}: no data set; name one like hopper/medium, {known}, or a file")
    with said_of(word):
        find(word)
    return word


def opened(name: str, env_name: str | None = None) -> "tuple[Dataset, EnvConfig | None, dict[str, Any]]":
    """A data set or file, its environment where that is known, and what is known of its making.

    env_name: the environment of a file, whose time limit ends episodes where the file does not say which it ended
    """
    from rlexp.datasets import formats, recipes, store
    from rlexp.datasets.load import find
    from rlexp.envs.named import environment

    if is_file(name):
        limit = environment(env_name).time_limit if env_name else None
        data = formats.read(Path(name), limit)
        data.check_numbers()
        return data, None, {"here": False, "made_by": "unknown policies"}
    dataset_id = find(name)
    if not store.exists(dataset_id):
        hint = "" if ":" in name else f"; rlexp data make {name}"
        raise UserError(f"{name}: is not on this machine{hint}")
    data = store.read(dataset_id)
    data.check_numbers()
    own = store.facts(dataset_id).get("rlexp", {})
    env = recipes.environment(str(own["env"])) if "env" in own else None
    made = {
        "here": True,
        "id": dataset_id,
        "mb": round(store.size(dataset_id), 1),
        "made_by": store.made_by(own.get("policies", [])),
        "made": own,
    }
    return data, env, made


def summary(data: "Dataset", env: "EnvConfig | None") -> dict[str, Any]:
    """What `info` says of episodes; standard deviations with ddof 1."""
    length_E = data.length_E
    action = "numbers"
    if data.action.ndim == 2:
        action = f"{data.action.shape[1]} dims"
    return {
        "steps": len(data),
        "episodes": len(length_E),
        **(_returns(data, env) if data.rewarded else {}),
        "length_mean": float(length_E.mean()),
        "length_min": int(length_E.min()),
        "length_max": int(length_E.max()),
        "terminated": float(data.terminated_E.mean()),
        "obs_dim": data.obs_NO.shape[1],
        "action": action,
    }


def _returns(data: "Dataset", env: "EnvConfig | None") -> dict[str, float]:
    """Statistics of the episodes' returns, and the normalised score of their mean where there is one."""
    total_E = data.return_E
    mean = float(total_E.mean())
    returns = {
        "return_mean": mean,
        "return_std": float(total_E.std(ddof=1)) if len(total_E) > 1 else 0.0,
        "return_min": float(total_E.min()),
        "return_max": float(total_E.max()) + 0.0,  # −0 is 0
    }
    score = env.score(mean) if env is not None else None
    if score is not None:
        returns["score"] = score
    return returns


def _text(facts: dict[str, Any], data: "Dataset") -> str:
    """What is printed of a data set."""
    size = [f"{facts['steps']:,} steps", f"{facts['episodes']:,} episodes"]
    if facts["here"]:
        size.append(f"{facts['mb']} MB")
    space = f"{facts['obs_dim']} observation dims, actions: {facts['action']}"
    terminated = f"{facts['terminated']:.1%} terminated"
    lengths = f"{facts['length_min']} to {facts['length_max']}"
    lines = [
        facts["name"],
        f"  {', '.join(size)}; {space}",
        f"  return   {_return_text(facts)}",
        f"  length   {facts['length_mean']:.1f} on average, {lengths}; {terminated}",
        f"  by       {facts['made_by']}",
    ]
    if data.rewarded:
        ends = (f"{facts['return_min']:.4g}", f"{facts['return_max']:.4g}")
        lines.append(f"  returns  {ends[0]} {_bars(data)} {ends[1]}")
    return "\n".join(lines)


def _return_text(facts: dict[str, Any]) -> str:
    if "return_mean" not in facts:
        return "not recorded"
    parts = [
        f"{facts['return_mean']:.2f} ± {facts['return_std']:.2f} (std)",
        f"{facts['return_min']:.2f} to {facts['return_max']:.2f}",
    ]
    if "score" in facts:
        parts.append(f"score {facts['score']:.1f}")
    return ", ".join(parts)


def _bars(data: "Dataset") -> str:
    """A histogram of the returns in one line; whatever is not empty can be seen."""
    import numpy as np

    counts, _ = np.histogram(data.return_E, BARS)
    highest = max(1, counts.max())
    heights = np.ceil(8 * counts / highest).astype(int)
    return "".join(BLOCKS[height] for height in heights)


def _spread(name: str, here: bool, data: "Dataset", env: "EnvConfig | None") -> "Spread":
    """What is drawn of a data set or file. Raises UserError where it has no returns."""
    from rlexp.report.histograms import Spread

    if not data.rewarded:
        raise UserError(f"--plot: {name} has no rewards, so its episodes have no returns")
    scale = (None, None) if env is None else (env.random_return, env.expert_return)
    if not here:
        return Spread(Path(name).name, "", "", data.return_E, *scale)
    where, _, kind = name.partition("/")
    return Spread(name, where, kind, data.return_E, *scale)
