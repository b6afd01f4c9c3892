"""How many of a data set's episodes are held out: they measure what is learned from the others."""


def held_out_count(n: int, fraction: float, least: int) -> int:
    """`fraction` of `n` episodes, but so many that `least` are on either side. `n` is at least twice that."""
    return min(n - least, max(least, round(fraction * n)))
