"""What the words of a verdict are in a sentence. Imports nothing: `rlexp list` answers at once."""

PHRASES = {
    "identical": "identical to",
    "matches": "matches",
    "better": "better than",
    "worse": "worse than",
    "unusual": "unusual beside",
    "cannot_tell": "cannot tell from",
    "incomparable": "incomparable with",
}


def phrase(word: str, reference: str) -> str:
    """`worse than ppo_swimmer`."""
    return f"{PHRASES.get(word, word)} {reference}"


def count(number: int, what: str) -> str:
    """`1 episode`, `10,000 episodes`; `what` is the word for one."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


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


def quantity(metric: str) -> str:
    """What an axis of `metric` counts: `loss`, `share of pairs`, or the metric's own name without its group."""
    group, _, name = metric.rpartition("/")
    if group == "loss":
        return "loss"
    if "accuracy" in name:
        return "share of pairs"
    return name.replace("_", " ")
