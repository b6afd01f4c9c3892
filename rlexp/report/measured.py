"""What an entry of the gallery reaches at its end, by one measure: fresh episodes of each seed's last policy where its
card has them, else the last evaluation of its curve. What `rlexp courses` and `rlexp results` print."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlexp.report.references import Entry


@dataclass(frozen=True)
class Measured:
    """A number of each seed that is done, by the seed."""

    values: dict[str, float]
    episodes: int = 0  # that each is the mean of; 0: none were played for it
    actions: str = ""  # mean or sampled
    is_fresh: bool = False  # of episodes that are no part of the curve


def at_end(entry: Entry, metric: str) -> Measured:
    """Of a metric of evaluations by its name in curve.csv, or of training by its whole name."""
    if "/" in metric:
        return Measured(of_training(entry, metric))
    how = entry.card["eval"]
    played = entry.card.get("played") or {}
    fresh = (played.get(how["actions"]) or {}).get("seeds", {})
    values = {seed: scores[metric] for seed, scores in fresh.items() if metric in scores}
    if values:
        return Measured(values, played["episodes"], how["actions"], is_fresh=True)
    last = {seed: facts["final"] for seed, facts in done(entry).items()}
    return Measured({s: row[metric] for s, row in last.items() if metric in row}, how["episodes"], how["actions"])


def of_training(entry: Entry, metric: str) -> dict[str, float]:
    """The last number of a metric of training of each seed that has one."""
    found = {seed: entry.metrics(seed) for seed in done(entry)}
    return {seed: metrics[metric] for seed, metrics in found.items() if metric in metrics}


def done(entry: Entry) -> dict[str, dict]:
    """The seeds that are done, as the card has them."""
    return {seed: facts for seed, facts in entry.card["seeds"].items() if facts["status"] == "done"}


def seconds_a_seed(card: Mapping[str, Any]) -> list[float]:
    """What each seed that is done took, as far as the card says."""
    finished = (one for one in card["seeds"].values() if one["status"] == "done")
    return [one["seconds"] for one in finished if one.get("seconds")]
