"""The hand-outs of five courses, part by part: what to type, what to hand in, and whether what comes of it is enough.

conf/courses.yaml is the table. Each part has a `command`, commands that come after it (`then`), files to hand in and
what they hold, and `bars`. A bar says in the hand-out's words what is asked for; as numbers, that `metric` lie `above`
one and `below` another; and names its evidence:

    {entry: NAME}              an entry of the gallery: fresh episodes of each seed's last policy, where its card has
                               them; else each seed's evaluation at its end, or `at` a step
    {policy: NAME, actions: A} a policy of the gallery: the episodes on its card, of sampled or mean actions
    {check: NAME}              numbers of rlexp/report/course_checks.py, as gallery/checks.json keeps them

`minus_best_until: STEP` takes from each seed's number its best evaluation up to that step, `minus_clones: true` what
`rlexp clone` made of the episodes that the seed compared, as the card has it. The verdict follows by one rule
everywhere, from the 95 % t-interval of the mean, over seeds or over episodes:

    met        the whole interval is where the bar asks for; over seeds, of five or more
    missed     the whole interval is on the other side
    undecided  neither; of a single seed always, as it has no interval
    missing    there is no evidence
    no bar     the hand-out gives no number
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from rlexp.report import checked
from rlexp.report.measured import at_end, done, seconds_a_seed
from rlexp.report.references import Entry, card, entries
from rlexp.util import paths, stats
from rlexp.util.errors import UserError, did_you_mean, nearest
from rlexp.util.files import read_object, read_yaml

MET = "met"
MISSED = "missed"
UNDECIDED = "undecided"
MISSING = "missing"
NO_BAR = "no bar"
SEEDS = 5  # fewer do not meet a bar


@dataclass(frozen=True)
class Bar:
    """What a hand-out asks for, and the evidence for it; see the top of this file."""

    says: str
    evidence: list[dict[str, Any]]
    metric: str = ""
    above: float | None = None
    below: float | None = None
    minus_best_until: int | None = None
    minus_clones: bool = False


@dataclass(frozen=True)
class Part:
    """A part of a hand-out."""

    name: str
    handout: str  # its key
    title: str  # the hand-out's
    note: str  # on all of the hand-out's parts; may be empty
    about: str
    command: str
    hand_in: dict[str, str]  # what each file in the run folder is, by its name
    then: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """A number beside a bar. `half` is that of a 95 % t-interval over `n` seeds or episodes; NaN of one alone."""

    verdict: str
    evidence: str = ""  # what it is computed from
    mean: float = math.nan
    half: float = math.nan
    n: int = 0
    over: str = ""  # seeds or episodes
    episodes: int = 0  # of each seed
    actions: str = ""  # mean or sampled


def parts() -> dict[str, Part]:
    """Every part by its name, in the table's order. Raises UserError for a broken table."""
    file = paths.CONF / "courses.yaml"
    found = {}
    for key, handout in read_yaml(file).items():
        usual = handout.get("hand_in", {})
        for name, facts in handout["parts"].items():
            bars = [Bar(**bar) for bar in facts.get("bars", [])]
            body = {"hand_in": usual, **facts, "bars": bars}
            found[name] = Part(name=name, handout=key, title=handout["title"], note=handout.get("note", ""), **body)
    return found


def find(name: str, known: dict[str, Part]) -> Part:
    """The part called `name`; an underscore is as good as a hyphen. Raises UserError."""
    hyphened = name.replace("_", "-")
    if hyphened in known:
        return known[hyphened]
    hint = did_you_mean(nearest(hyphened, known))
    if not hint:
        hint = "; `rlexp courses` lists them"
    raise UserError(f"{name}: no such part{hint}")


def judged(bar: Bar) -> list[Found]:
    """A number and its verdict for each piece of evidence; one that is missing where there is none."""
    if not bar.evidence:
        return [Found(MISSING)]
    return [_judged(bar, one) for one in bar.evidence]


