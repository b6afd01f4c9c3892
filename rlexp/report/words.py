"""What verdicts and numbers are in a sentence. Imports next to nothing: `rlexp list` answers at once."""

import math

PHRASES = {
    "identical": "identical to",
    "matches": "matches",
    "better": "better than",
    "worse": "worse than",
    "unusual": "unusual beside",
    "cannot_tell": "cannot tell from",
    "incomparable": "incomparable with",
}
STATISTICS = ("mean", "std", "min", "median", "max", "best")  # over the episodes of an evaluation

SMALL = 1e-5  # smaller half widths are written with an exponent


def phrase(word: str, reference: str) -> str:
    """`worse than ppo_swimmer`."""
    return f"{PHRASES.get(word, word)} {reference}"


def count(number: int, what: str) -> str:
    """`1 episode`, `10,000 episodes`; `what` is the word for one."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def with_interval(mean: float, half: float) -> str:
    """`70.2 ± 5.0`, `2675 ± 2300`: half of the interval to two digits, the mean to the same place behind the point;
    alone where that is NaN, of a single value; `all 500` where it is 0: an interval is no news of equal values."""
    if math.isnan(half):
        return f"{mean:.4g}"
    if half == 0:
        return f"all {mean:.4g}"
    if half < SMALL:
        return f"{mean:.4g} ± {half:.2g}"
    places = 1 - math.floor(math.log10(half))
    shown = max(0, places)
    return f"{mean:.{shown}f} ± {round(half, places):.{shown}f}"


def duration(seconds: float) -> str:
    """`1 h 20 min`, `4 min 10 s`, `12 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {rest} s"
    return f"{rest} s"


def about(seconds: float) -> str:
    """An estimate: `about 1 h 20 min`, `about 9 min`, `about 12 s`."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"about {hours} h {minutes} min" if hours else f"about {minutes} min"


def tenths(value: float) -> str:
    """`199.3`; of what is below 1 two significant digits, so that -0.0015 does not read as -0.0."""
    if value == 0 or abs(value) >= 1:
        return f"{value:.1f}"
    return f"{value:.2g}"


def spoken(metric: str) -> str:
    """A metric as a person would write it: `policy loss` of loss/policy, `mean return` of eval/return_mean."""
    group, _, name = metric.rpartition("/")
    words = name.replace("_", " ")
    what, _, statistic = words.partition(" ")
    if what in ("return", "length") and statistic in STATISTICS:
        return f"{statistic} {what}"
    return f"{words} loss" if group == "loss" else words


def quantity(metric: str) -> str:
    """What an axis of `metric` counts: `loss`, `share of pairs`, or the metric's own name without its group."""
    group, _, name = metric.rpartition("/")
    if group == "loss":
        return "loss"
    if "accuracy" in name:
        return "share of pairs"
    return spoken(metric)
