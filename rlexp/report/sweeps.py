"""What studies and sweeps say of their arms: the options that vary, how each arm came out, and which is best.

A sweep is a study whose arms are all combinations of some options' values; its study.yaml names these options.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlexp.report.records import arm_names
from rlexp.report.words import phrase
from rlexp.util import stats

LONG = 8  # characters of a number


@dataclass(frozen=True)
class Arm:
    """One arm, and how its seeds came out."""

    folder: str  # its name in the study's folder
    name: str  # what pictures call it; the folder's where the study says no other
    options: dict[str, str]  # what varies, as it was typed, long numbers by four digits; empty in a study
    env: str
    values: list[float]  # the final metric of each seed that is done
    score: float | None  # mean of the seeds' normalised ones
    failed: int
    unfinished: int
    verdict: str  # on its curve, beside the reference; empty where there is none

    @property
    def said(self) -> str:
        """A combination of options as one would type it; another arm by its name, with its folder where they differ."""
        if self.options:
            return " ".join(f"{key}={value}" for key, value in self.options.items())
        return self.name if self.name == self.folder else f"{self.name} (`{self.folder}`)"

    @property
    def mean(self) -> float:
        """NaN before a seed is done."""
        return sum(self.values) / len(self.values) if self.values else float("nan")

    @property
    def half(self) -> float | None:
        """Half of the 95 % t-interval of the mean; None of fewer than two seeds."""
        return stats.t_interval(self.values)[1] if len(self.values) > 1 else None

    @property
    def missing(self) -> str:
        """The seeds that have no value: `2 failed, 1 not finished`; empty where there are none."""
        counts = {"failed": self.failed, "not finished": self.unfinished}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def keys(study: Mapping[str, Any]) -> list[str]:
    """The options that vary in a sweep; empty for a study."""
    return list(study.get("sweep") or [])


def arms(study: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[Arm]:
    """The arms of what study.yaml says, whose records are those, in this order."""
    name = study["metric"].removeprefix("eval/")
    names = arm_names(study)
    found = []
    for (folder, words), record in zip(study["arms"].items(), records, strict=True):
        values = [_short(word.partition("=")[2]) for word in words]
        options = dict(zip(keys(study), values, strict=False))
        seeds = record["seeds"].values()
        finals = [facts.get("final") or {} for facts in seeds if facts["status"] == "done"]
        failed = sum(facts["status"] == "failed" for facts in seeds)
        scored = [final[name] for final in finals if name in final]
        score = (record["final"].get("score") or {}).get("mean")
        unfinished = len(seeds) - len(finals) - failed
        judged = record.get("verdict")
        verdict = phrase(judged["verdict"], judged["reference"]) if judged else ""
        env = record.get("env", "")
        found.append(Arm(folder, names[folder], options, env, scored, score, failed, unfinished, verdict))
    return found


def _short(value: str) -> str:
    """Of a number that somebody drew, what one can read."""
    try:
        return f"{float(value):.4g}" if len(value) > LONG else value
    except ValueError:
        return value


def best(arms: Sequence[Arm]) -> list[Arm]:
    """The arm with the highest mean on each environment: returns of several are no one scale."""
    highest: dict[str, Arm] = {}
    for arm in arms:
        if arm.values and (arm.env not in highest or arm.mean > highest[arm.env].mean):
            highest[arm.env] = arm
    return list(highest.values())
