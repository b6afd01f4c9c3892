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


def quantity(metric: str) -> str:
    """What an axis of `metric` counts: `loss`, `share of pairs`, or the metric's own name without its group."""
    group, _, name = metric.rpartition("/")
    if group == "loss":
        return "loss"
    if "accuracy" in name:
        return "share of pairs"
    return name.replace("_", " ")
