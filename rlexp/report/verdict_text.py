"""A verdict in words: one line, and what belongs beneath it."""

from collections.abc import Iterator

from rlexp.report.differences import (
    DIGITS,
    LENGTH,
    MEANINGLESS,
    MEASURE,
    REFERENCES_SETTINGS,
    RUNS_SETTINGS,
    SETTING,
    Difference,
)
from rlexp.report.judge import Judgement
from rlexp.report.verdict import TOLERANCE, Measure, seeds_that_would_tell
from rlexp.report.words import count, phrase

MACHINE = "hardware."
ALGORITHM = "algo._target_"
SPOKEN = {
    ALGORITHM: "algorithm",
    "hardware.cpu": "processor",
    "hardware.cpu_family": "family of the processor",
    "hardware.cpu_model": "model of the processor",
    "hardware.cpu_capability": "instructions of the processor",
    "hardware.bfloat16": "native bfloat16",
    "hardware.gpu": "GPU",
    "clock": "counted in",
}
MEASURES = {"end": "end", "mean": "mean over time"}


def headline(judged: Judgement) -> str:
    """The verdict and why, in one line."""
    return f"{phrase(judged.word, judged.reference)}: {_reason(judged)}"


def details(judged: Judgement) -> list[str]:
    """What else one should know of it, a line each."""
    return list(_details(judged))


def _reason(judged: Judgement) -> str:
    if judged.word == "identical":
        return f"{judged.rows_equal} of {judged.rows_shared} rows of the same seeds and steps are equal"
    if judged.word == "incomparable":
        others = [_said(one) for one in judged.differs_in if one.kind == MEANINGLESS]
        return "; ".join(others) or f"too few evaluations in common, up to step {judged.until:,.0f}"
    measure = judged.measure
    assert measure is not None  # of every other word
    return f"{_difference(measure)}; {_seeds(judged)}{_advice(judged)}"


def _difference(measure: Measure) -> str:
    """How far its end, or its mean over time, lies from the reference's."""
    size = abs(measure.difference)
    side = "higher" if measure.difference > 0 else "lower"
    share = f"{size / measure.span:.0%} of what the reference gains" if measure.span else "the reference gains nothing"
    half = "" if measure.half_width is None else f" ± {measure.half_width:.4g} (90 % interval)"
    return f"its {MEASURES[measure.name]} is {size:.4g}{half} {side}, {share}"


def _seeds(judged: Judgement) -> str:
    return f"{count(judged.n, 'seed')} beside {judged.n_reference}"


def _advice(judged: Judgement) -> str:
    """What would make it a verdict."""
    if judged.word == "unusual":
        return ". One seed may be chance: run two more"
    if judged.word != "cannot_tell" or judged.found is None:
        return ""
    needed = seeds_that_would_tell(judged.found)
    if needed is None:
        return f". It cannot be said how many seeds would tell; a match stays within {TOLERANCE:.0%}"
    n, m = needed
    if m == judged.n_reference:
        return f". About {n} seeds would tell"
    return f". About {n} seeds of both would tell"


def _details(judged: Judgement) -> Iterator[str]:
    if judged.found is not None and judged.until < judged.whole:
        yield f"compared up to step {judged.until:,.0f} of the reference's {judged.whole:,.0f}"
    if judged.left_out:
        yield f"left out, as they failed or have not finished: {count(judged.left_out, 'seed')}"
    if judged.same_start:
        yield f"same start, other arithmetic: {_processors(judged)}"
    wordings = {
        SETTING: "other settings: ",
        LENGTH: "",
        MEASURE: "",
        DIGITS: "other digits: ",
    }
    for kind, wording in wordings.items():
        found = [_said(one) for one in _telling(judged.differs_in) if one.kind == kind]
        if found:
            yield wording + "; ".join(found)
    if judged.unknown in ([RUNS_SETTINGS], [REFERENCES_SETTINGS]):
        yield f"unknown: the {judged.unknown[0]}, which may be others"
    elif judged.unknown:
        yield f"unknown of the reference: {', '.join(_unknown(judged.unknown))}"


def _telling(differs_in: list[Difference]) -> list[Difference]:
    """Without the options of two algorithms, where these are not the same: each has its own."""
    if ALGORITHM not in (one.what for one in differs_in):
        return differs_in
    return [one for one in differs_in if one.what == ALGORITHM or not one.what.startswith("algo.")]


def _unknown(names: list[str]) -> list[str]:
    """What is unknown, the processor's facts as one."""
    others = [name for name in names if not name.startswith(MACHINE)]
    if len(others) < len(names):
        return ["kind of processor", *others]
    return others


def _said(difference: Difference) -> str:
    what = SPOKEN.get(difference.what, difference.what)
    return f"{what} {_value(difference.run)}, there {_value(difference.reference)}"


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value)


def _processors(judged: Judgement) -> str:
    """Both processors, as far as they differ."""
    found = [_said(one) for one in judged.differs_in if one.what.startswith(MACHINE)]
    return "; ".join(found) or "of the same processor, as far as is known"