def time_a_seed(part: Part) -> tuple[float, str, str] | None:
    """(seconds, entry, processor) of a seed of the first entry that is evidence; None where none says."""
    known = entries()
    names = [one["entry"] for bar in part.bars for one in bar.evidence if one.get("entry") in known]
    for name in names:
        facts = card(known[name])
        spent = seconds_a_seed(facts)
        if spent:
            hardware = facts.get("hardware") or {}
            return sum(spent) / len(spent), name, hardware.get("gpu") or hardware.get("cpu", "")
    return None


def verdict(bar: Bar, mean: float, half: float, *, enough: bool = True) -> str:
    """The rule at the top of this file; `enough`: of as many seeds as it takes to meet a bar."""
    if bar.above is None and bar.below is None:
        return NO_BAR
    if math.isnan(half):
        return UNDECIDED
    lowest = -math.inf if bar.above is None else bar.above
    highest = math.inf if bar.below is None else bar.below
    low = mean - half
    high = mean + half
    if low > lowest and high < highest:
        return MET if enough else UNDECIDED
    if high < lowest or low > highest:
        return MISSED
    return UNDECIDED


def _judged(bar: Bar, one: dict[str, Any]) -> Found:
    if "check" in one:
        return _of_check(one["check"])
    if "policy" in one:
        return _of_policy(bar, one["policy"], one["actions"])
    return _of_entry(bar, one["entry"], one.get("at"))


def _of_entry(bar: Bar, name: str, at: int | None) -> Found:
    """Over the seeds of an entry of the gallery that are done."""
    known = entries()
    if name not in known:
        return Found(MISSING, name)
    entry = Entry.read(known[name])
    found = at_end(entry, bar.metric)
    shown = name
    if at is not None:
        values = {seed: _at(entry, seed, bar.metric, at) for seed in done(entry)}
        found = dataclasses.replace(found, values=values)
        shown = f"{name} at {at:,}"
    if bar.minus_best_until is not None:
        last = {seed: facts["final"][bar.metric] for seed, facts in done(entry).items()}
        values = {seed: value - _best(entry, seed, bar) for seed, value in last.items()}
        found = dataclasses.replace(found, values=values, episodes=entry.card["eval"]["episodes"])
    if bar.minus_clones:
        clones = entry.card.get("cloned", {})
        values = {seed: value - clones[seed] for seed, value in found.values.items() if seed in clones}
        found = dataclasses.replace(found, values=values)
    if not found.values:
        return Found(MISSING, name)
    mean, half = stats.t_interval(list(found.values.values()))
    n = len(found.values)
    judgement = verdict(bar, mean, half, enough=n >= SEEDS)
    return Found(judgement, shown, mean, half, n, "seeds", found.episodes, found.actions)


def _at(entry: Entry, seed: str, metric: str, step: int) -> float:
    """An evaluation of one seed. Raises UserError where there is none at that step."""
    for row in entry.rows:
        if row["seed"] == seed and float(row["step"]) == step:
            return float(row[metric])
    raise UserError(f"{entry.name}: seed {seed} has no evaluation at step {step}")


def _best(entry: Entry, seed: str, bar: Bar) -> float:
    """The best evaluation of one seed up to the step that the bar names."""
    rows = [row for row in entry.rows if row["seed"] == seed and float(row["step"]) <= (bar.minus_best_until or 0)]
    return max(float(row[bar.metric]) for row in rows)


def _of_policy(bar: Bar, name: str, actions: str) -> Found:
    """Over the episodes on the card of a policy of the gallery."""
    file = paths.policy(name)
    if not file.is_file():
        return Found(MISSING, name)
    card = read_object(file.with_suffix(".json"))
    scores = card["scores"].get(actions)
    if scores is None:
        return Found(MISSING, name)
    n = card["episodes"]
    half = stats.half_width(scores["return_std"], n)
    mean = scores["return_mean"]
    return Found(verdict(bar, mean, half), f"policies/{name}", mean, half, n, "episodes", actions=actions)


def _of_check(name: str) -> Found:
    """Whether the numbers that are kept in the gallery are the expected ones."""
    rows = checked.kept(name)
    evidence = f"rlexp courses checks {name}"
    if not rows:
        return Found(MISSING, evidence)
    as_expected = all(one.agrees for one in rows)
    return Found(MET if as_expected else MISSED, evidence)
