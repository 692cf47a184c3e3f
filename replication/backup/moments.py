"""Moments as people write and read them: ISO 8601, to the millisecond. Pure."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EXAMPLE: Final = "2026-11-27T14:30:00Z"


class NotAMoment(ValueError):
    """The text is none."""

    def __init__(self, text: str) -> None:
        super().__init__(f"not a moment: {text[:80]!r}; write it like {_EXAMPLE}, or with a zone, +02:00")


class Parsed(NamedTuple):
    """`ms`: since 1970. `has_zone`: whether the text says in which zone it is; if it does not, it was taken for UTC."""

    ms: int
    has_zone: bool


def parse(text: str) -> Parsed:
    """The moment that a text says, to the millisecond in which it is. Raises NotAMoment."""
    try:
        found = datetime.fromisoformat(text)
        has_zone = found.tzinfo is not None
        since = (found if has_zone else found.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise NotAMoment(text) from None
    ms = since.days * 86_400_000 + since.seconds * 1_000 + since.microseconds // 1_000
    if ms < 0:
        raise NotAMoment(text)
    return Parsed(ms, has_zone)


def said(ms: int) -> str:
    """A moment, as `parse` takes it."""
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
