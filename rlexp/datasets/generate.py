"""Roll out policies into data sets: the same episodes bit for bit, whatever the number of processes.

Each share of a data set is made of shards (see `shards`), in order, until it is full. Episodes are taken in that order,
whoever played them and whenever: none is preferred for being short. Where a share counts steps, its last episode is
cut, as by a time limit, at the last of them.
"""

import math
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rlexp.buffers.dataset import Dataset
from rlexp.datasets import recipes, shards, store
from rlexp.datasets.recipes import Share
from rlexp.datasets.shards import ShardJob
from rlexp.engines.base import Engine, Handle
from rlexp.engines.processes import Processes
from rlexp.engines.serial import Serial
from rlexp.envs.spec import EnvConfig
from rlexp.rollout.score import require_spread
from rlexp.util.clock import as_clock
from rlexp.util.errors import UserError, said_of
from rlexp.util.files import read_object
from rlexp.util.processes import WorkerDied, cores

LANES = 16  # episodes side by side, at most


def ensure(env_name: str, kind: str, processes: int | None = None) -> None:
    """Make a data set where it is not on this machine. Raises UserError where it cannot be, or is an older one."""
    if not store.exists(store.own_id(env_name, kind)):
        return make(env_name, kind, processes)
    _refuse_outdated(env_name, kind)


@dataclass(frozen=True)
class Missing:
    """A data set that is not on this machine, and how long it takes to make it."""

    name: str
    amount: int
    unit: str  # steps or episodes
    seconds: float  # about


def missing(env_name: str, kind: str) -> list[Missing]:
    """What `ensure` would have to make; empty where the data set is here. Raises UserError where it cannot be."""
    if store.exists(store.own_id(env_name, kind)):
        return []
    recipe = recipes.table()[env_name][kind]
    if recipe.parts:
        return [one for part in recipe.parts for one in missing(env_name, part)]
    env = recipes.environment(env_name)
    with said_of(f"{env_name}/{kind} cannot be made"):
        plan = Plan(env, recipes.shares(recipe), 0)
        _, amount = plan.done()
        steps = amount if plan.unit == "steps" else amount * plan.limit
        share = plan.shares[-1]  # of a ladder the one whose episodes are longest
        seconds = steps / shards.speed(env, share, plan.lanes(share)) / min(cores(), math.ceil(steps / shards.STEPS))
    return [Missing(f"{env_name}/{kind}", amount, plan.unit, seconds)]


def outdated(env_name: str, kind: str) -> bool:
    """Whether the data set that is here was made by another recipe or other policies than this version's. What was
    imported has no recipe, and what cannot be made anew is as good as it gets."""
    if kind not in recipes.table().get(env_name, {}):
        return False
    wanted = recipes.fingerprint(env_name, kind)
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
        env = recipes.environment(env_name)
        fingerprint = recipes.fingerprint(env_name, kind)
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


def make_of(env_name: str, kind: str, share: Share, processes: int | None = None, *, replace: bool = False) -> None:
    """Make a data set of anybody's policy, and store it. Raises UserError where one of that name is there, unless
    `replace`, or where the policy acts in another environment."""
    dataset_id = store.own_id(env_name, kind)
    env = recipes.environment(env_name)
    with said_of(f"{env_name}/{kind} cannot be made"):
        saved = shards.loaded(share)
        if saved.env.task != env.task:
            raise UserError(f"{share.path} acts in {saved.env.id}, not in {env.id}")
        saved.policy.explore = share.sampled
        if share.sampled:
            require_spread(saved)
    with store.locked(dataset_id):
        if store.exists(dataset_id) and not replace:
            raise UserError(f"{env_name}/{kind}: is there already; --replace, or another name")
        data, counts = play(env, [share], recipes.seed(dataset_id), processes, f"{env_name}/{kind}")
        facts = {"seed": recipes.seed(dataset_id), "policies": [_card(share, *counts[0])]}
        store.write(dataset_id, data, env, facts)


def play(
    env: EnvConfig, shares: list[Share], seed: int, processes: int | None = None, name: str = "data"
) -> tuple[Dataset, list[tuple[int, int]]]:
    """The episodes of all shares, and how many (episodes, steps) of them are each share's."""
    plan = Plan(env, shares, seed)
    with ProgressBar(name, plan) as progress:
        fill(plan, _engine(processes), progress.update)
    return plan.result(name)


def fill(plan: "Plan", engine: Engine, tell: Callable[[], None]) -> None:
    """Play the shards of `plan`, the first in this process, so that a small data set needs no others. `tell` is called
    after each. Raises what a shard failed of; UserError where its process died."""
    handle = handler(plan, tell)
    first = plan.next()
    if first is not None:
        handle(first, shards.play_shard(first))
    engine.run(plan.next, handle)


def handler(plan: "Plan", tell: Callable[[], None]) -> Handle:
    """Takes what jobs report into `plan`."""

    def handle(job: ShardJob, played: Dataset | BaseException) -> None:
        if isinstance(played, BaseException):
            raise _said_of_memory(played)
        plan.add(job, played)
        tell()

    return handle


def _engine(processes: int | None) -> Engine:
    """What plays the shards; None: as many processes as there are cores."""
    if processes == 1 or multiprocessing.current_process().daemon:  # a daemon may have no children
        return Serial(Serial.Config())
    return Processes(Processes.Config(workers=processes))


