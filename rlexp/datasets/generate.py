"""Roll out policies into data sets: the same episodes bit for bit, whatever the number of processes.

Each share of a data set is made of shards (see `shards`), in order, until it is full. Episodes are taken in that order,
whoever played them and whenever: none is preferred for being short. Where a share counts steps, its last episode is
cut, as by a time limit, at the last of them.
"""

import json
import sys
import time
from typing import Any

from rlexp.buffers.dataset import Dataset
from rlexp.datasets import recipes, shards, store
from rlexp.datasets.recipes import Share
from rlexp.datasets.shards import ShardJob
from rlexp.envs.spec import EnvConfig
from rlexp.util import checkpoint
from rlexp.util.errors import UserError, said_of
from rlexp.util.processes import cores

LANES = 16  # episodes side by side, at most


def ensure(env_name: str, kind: str, processes: int | None = None) -> None:
    """Make a data set where it is not on this machine. Raises UserError where it cannot be, or is an older one."""
    if not store.exists(store.own_id(env_name, kind)):
        return make(env_name, kind, processes)
    _refuse_outdated(env_name, kind)


def outdated(env_name: str, kind: str) -> bool:
    """Whether the data set that is here was made by another recipe or other policies than this version's. What was
    imported has no recipe, and what cannot be made anew is as good as it gets."""
    wanted = recipes.fingerprint(env_name, kind) if kind in recipes.table().get(env_name, {}) else None
    made = store.facts(store.own_id(env_name, kind)).get("rlexp", {})
    return wanted is not None and made.get("fingerprint") != wanted


def _refuse_outdated(env_name: str, kind: str) -> None:
    if outdated(env_name, kind):
        raise UserError(
            f"{env_name}/{kind} was made by another recipe or other policies than this version's; make it anew with "
            f"rlexp data make {env_name}/{kind} --replace, or use it as it is: minari:{store.own_id(env_name, kind)}"
        )


def make(env_name: str, kind: str, processes: int | None = None, *, replace: bool = False) -> None:
    """Make a data set of this project and store it, unless it is there already.

    Raises UserError where it cannot be made, and where an outdated one is there that may not be replaced.
    Of two processes that want the same one, the second waits for the first's.
    """
    dataset_id = store.own_id(env_name, kind)
    recipe = recipes.table()[env_name][kind]
    for part in recipe.parts:
        old = replace and store.exists(store.own_id(env_name, part)) and outdated(env_name, part)
        make(env_name, part, processes, replace=old)
    with store.locked(dataset_id):
        if store.exists(dataset_id) and not replace:
            return _refuse_outdated(env_name, kind)
        env, fingerprint = recipes.environment(env_name), recipes.fingerprint(env_name, kind)
        if recipe.parts:
            parts = [store.own_id(env_name, part) for part in recipe.parts]
            data = Dataset.concat(kind, [store.read(part) for part in parts])
            made_of = [policy for part in parts for policy in store.facts(part)["rlexp"]["policies"]]
        else:
            with said_of(f"{env_name}/{kind} cannot be made"):
                shares = recipes.shares(recipe)
                data, counts = play(env, shares, recipes.seed(dataset_id), processes, f"{env_name}/{kind}")
            made_of = [_card(share, *count) for share, count in zip(shares, counts, strict=True)]
        if recipes.fingerprint(env_name, kind) != fingerprint:
            raise UserError(f"{env_name}/{kind}: its policies changed while it was being made; make it again")
        facts = {
            "seed": recipes.seed(dataset_id),
            "fingerprint": fingerprint,
            "recipe": {key: value for key, value in vars(recipe).items() if value},
            "policies": made_of,
        }
        store.write(dataset_id, data, env, facts)


def play(
    env: EnvConfig, shares: list[Share], seed: int, processes: int | None = None, name: str = "data"
) -> tuple[Dataset, list[tuple[int, int]]]:
    """The episodes of all shares, and how many (episodes, steps) of them are each share's."""
    plan = Plan(env, shares, seed)
    with Progress(name, plan) as progress:
        for job, played in shards.played(plan.next, processes or cores()):
            plan.add(job, played)
            progress.update()
    return plan.result(name)


