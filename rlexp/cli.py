"""The `rlexp` command: evaluate policies, list runs, publish references, keep data sets, examine the machine."""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

from rlexp.commands import chunks, data, pictures, preferences, rlhf, targets
from rlexp.errors import UserError, nearest


def main(argv: list[str] | None = None) -> int:
    """Run `rlexp argv`; returns the exit code: 0, 1 (doctor found a fault), 2 (the user can mend it)."""
    parser = Parser(prog="rlexp", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    e = commands.add_parser("eval", help="score a run, a checkpoint or a shipped policy on fresh episodes")
    e.add_argument("policy", help="run folder, checkpoint or policy file, or the name of a policy in gallery/policies")
    e.add_argument("--episodes", type=int, default=100, help="per policy (default 100)")
    e.add_argument("--sampled", action="store_true", help="sampled instead of mean (most likely) actions")
    e.add_argument("--best", action="store_true", help="the best policy by evaluation instead of the last one")
    e.add_argument("--seed", type=int, default=0, help="of the evaluation's episodes (default 0)")
    e.add_argument("--bar", type=float, help="also print the share of episodes that return this much or more")
    e.add_argument("--video", action="store_true", help="film the best, median and worst episode into ./videos")
    e.add_argument("--render", action="store_true", help="show episodes in a window")
    e.set_defaults(run=evaluate)

    ls = commands.add_parser("list", help="runs with their scores")
    ls.add_argument("folder", nargs="?", default="runs", help="where to look (default runs)")
    ls.set_defaults(run=list_runs)

    p = commands.add_parser("publish", help="make a run's curve a reference in gallery/")
    p.add_argument("folder", help="a finished run folder")
    p.add_argument("--variant", help="name to tell it from others of the same algorithm and environment")
    p.add_argument("--replace", action="store_true", help="what is already there by that name")
    p.add_argument("--policy", metavar="NAME", help="instead, ship a seed's last policy as gallery/policies/NAME")
    p.add_argument(
        "--ladder", metavar="NAME", help="instead, ship a seed's snapshots as the folder gallery/policies/NAME"
    )
    p.add_argument("--seed", type=int, help="with --policy, --ladder: of which seed (default: the first)")
    p.add_argument(
        "--step", type=int, help="with --policy: the snapshot at this step; with --ladder: only those before"
    )
    p.add_argument("--best", action="store_true", help="with --policy: the best by evaluation instead of the last")
    p.add_argument("--every", type=int, help="with --ladder: only snapshots at multiples of this step")
    p.set_defaults(run=publish)

    r = commands.add_parser("reach", help="when each seed of a run first reached a bar")
    r.add_argument("folder", help="a run folder")
    r.add_argument("bar", type=float, help="the value to reach")
    r.add_argument("--metric", default="eval/return_mean", help="a name in metrics.jsonl (default eval/return_mean)")
    r.add_argument("--within", type=int, help="count only steps up to this one")
    r.set_defaults(run=reach)

    d = commands.add_parser("doctor", help="what this machine can do")
    d.set_defaults(run=doctor)

    for more in (data, pictures, chunks, targets, preferences, rlhf):
        more.add(commands)
    for command in (e, ls, p, r, d):
        command.add_argument("--json", action="store_true", help="print JSON")
    try:
        args = parser.parse_args(argv)
        _check(args)
        return args.run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `rlexp list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


class Parser(argparse.ArgumentParser):
    """One line for a mistake, with the nearest valid choice, instead of the whole usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = self._option_string_actions if unknown[0].startswith("-") else ()
            raise UserError(f"{unknown[0]}: {self.prog} knows no such option{nearest(unknown[0], known)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            known = [word.strip("' ") for word in choice[2].split(",")]
            option = re.match(r"argument (-\S+)", message)
            what = f"{option[1]} {choice[1]}: no such choice" if option else f"{self.prog} {choice[1]}: no such command"
            raise UserError(f"{what}{nearest(choice[1], known)} (there are {', '.join(known)})")
        raise UserError(f"{self.prog}: {message.removeprefix('argument ')}")


def _check(args: argparse.Namespace) -> None:
    """What several commands share: seeds, and where pictures and files go. Raises UserError before any work."""
    given = vars(args)
    if (given.get("seed") or 0) < 0:
        raise UserError(f"--seed: must be ≥ 0, not {args.seed}")
    for option in ("out", "plot", "export"):
        if (path := given.get(option)) and not Path(path).parent.is_dir():
            raise UserError(f"--{option}: there is no folder {Path(path).parent}")
        if path and option != "export" and Path(path).suffix != ".png":
            raise UserError(f"--{option}: {path} must end in .png")


def evaluate(args: argparse.Namespace) -> int:
    from rlexp import api, folder, policies, stats

    if args.episodes < 1:
        raise UserError(f"--episodes: must be ≥ 1, not {args.episodes}")
    actions, unfinished = "sampled" if args.sampled else "mean", _unfinished(Path(args.policy))
    scores: list[dict[str, Any]] = []
    for path in policies.find_policy(args.policy, "best" if args.best else "final"):
        saved = policies.load_policy(path)
        if args.render:
            api.show(saved, args.episodes, sampled=args.sampled, seed=args.seed)
            continue
        result = api.play(saved, args.episodes, sampled=args.sampled, seed=args.seed)
        scores.append({"policy": str(path), "env": saved.env.id, "card": saved.card, **result.summary(saved.env)})
        reached = ""
        if args.bar is not None:
            count = sum(episode.total >= args.bar for episode in result.episodes)
            share, (low, high) = count / args.episodes, stats.wilson(count, args.episodes)
            scores[-1] |= {"bar": args.bar, "share_at_bar": share, "wilson95": [low, high]}
            reached = f", ≥ {args.bar:g} in {share:.0%} (Wilson {low:.0%} to {high:.0%})"
        if args.video:
            _film(saved, result, Path("videos") / f"{saved.card.get('algo')}_{saved.env.name}_{saved.card.get('seed')}")
        if not args.json:
            s = scores[-1]
            score = f", score {s['score']:.1f}" if "score" in s else ""
            success = f", success {s['success_rate']:.1%}" if "success_rate" in s else ""
            print(
                f"{path}: {saved.env.id}, {actions} actions, n = {args.episodes}: mean {s['return_mean']:.2f}, "
                f"std {s['return_std']:.2f}, min {s['return_min']:.2f}, median {s['return_median']:.2f}, "
                f"max {s['return_max']:.2f}{score}{success}{reached}"
            )
    if args.render:
        return 0
    mean, half = stats.t_interval([s["return_mean"] for s in scores])
    if args.json:
        print(
            json.dumps(
                {
                    "actions": actions,
                    "episodes": args.episodes,
                    "seed": args.seed,
                    "policies": scores,
                    "mean": mean,
                    "t95": None if half != half else half,
                    "unfinished": unfinished,
                    "versions": folder.versions(),
                },
                indent=2,
            )
        )
        return 0
    if len(scores) > 1:
        print(f"mean of {len(scores)} policies: {mean:.2f} ± {half:.2f} (95 % t-interval)")
    if unfinished:
        print(f"not finished: {', '.join(unfinished)}; of these the latest checkpoint was played, if there was one")
    return 0


def _unfinished(run: Path) -> list[str]:
    """The seeds of a run folder that have not reached its budget, each with its status."""
    if not (run / "run.json").is_file():
        return []
    seeds = json.loads((run / "run.json").read_text())["seeds"]
    return [f"seed {seed} ({facts['status']})" for seed, facts in seeds.items() if facts["status"] != "done"]


def _film(saved: Any, result: Any, place: Path) -> None:
    from rlexp import config, film

    video = config.VideoConfig(enabled=True, gif=False, seconds=60, size=320)
    try:
        for path in film.films(saved.env.on_gymnasium(), result, place, video):
            print(path, file=sys.stderr)
    except film.CannotRender as error:
        print(f"warning: no video: {error}", file=sys.stderr)


def list_runs(args: argparse.Namespace) -> int:
    root, found = Path(args.folder), []
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    for file in sorted(root.rglob("run.json")):
        try:
            record = json.loads(file.read_text())
            states = [facts["status"] for facts in record["seeds"].values()]
            final = record.get("final", {})
        except (ValueError, KeyError, TypeError, AttributeError):
            print(f"warning: {file}: cannot be read", file=sys.stderr)
            continue
        found.append(
            {
                "run": str(file.parent),
                "seeds": len(states),
                "done": states.count("done"),
                "failed": states.count("failed"),
                "return_mean": final.get("return_mean", {}).get("mean"),
                "t95": final.get("return_mean", {}).get("t95"),
                "score": final.get("score", {}).get("mean"),
            }
        )
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    width = max([len(run["run"]) for run in found], default=3)
    print(f"{'run':{width}}  done  return mean (95 % t-interval)  score")
    for run in found:
        total = "" if run["return_mean"] is None else f"{run['return_mean']:.1f}"
        total += "" if run["t95"] is None else f" ± {run['t95']:.1f}"
        score = "" if run["score"] is None else f"{run['score']:.1f}"
        failed = f"  {run['failed']} failed" if run["failed"] else ""
        print(f"{run['run']:{width}}  {run['done']}/{run['seeds']}   {total:28}  {score}{failed}")
    return 0


def publish(args: argparse.Namespace) -> int:
    from rlexp import gallery

    run = Path(args.folder)
    for option, needs in (("step", "policy or --ladder"), ("seed", "policy or --ladder"), ("best", "policy")):
        if getattr(args, option) not in (None, False) and not (args.policy or (args.ladder and option != "best")):
            raise UserError(f"--{option}: goes with --{needs}")
    if args.policy:
        path = gallery.ship(run, args.policy, args.seed, args.step, best=args.best, replace=args.replace)
    elif args.ladder:
        path = gallery.ship_ladder(run, args.ladder, args.seed, args.step, args.every, replace=args.replace)
    else:
        path = gallery.publish(run, args.variant, replace=args.replace)
    print(json.dumps({"entry": str(path)}) if args.json else path)
    return 0


def reach(args: argparse.Namespace) -> int:
    from rlexp import log, stats
    from rlexp.errors import nearest

    files = sorted(Path(args.folder).glob("seed_*/metrics.jsonl"), key=lambda f: int(f.parent.name[5:]))
    if not files:
        raise UserError(f"{args.folder}: no run folder with metrics in it")
    if args.within is not None and args.within < 0:
        raise UserError(f"--within: must be ≥ 0, not {args.within}")
    if math.isnan(args.bar):
        raise UserError("bar: is not a number")
    first: dict[str, int | None] = {}
    for file in files:
        rows = log.read(file)
        known = sorted({name for row in rows for name in row if "/" in name})
        if args.metric not in known:
            raise UserError(f"--metric {args.metric}: not in {file}{nearest(args.metric, known)}")
        reached = (row["step"] for row in rows if row.get(args.metric, -float("inf")) >= args.bar)
        step = next(reached, None)
        first[file.parent.name] = None if step is None or (args.within is not None and step > args.within) else step
    k, n = sum(step is not None for step in first.values()), len(first)
    low, high = stats.wilson(k, n)
    if args.json:
        print(
            json.dumps(
                {"metric": args.metric, "bar": args.bar, "first": first, "share": k / n, "wilson95": [low, high]}
            )
        )
        return 0
    for name, step in first.items():
        print(f"{name}: {'not reached' if step is None else f'step {step:,}'}")
    print(
        f"{args.metric} ≥ {args.bar:g}: {k} of {n} seeds = {k / n:.0%} (95 % Wilson interval {low:.0%} to {high:.0%})"
    )
    return 0


_PICTURE = """
from rlexp.envs import EnvConfig
from rlexp.film import CannotRender, picture
config = dict(name="x", max_episode_steps=None, backend="gymnasium", random_return=None, expert_return=None)
try:
    picture(EnvConfig(id={id!r}, **config))
except CannotRender as error:
    raise SystemExit(str(error))
"""


def doctor(args: argparse.Namespace) -> int:
    import importlib.util

    import torch

    from rlexp import api, folder

    def renders(env_id: str) -> tuple[bool, str]:
        """In a process of its own: a broken graphics driver may end it."""
        done = subprocess.run([sys.executable, "-c", _PICTURE.format(id=env_id)], capture_output=True, text=True)
        lines = done.stderr.strip().splitlines()
        return (
            done.returncode == 0,
            "renders" if done.returncode == 0 else f"cannot render: {lines[-1] if lines else '?'}",
        )

    display = api.has_display()
    compiler = next((c for c in ("c++", "g++", "clang++", "cl") if shutil.which(c)), None)
    free = shutil.disk_usage(".").free / 2**30
    data = os.environ.get("MINARI_DATASETS_PATH") or str(Path.home() / ".minari" / "datasets")
    # (what, whether it works, whether training needs it, what to say)
    checks = [
        ("Python packages", True, True, ", ".join(f"{k} {v}" for k, v in folder.versions().items())),
        (
            "processor",
            True,
            True,
            f"{folder.hardware()['cpu']}, {os.cpu_count()} cores, torch uses "
            f"{torch.get_num_threads()} threads unless told (train.threads)",
        ),
        (
            "GPU",
            torch.cuda.is_available(),
            False,
            torch.cuda.get_device_name()
            if torch.cuda.is_available()
            else "none that PyTorch can use; train.device=cpu",
        ),
        ("C++ compiler", compiler is not None, False, compiler or "none found: train.compile=true will not work"),
        ("Box2D", importlib.util.find_spec("Box2D") is not None, True, "for bipedal and lunarlander"),
        (
            "EnvPool",
            importlib.util.find_spec("envpool") is not None,
            False,
            "env.backend=envpool; extra 'fast' (Linux)",
        ),
        (
            "display",
            display,
            False,
            "a window can open" if display else "none: rlexp eval --render will not work, films do",
        ),
        ("films of CartPole", *(lambda r: (r[0], False, r[1]))(renders("CartPole-v1"))),
        ("films of MuJoCo", *(lambda r: (r[0], False, r[1]))(renders("Hopper-v5"))),
        ("disk", free > 1 and os.access(".", os.W_OK), True, f"{free:.0f} GiB free here"),
        ("data cache", True, False, f"{data}{'' if Path(data).exists() else ' (not there yet)'}"),
    ]
    if args.json:
        print(
            json.dumps(
                [{"what": w, "ok": ok, "required": need, "note": note} for w, ok, need, note in checks], indent=2
            )
        )
    else:
        for what, ok, need, note in checks:
            print(f"{'ok  ' if ok else 'FAIL' if need else 'no  '} {what}: {note}")
    return int(any(need and not ok for _, ok, need, _ in checks))


if __name__ == "__main__":
    sys.exit(main())
