"""Positions: how far a reader has to be to see a write. A position is a part of a vector: for some sites, a stamp each.

A node has reached a position when each of the sites' changesets up to that stamp is merged there; since a changeset is
merged only after all that its origin had seen, whatever the writer could read can be read there too. As text it
fits into a cookie or a header.

The position of a write is known as soon as it is committed, long before its changeset is made: see `of_next_fold`."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from replication.engine.stamps import STAMP_MAX, Site, Stamp, is_site

_SITES_MAX = 10_000


class PositionError(ValueError):
    """The text is not a position."""

    def __init__(self, text: str) -> None:
        super().__init__(f"not a position: {text[:80]!r}; a position is SITE:STAMP, several joined by commas")


@dataclass(frozen=True, slots=True)
class Position:
    """What a reader waits for. The empty position is reached everywhere. Positions add up with `|`."""

    stamps: Mapping[Site, Stamp] = field(default_factory=dict[Site, Stamp])

    def __str__(self) -> str:
        return ",".join(f"{site}:{stamp:x}" for site, stamp in sorted(self.stamps.items()))

    def __bool__(self) -> bool:
        return bool(self.stamps)

    def __or__(self, other: "Position") -> "Position":
        """The position that is reached where both are."""
        joined = dict(self.stamps)
        for site, stamp in other.stamps.items():
            joined[site] = max(stamp, joined.get(site, stamp))
        return Position(joined)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position whose `str` this is. Raises PositionError."""
        stamps: dict[Site, Stamp] = {}
        parts = text.split(",") if text else []
        if len(parts) > _SITES_MAX:
            raise PositionError(text)
        for part in parts:
            site, colon, stamp = part.partition(":")
            try:
                number = int(stamp, 16)
            except ValueError:
                raise PositionError(text) from None
            if not colon or not is_site(site) or not 0 <= number <= STAMP_MAX:
                raise PositionError(text)
            stamps[Site(site)] = Stamp(number)
        return cls(stamps)


def joined(positions: Iterable[Position]) -> Position:
    """The position that is reached where all are."""
    result = Position()
    for position in positions:
        result |= position
    return result


def of_next_fold(connection: sqlite3.Connection) -> Position:
    """The position of what is written in the transaction at work: the own site, and the clock plus one.

    Read inside the writing transaction, so that no fold comes between: every changeset before it has at most the clock
    as its stamp, and the first one after it, which holds all that was committed until then, at least one more. Empty
    where nothing of the database is attached."""
    try:
        row = connection.execute("SELECT site, clock FROM main._litecast_state WHERE id = 1").fetchone()
    except sqlite3.OperationalError as error:
        if "no such" in str(error):  # table, or column: nothing is attached
            return Position()
        raise
    if row is None or row[0] is None:
        return Position()
    return Position({Site(row[0]): Stamp(row[1] + 1)})