class Plan:
    """Which shards are still to be played: each share's in order, until those at hand and in hand will fill it."""

    def __init__(self, env: EnvConfig, shares: list[Share], seed: int):
        self.env, self.shares, self.seed = env, shares, seed
        self.limit = env.time_limit or 1
        self.shards: list[dict[int, Dataset]] = [{} for _ in shares]
        self.given = [0] * len(shares)
        self.open = 0  # the first share that may need more

    def next(self) -> ShardJob | None:
        for i in range(self.open, len(self.shares)):
            share, played = self.shares[i], self.shards[i]
            done = self._amount(i)
            lanes = min(LANES, max(1, share.steps // self.limit)) if share.steps else min(LANES, share.episodes or 1)
            steps = min(shards.STEPS, share.steps or shards.STEPS)
            least = steps if share.steps else lanes
            expected = done / len(played) if played else least
            if done + (self.given[i] - len(played)) * expected < share.amount:
                self.given[i] += 1
                return ShardJob(self.env, share, (self.seed, i, self.given[i] - 1), lanes, steps)
            if done >= share.amount and i == self.open:
                self.open += 1
        return None

    def add(self, job: ShardJob, shard: Dataset) -> None:
        self.shards[job.key[1]][job.key[2]] = shard

    def _amount(self, i: int) -> int:
        return sum(len(shard) if self.shares[i].steps else len(shard.length_E) for shard in self.shards[i].values())

    def done(self) -> tuple[int, int]:
        """Steps or episodes: (played and needed, needed in all)."""
        amounts = [min(self._amount(i), share.amount) for i, share in enumerate(self.shares)]
        return sum(amounts), sum(share.amount for share in self.shares)

    def result(self, name: str) -> tuple[Dataset, list[tuple[int, int]]]:
        parts, counts = [], []
        for share, played in zip(self.shares, self.shards, strict=True):
            episodes = steps = 0
            for k in sorted(played):
                shard = played[k]
                if share.steps and steps + len(shard) > share.steps:
                    shard = _cut(shard, share.steps - steps)
                elif share.episodes and episodes + len(shard.length_E) > share.episodes:
                    shard = shard.first(share.episodes - episodes)
                parts.append(shard)
                episodes, steps = episodes + len(shard.length_E), steps + len(shard)
                if (steps if share.steps else episodes) == share.amount:
                    break
            counts.append((episodes, steps))
        return Dataset.concat(name, parts), counts


def _cut(data: Dataset, steps: int) -> Dataset:
    """The first `steps` of fewer steps than there are; the episode in which they end is truncated there."""
    last = int(data.episode_N[steps - 1])
    kept = data.first(last + 1)
    over = len(kept) - steps
    if not over:
        return kept
    length_E, terminated_E, final_obs_EO = kept.length_E.copy(), kept.terminated_E.copy(), kept.final_obs_EO.copy()
    length_E[-1] -= over
    terminated_E[-1], final_obs_EO[-1] = False, kept.obs_NO[steps]
    return Dataset(
        data.name, kept.obs_NO[:steps], kept.action[:steps], kept.reward_N[:steps], length_E, terminated_E, final_obs_EO
    )


def _card(share: Share, episodes: int, steps: int) -> dict[str, Any]:
    """What made a share: the policy's own card, and the scores that were measured when it was shipped."""

    beside = share.path.with_suffix(".json")
    scores = json.loads(beside.read_text()).get("scores") if beside.is_file() else None
    card = checkpoint.load(share.path, "policy")["card"]
    facts = {"policy": share.path.stem, "sampled": share.sampled, "episodes": episodes, "steps": steps, "card": card}
    return {**facts, "scores": scores} if scores else facts


class Progress:
    """A bar on a terminal, a line every ten seconds elsewhere; on stderr. A context manager."""

    def __init__(self, name: str, plan: Plan):
        self.name, self.plan = name, plan
        self.unit = "steps" if plan.shares[0].steps else "episodes"
        self.started = self.said = time.monotonic()
        self.bar: Any = None

    def __enter__(self) -> "Progress":
        n, of = self.plan.done()[1], len(self.plan.shares)
        policies = f"{of} policies" if of > 1 else f"policy {self.plan.shares[0].path.stem}"
        print(f"making {self.name}: {n:,} {self.unit} of {policies}", file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self.bar = Bar(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True))
            self.task = self.bar.add_task("", total=n)
            self.bar.start()
        return self

    def update(self) -> None:
        (done, total), now = self.plan.done(), time.monotonic()
        if self.bar:
            self.bar.update(self.task, completed=done)
        elif now - self.said > 10:
            self.said = now
            left = (now - self.started) * (total - done) / max(done, 1)
            print(f"{self.name}  {done:>11,}/{total:,} {self.unit}  {left:.0f} s left", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()
