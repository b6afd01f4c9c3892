"""The tables of a run folder, made of what its seeds have written: curve.csv, summary.md, the final scores."""

import csv
import io
from statistics import mean
from typing import Any

from rlexp.loggers.base import COUNTERS, Row
from rlexp.report import verdict_text
from rlexp.report.judge import Judgement
from rlexp.report.words import count, tenths, with_interval
from rlexp.util import stats

CURVE = ("return_mean", "return_std", "return_min", "return_median", "return_max", "length_mean", "score")
HEADINGS = ("return mean", "std", "min", "median", "max", "length", "score")
LAST = 0.05  # of the steps: what a loss at the end is the mean of

Seeds = dict[str, dict[str, Any]]  # what is known of each seed: `status.read`, by its number


def curve(rows: dict[str, list[Row]]) -> str:
    """curve.csv: every evaluation of every seed, one a line."""
    table = io.StringIO()
    out = csv.writer(table, lineterminator="\n")
    out.writerow(["seed", *COUNTERS, *CURVE])
    for seed, lines in rows.items():
        for row in lines:
            if "eval/return_mean" in row:
                counters = [row[name] for name in COUNTERS]
                scores = [row.get(f"eval/{name}", "") for name in CURVE]
                out.writerow([seed, *counters, *scores])
    return table.getvalue()


def finals(seeds: Seeds) -> dict[str, dict[str, float]]:
    """The final scores of the seeds that are done."""
    return {seed: facts["final"] for seed, facts in seeds.items() if facts["status"] == "done" and facts.get("final")}


def aggregate(seeds: Seeds) -> dict[str, Any]:
    """Mean over seeds of each final score, with its 95 % t-interval; `n` finished, how many `failed`, and how
    many did neither yet (`unfinished`)."""
    found = list(finals(seeds).values())
    failed = [seed for seed, facts in seeds.items() if facts["status"] == "failed"]
    unfinished = len(seeds) - len(found) - len(failed)
    return {"n": len(found), "failed": len(failed), "unfinished": unfinished, **stats.over_seeds(found)}


def losses(seeds: Seeds, rows: dict[str, list[Row]]) -> dict[str, tuple[float, float]]:
    """Of each loss, at the end of training: mean over the seeds that are done, and half of its 95 % t-interval."""
    values: dict[str, list[float]] = {}
    for seed in finals(seeds):
        for name in sorted({name for row in rows[seed] for name in row if name.startswith("loss/")}):
            values.setdefault(name, []).append(loss_at(rows[seed], name, rows[seed][-1]["step"]))
    return {name: stats.t_interval(found) for name, found in values.items()}


def loss_at(rows: list[Row], name: str, step: float) -> float:
    """A seed's loss at `step`: its mean over the last 5 % of the steps until then for which there is any."""
    found = [row for row in rows if name in row and row["step"] <= step]
    begin = found[-1]["step"] - LAST * step
    return mean([row[name] for row in found if row["step"] >= begin])


def summary(
    name: str,
    record: dict[str, Any],
    seeds: Seeds,
    rows: dict[str, list[Row]],
    judged: Judgement | None = None,
) -> str:
    """summary.md: one row a seed, then the mean with its interval, losses, and the verdict where there is a
    reference."""
    evaluation = record["eval"]
    episodes = count(evaluation["episodes"], "episode")
    scored = any("score" in final for final in finals(seeds).values())
    columns = len(CURVE)
    if not scored:
        columns -= 1  # the score is the last
    lines = [
        f"# {name}",
        "",
        f"`{record['command']}`",
        "",
        f"Last policy, {evaluation['actions']} actions, {episodes} a seed: the curve's end.",
        "",
        "| " + " | ".join(["seed", "status", record["clock"], *HEADINGS[:columns]]) + " |",
        "|---" * (3 + columns) + "|",
        *(_row(seed, facts, columns) for seed, facts in seeds.items()),
        "",
        *_means(aggregate(seeds)),
    ]
    ended = losses(seeds, rows)
    if ended:
        lines += ["", f"Losses at the end (mean of the last {100 * LAST:g} % of the steps):"]
    for loss, (value, half) in ended.items():
        lines.append(f"- {loss.removeprefix('loss/').replace('_', ' ')}: {with_interval(value, half)}")
    notes = [f"- seed {seed}: {facts['message']}" for seed, facts in seeds.items() if facts["message"]]
    if notes:
        lines += ["", *notes]
    if judged is not None:
        lines += ["", f"**Verdict:** {verdict_text.headline(judged)}."]
        details = verdict_text.details(judged)
        if details:
            lines += ["", *(f"- {line}" for line in details)]
    return "\n".join(lines) + "\n"


def _row(seed: str, facts: dict[str, Any], columns: int) -> str:
    final = facts.get("final") or {}
    scores = [tenths(final[name]) if name in final else "" for name in CURVE[:columns]]
    return "| " + " | ".join([seed, facts["status"], f"{facts['step']:,}", *scores]) + " |"


def _means(total: dict[str, Any]) -> list[str]:
    """The mean of each final score that a reader looks for, with its interval."""
    n = total["n"]
    if n == 0:
        return ["No seed has finished."]
    lines = [f"Mean over {count(n, 'seed')}{not_finished(total)}:"]
    for name in ("return_mean", "score", "success_rate"):
        if name in total:
            lines.append(f"- {name.replace('_', ' ')}: {_centre(name, **total[name])}")
    return lines


def not_finished(total: dict[str, Any]) -> str:
    """What a line says of the seeds beyond those that have finished; runs of before had both kinds in `failed`."""
    missing = total["failed"] + total.get("unfinished", 0)
    if missing == 0:
        return ""
    return f" ({missing} not finished)"


def _centre(name: str, mean: float, t95: float | None) -> str:
    """A mean over seeds with its interval, in words; of a share it is given by its ends, which stay within [0, 1]."""
    if t95 is None:
        return f"{mean:.4g}"
    if t95 == 0:
        return with_interval(mean, t95)
    if name.endswith("_rate"):
        return f"{mean:.4g} ({interval(name, mean, t95)}, 95 % t-interval of the mean)"
    return f"{with_interval(mean, t95)} (95 % t-interval of the mean)"


def interval(name: str, centre: float, half: float) -> str:
    """The ends of centre ± half; a share stays within [0, 1]."""
    low, high = centre - half, centre + half
    if name.endswith("_rate"):
        low, high = max(0.0, low), min(1.0, high)
    return f"{low:.4g} to {high:.4g}"
