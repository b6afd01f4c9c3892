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


@dataclass(frozen=True)
class Usual:
    """How long a seed of the same settings took where an entry of the gallery was made."""

    seconds: float
    entry: str
    processor: str

    @property
    def said(self) -> str:
        return f"{about(self.seconds)} a seed, as {self.entry} took on {self.processor}"


def data_to_make(runs: Sequence[RunConfig]) -> Iterator[str]:
    """Lines on the data sets that are made before anything trains: which, of how many steps, and about how long that
    takes; then what training takes. None where all data are here. Raises UserError."""
    found: dict[str, Missing] = {}
    for run in runs:
        if "data" in run.algo_class.needs:
            found |= {one.name: one for one in load.missing(run.buffer, run.env)}
    for one in found.values():
        amount = count(one.amount, one.unit.removesuffix("s"))
        yield f"first makes {one.name}, {amount}: {about(one.seconds)}, once; later runs find it there"
    if found:
        yield _training(runs, sum(one.seconds for one in found.values()))


def _training(runs: Sequence[RunConfig], before: float) -> str:
    """What is trained after the `before` seconds that data take, and the total as far as it is known."""
    seeds = sum(len(run.seeds) for run in runs)
    times = [usual(run.plain) for run in runs]
    text = f"then trains {count(seeds, 'seed')}"
    if times[0] is not None:
        text += f", {times[0].said}"
    total = before
    for run, time in zip(runs, times, strict=True):
        if time is None:
            return text
        total += time.seconds * len(run.seeds)
    return f"{text}; {about(total)} in all, one after another"


def usual(config: Mapping[str, Any]) -> Usual | None:
    """How long a seed of this config takes; None where the gallery has nothing alike on such a device."""
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
