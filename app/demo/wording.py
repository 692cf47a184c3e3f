"""Numbers in words, as the story needs them. Pure."""

from collections.abc import Sequence


def views(count: int) -> str:
    """`1 view`, `300 views`."""
    return "1 view" if count == 1 else f"{count:,} views"


def casts(count: int) -> str:
    """`1 cast`, `44 casts`."""
    return "1 cast" if count == 1 else f"{count:,} casts"


def were(count: int) -> str:
    """The verb that goes with so many."""
    return "was" if count == 1 else "were"


def of_views(part: int, whole: int) -> str:
    """`170 of 300 views (57%)`."""
    share = f" ({part / whole:.0%})" if whole else ""
    return f"{part:,} of {views(whole)}{share}"


def ordinal(number: int) -> str:
    """`first`, `4th`."""
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def duration(seconds: float | None) -> str:
    """`12 ms`, `1.4 s`; `never` for None."""
    if seconds is None:
        return "never"
    if seconds < 0.001:
        return "< 1 ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