def _said_of_memory(error: BaseException) -> BaseException:
    """What to raise where a shard failed of `error`."""
    if not isinstance(error, WorkerDied):
        return error
    return UserError(
        f"a process that made data ended with code {error.exitcode}, perhaps for want of memory: "
        "fewer need less, rlexp data make NAME --processes 1"
    )


class Plan:
    """Which shards are still to be played: each share's in order, until those at hand and in hand will fill it."""

    def __init__(self, env: EnvConfig, shares: list[Share], seed: int):
        self.env = env
        self.shares = shares
        self.seed = seed
        self.limit = env.time_limit or 1
        self.shards: list[dict[int, Dataset]] = [{} for _ in shares]
        self.given = [0] * len(shares)
        self.open = 0  # the first share that may need more
        self.unit = "steps" if shares[0].steps else "episodes"

    def next(self) -> ShardJob | None:
        for i in range(self.open, len(self.shares)):
            if self._expected(i) < self.shares[i].amount:
                self.given[i] += 1
                return self._job(i, self.given[i] - 1)
            if i == self.open and self._amount(i) >= self.shares[i].amount:
                self.open += 1
        return None

    def _job(self, i: int, k: int) -> ShardJob:
        """Shard k of share i."""
        share = self.shares[i]
        steps = min(shards.STEPS, share.steps or shards.STEPS)
        return ShardJob(self.env, share, (self.seed, i, k), self.lanes(share), steps)

    def lanes(self, share: Share) -> int:
        """Episodes of a share that are played side by side."""
        if share.steps:
            return min(LANES, max(1, share.steps // self.limit))
        return min(LANES, share.episodes or 1)

    def _expected(self, i: int) -> float:
        """How much of share i there will be when all shards that were given out are played."""
        done = self._amount(i)
        played = len(self.shards[i])
        missing = self.given[i] - played
        if played:
            return done + missing * done / played
        share = self.shares[i]
        least = min(shards.STEPS, share.steps) if share.steps else self.lanes(share)
        return done + missing * least

    def add(self, job: ShardJob, shard: Dataset) -> None:
        self.shards[job.key[1]][job.key[2]] = shard

    def _amount(self, i: int) -> int:
        played = self.shards[i].values()
        if self.shares[i].steps:
            return sum(len(shard) for shard in played)
        return sum(len(shard.length_E) for shard in played)

    def done(self) -> tuple[int, int]:
        """Steps or episodes: (played and needed, needed in all)."""
        amounts = [min(self._amount(i), share.amount) for i, share in enumerate(self.shares)]
        return sum(amounts), sum(share.amount for share in self.shares)

    def result(self, name: str) -> tuple[Dataset, list[tuple[int, int]]]:
        """All episodes, and how many (episodes, steps) of them are each share's."""
        parts = []
        counts = []
        for share, played in zip(self.shares, self.shards, strict=True):
            episodes = 0
            steps = 0
            for k in sorted(played):
                shard = played[k]
                if share.steps and steps + len(shard) > share.steps:
                    shard = _cut(shard, share.steps - steps)
                elif share.episodes and episodes + len(shard.length_E) > share.episodes:
                    shard = shard.first(share.episodes - episodes)
                parts.append(shard)
                episodes += len(shard.length_E)
                steps += len(shard)
                if share.amount == (steps if share.steps else episodes):
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
    length_E = kept.length_E.copy()
    terminated_E = kept.terminated_E.copy()
    final_obs_EO = kept.final_obs_EO.copy()
    length_E[-1] -= over
    terminated_E[-1] = False
    final_obs_EO[-1] = kept.obs_NO[steps]
    return Dataset(
        data.name, kept.obs_NO[:steps], kept.action[:steps], kept.reward_N[:steps], length_E, terminated_E, final_obs_EO
    )


def _card(share: Share, episodes: int, steps: int) -> dict[str, Any]:
    """What made a share: the policy's own card, and the scores that were measured when it was shipped."""
    card = {
        "policy": share.path.stem,
        "sampled": share.sampled,
        "episodes": episodes,
        "steps": steps,
        "card": shards.loaded(share).card,
    }
    beside = share.path.with_suffix(".json")
    if beside.is_file():
        scores = read_object(beside).get("scores")
        if scores:
            card["scores"] = scores
    return card


class ProgressBar:
    """A bar on a terminal, a line every ten seconds elsewhere; on stderr. A context manager."""

    def __init__(self, name: str, plan: Plan):
        self.name = name
        self.plan = plan
        self.unit = plan.unit
        self.started = time.monotonic()
        self.said = self.started
        self.bar: Any = None

    def __enter__(self) -> "ProgressBar":
        _, total = self.plan.done()
        policies = f"{len(self.plan.shares)} policies"
        if len(self.plan.shares) == 1:
            policies = f"policy {self.plan.shares[0].path.stem}"
        self._say(f"making {self.name}: {total:,} {self.unit} of {policies}")
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task("", total=total)
            self.bar.start()
        return self

    def update(self) -> None:
        done, total = self.plan.done()
        now = time.monotonic()
        if self.bar:
            self.bar.update(self.task, completed=done)
        elif now - self.said > 10:
            self.said = now
            left = (now - self.started) * (total - done) / max(done, 1)
            self._say(f"{self.name}  {done:>11,}/{total:,} {self.unit}  {as_clock(left)} left")

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()
