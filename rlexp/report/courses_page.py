"""The table of the hand-outs in words: what `rlexp courses` prints, and the page COURSES.md."""

import math
from collections.abc import Iterable, Iterator
from itertools import groupby

from rlexp.report.courses import NO_BAR, Found, Part, judged, time_a_seed
from rlexp.report.words import about, count, with_interval

OPENING = """# The hand-outs of five courses

Part by part: what to type, what to hand in from the run's folder (`RUN`), what the hand-out asks for, and what comes of
it here. `rlexp courses` prints this table, `rlexp courses PART` one part, `rlexp courses PART --run` runs its command,
with options of yours behind it.

Numbers are computed from the gallery's entries and policies' cards, at the end of training unless a step is named:
fresh episodes of each seed's last policy (the same for every seed) where the card has them, else the last evaluation;
means with their 95 % t-interval over seeds, or, where the bar is one policy's, over its episodes, which says nothing
of other seeds. One rule gives every verdict: *met*, the whole interval is where the bar asks for, of five seeds or more
where it is over seeds; *missed*, the whole interval is on the other side; *undecided*, neither, or too few seeds to
meet it; *missing*, there is no evidence; *no bar*, the hand-out gives no number.

*This page is made by* `rlexp courses --markdown` *from* conf/courses.yaml.
"""


def number(found: Found) -> str:
    """The mean and its interval; nothing where nothing was found."""
    if math.isnan(found.mean):
        return ""
    return with_interval(found.mean, found.half)


def sample(found: Found) -> str:
    """What the interval is over: '5 seeds, 10 episodes each, sampled actions'."""
    if not found.n:
        return ""
    what = count(found.n, found.over.removesuffix("s"))
    each = f", {count(found.episodes, 'episode')} each" if found.episodes else ""
    actions = f", {found.actions} actions" if found.actions else ""
    return f"{what}{each}{actions}"


def markdown(parts: Iterable[Part]) -> str:
    """COURSES.md."""
    lines = [OPENING]
    for (title, note), group in groupby(parts, key=lambda part: (part.title, part.note)):
        lines += [f"## {title}", ""]
        if note:
            lines += [note, ""]
        for part in group:
            lines += [*_section(part), ""]
    return "\n".join(lines).rstrip() + "\n"


def _section(part: Part) -> Iterator[str]:
    yield f"### {part.name}"
    yield ""
    yield f"{part.about[:1].upper()}{part.about[1:]}."
    yield ""
    yield "```"
    yield from [part.command, *part.then]
    yield "```"
    yield ""
    takes = time_a_seed(part)
    if takes is not None:
        seconds, entry, processor = takes
        yield f"A seed took {about(seconds)} where `{entry}` was made ({processor})."
        yield ""
    files = [f"`{file}` ({what})" for file, what in part.hand_in.items()]
    yield f"Hand in: {'; '.join(files)}."
    if part.bars:
        yield ""
        yield "| the hand-out | here | of | verdict | evidence |"
        yield "|---|---|---|---|---|"
    for bar in part.bars:
        for found in judged(bar):
            evidence = f"`{found.evidence}`" if found.evidence else ""
            yield f"| {bar.says} | {number(found)} | {sample(found)} | {found.verdict} | {evidence} |"


def overview(parts: Iterable[Part]) -> Iterator[str]:
    """A line for each bar of each part, under the hand-out's title; for a terminal."""
    for title, group in groupby(parts, key=lambda part: part.title):
        yield ""
        yield title
        for part in group:
            yield f"  {part.name:17} {part.about}"
            for bar in part.bars:
                found = judged(bar)
                is_named = len(found) > 1
                yield from (f"  {'':17} - {_line(bar.says, one, is_named)}" for one in found)


def details(part: Part) -> Iterator[str]:
    """All of one part; for a terminal."""
    yield f"{part.name}: {part.about} ({part.title})"
    yield ""
    yield f"  {part.command}"
    yield from (f"  then: {command}" for command in part.then)
    if part.note:
        yield ""
        yield part.note
    yield ""
    takes = time_a_seed(part)
    if takes is not None:
        seconds, entry, processor = takes
        yield f"a seed took {about(seconds)} where {entry} was made ({processor})"
        yield ""
    yield "hand in:"
    yield from (f"  {file}: {what}" for file, what in part.hand_in.items())
    if part.bars:
        yield ""
        yield "bars:"
    for bar in part.bars:
        for found in judged(bar):
            yield f"  {_line(bar.says, found)}"
            if found.n:
                yield f"    {found.evidence}: {sample(found)}"


def _line(says: str, found: Found, is_named: bool = False) -> str:
    """A bar, the number beside it, and the verdict; with the evidence's name where `is_named`."""
    words = [word for word in (number(found), found.verdict) if word and word != NO_BAR]
    line = f"{says}: {', '.join(words)}"
    if is_named:
        return f"{line} ({found.evidence})"
    return line
