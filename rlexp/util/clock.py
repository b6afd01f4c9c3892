"""How long something takes, as lines of progress say it."""


def as_clock(seconds: float) -> str:
    """As 1:23:45."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
