"""The verdict on a run beside its reference: the rule of verdict.py, and what stands before it.

Rows of the same seeds that are equal need no statistics; where the two are of other problems, other data or another
measure, none would mean anything.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rlexp.report import references, sides, verdict
from rlexp.report.differences import MEANINGLESS, SETTING, Difference, differences, unknown
from rlexp.report.history import Run
from rlexp.report.lines import Line
from rlexp.report.sides import Side
from rlexp.report.verdict import Measure, Verdict

FEWEST = 3  # evaluations in common, the first included
FEWEST_EQUAL = 3  # rows: what begins in the same way may be another curve


@dataclass(frozen=True)
class Judgement:
    """What is said of a run. `word` is identical, matches, better, worse, unusual, cannot_tell or incomparable."""

    word: str
    reference: str
    n: int
    n_reference: int
    found: Verdict | None  # None of what is identical or incomparable
    until: float  # the last step that is compared, in `clock`
    whole: float  # where the reference ends
    clock: str
    rows_equal: int | None  # None where the two have no seed and step in common
    rows_shared: int
    same_start: bool  # a seed's first rows are equal, the later ones are not, and no setting differs
    differs_in: list[Difference]
    unknown: list[str]
    left_out: int  # of the run's seeds

    @property
    def measure(self) -> Measure | None:
        """What decided."""
        return self.found.decided_by if self.found else None

    def facts(self) -> dict[str, Any]:
        """The verdict as plain data, for run.json and --json."""
        measure = self.measure
        needed = verdict.seeds_that_would_tell(self.found) if self.found and self.word in OPEN else None
        return {
            "verdict": self.word,
            "direction": self.found.direction if self.found and self.word in DIFFERENT else None,
            "reference": self.reference,
            "n": self.n,
            "n_reference": self.n_reference,
            "measure": measure.name if measure else None,
            "difference": measure.difference if measure else None,
            "half_width": measure.half_width if measure else None,
            "span": measure.span if measure else None,
            "measures": {one.name: asdict(one) for one in self.found.measures} if self.found else {},
            "seeds_that_would_tell": needed,
            "rows_equal": self.rows_equal,
            "rows_shared": self.rows_shared,
            "same_start": self.same_start,
            "compared_until": self.until,
            "reference_until": self.whole,
            "clock": self.clock,
            "left_out": self.left_out,
            "differs_in": {one.what: _plain(one) for one in self.differs_in},
            "unknown": self.unknown,
        }


OPEN = ("cannot_tell", "unusual")
DIFFERENT = ("better", "worse", "unusual")


def of_run(name: str, run: Run) -> Judgement | None:
    """The verdict on a run, beside the entry that its config names or else the nearest one; None where there is none,
    or nothing to compare yet."""
    side = sides.of_run(name, run)
    file = references.reference_of(side.about)
    if file is None or not side.lines:
        return None
    return judge(side, sides.of_entry(file))


def judge(run: Side, reference: Side) -> Judgement:
    """The verdict on `run` beside `reference`."""
    clock, run_lines, reference_lines = _in_one_clock(run, reference)
    steps_N, run_SN, reference_SN = verdict.align(run_lines, reference_lines)
    found_differences = [*_clocks(run, reference), *differences(run.about, reference.about)]
    equal, shared, starts = verdict.equal_rows(run_lines, reference_lines)
    kinds = {one.kind for one in found_differences}
    is_identical = shared >= FEWEST_EQUAL and equal == shared and _moves(run_SN)
    found = None
    if is_identical:
        word = "identical"
    elif MEANINGLESS in kinds or len(steps_N) < FEWEST:
        word = "incomparable"
    else:
        found = verdict.decide(run_SN, reference_SN)
        word = found.word
    return Judgement(
        word=word,
        reference=reference.name,
        n=len(run.lines),
        n_reference=len(reference.lines),
        found=found,
        until=float(steps_N[-1]) if len(steps_N) else 0.0,
        whole=max(float(x[-1]) for x, _ in reference_lines.values()),
        clock=clock,
        rows_equal=equal if shared else None,
        rows_shared=shared,
        same_start=starts > 0 and not is_identical and SETTING not in kinds and MEANINGLESS not in kinds,
        differs_in=found_differences,
        unknown=unknown(run.about, reference.about),
        left_out=run.left_out,
    )


def _in_one_clock(run: Side, reference: Side) -> tuple[str, dict[str, Line], dict[str, Line]]:
    """(clock, lines of the run, lines of the reference): in the clock of both or, where these differ and both know
    them, in environment steps."""
    ours = run.about.get("clock")
    theirs = reference.about.get("clock")
    if ours and theirs and ours != theirs and run.by_env_steps and reference.by_env_steps:
        return "env_steps", run.by_env_steps, reference.by_env_steps
    return str(ours or theirs or "steps"), run.lines, reference.lines


def _clocks(run: Side, reference: Side) -> list[Difference]:
    """That the two count other things, and no environment steps in common."""
    ours = run.about.get("clock")
    theirs = reference.about.get("clock")
    if not ours or not theirs or ours == theirs or (run.by_env_steps and reference.by_env_steps):
        return []
    return [Difference("clock", ours, theirs, MEANINGLESS)]


def _moves(run_SN: np.ndarray) -> bool:
    """Whether any seed's curve changes: flat ones are equal without being the same."""
    return run_SN.size > 0 and bool(np.ptp(run_SN, axis=1).max() > 0)


def _plain(difference: Difference) -> dict[str, Any]:
    return {"run": difference.run, "reference": difference.reference, "kind": difference.kind}
