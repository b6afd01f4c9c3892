"""What a run will take before and while it trains, as far as that is known: data to make, and time a seed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlexp.datasets import load
from rlexp.datasets.generate import Missing
from rlexp.experiment.config import RunConfig
from rlexp.report import references
from rlexp.report.differences import DIGITS
from rlexp.report.measured import seconds_a_seed
from rlexp.report.words import about, count

MANY = 20  # configs, of which it is not looked up how long each takes


@dataclass(frozen=True)
class Usual:
    """How long a seed of the same settings took where an entry of the gallery was made."""

    seconds: float
    entry: str
    processor: str

    @property
    def said(self) -> str:
        return f"{about(self.seconds)} a seed, as {self.entry} took on {self.processor}"


def data_to_make(runs: Sequence[RunConfig], at_once: int | None = None) -> Iterator[str]:
    """Lines on the data sets that are made before anything trains: which, of how many steps, and about how long that
    takes; then what training takes, `at_once` seeds at a time. None where all data are here. Raises UserError."""
    found: dict[str, Missing] = {}
    for run in runs:
        if "data" in run.algo_class.needs:
            found |= {one.name: one for one in load.missing(run.buffer, run.env)}
    for one in found.values():
        amount = count(one.amount, one.unit.removesuffix("s"))
        yield f"first makes {one.name}, {amount}: {about(one.seconds)}, once; later runs find it there"
    if found:
        whole = [(run, 1.0) for run in runs for _ in run.seeds]
        before = sum(one.seconds for one in found.values())
        yield "; ".join([f"then trains {count(len(whole), 'seed')}", *training(whole, at_once, before)])


def training(seeds: Sequence[tuple[RunConfig, float]], at_once: int | None, before: float = 0.0) -> list[str]:
    """How long a seed takes, and all of them after `before` seconds, as far as the gallery knows: nothing, one or two
    phrases.

    seeds: the config of each that is to be trained, and which share of its budget
    at_once: seeds that are trained at a time; None where that is not known
    """
    runs = {id(run): run for run, _ in seeds}
    if len(runs) > MANY:
        return []
    times = {key: usual(run.plain) for key, run in runs.items()}
    first = times[id(seeds[0][0])]
    said = [first.said] if first else []
    spent: list[float] = []
    for run, share in seeds:
        time = times[id(run)]
        if time is None:
            return said
        spent.append(share * time.seconds)
    if first is not None and spent == [first.seconds] and not before:
        return said
    if len(spent) == 1:
        return [*said, f"{about(before + spent[0])} in all"]
    if at_once is None:
        return said
    at_once = min(at_once, len(spent))
    ends = [before] * at_once
    for seconds in spent:  # each by whoever is free first
        ends[ends.index(min(ends))] += seconds
    how = "one after another" if at_once == 1 else f"{at_once} at a time"
    return [*said, f"{about(max(ends))} in all, {how}"]


def usual(config: Mapping[str, Any]) -> Usual | None:
    """How long a seed of this config takes; None where the gallery has nothing alike on such a device, or where a run
    is so short that its two evaluations take longer than its share of the entry's time."""
    if config["train"]["budget"] < config["train"]["eval_every"]:
        return None
    found = []
    for choice in references.choices({"config": config}):
        other = {one.what for one in choice.differences if one.kind != DIGITS} - {"train.budget"}
        card = references.card(choice.file)
        budget = card["config"]["train"].get("budget")
        if other or card["config"]["train"].get("device", "cpu") != config["train"]["device"]:
            continue
        spent = seconds_a_seed(card)
        if spent and budget:
            share = config["train"]["budget"] / budget
            processor = (card.get("hardware") or {}).get("cpu", "another machine")
            found.append((len(spent), Usual(share * sum(spent) / len(spent), choice.file.stem, processor)))
    return max(found, key=lambda one: one[0])[1] if found else None
