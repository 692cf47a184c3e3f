"""The tails that a database keeps: which there are, what they come to, and forgetting one. For the engine's thread."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Final

from replication.engine.changesets import RowChange
from replication.engine.decoding import changes_of
from replication.engine.stamps import Site, Stamp
from replication.engine.tails import TABLE
from replication.engine.transacting import transaction
from replication.tails.unit import Change, Unit, net, of_rows

READ_MAX_BYTES: Final = 64 * 1024 * 1024
"""A larger tail is not looked into: its rows would take many times as much memory."""


class TailTooLarge(Exception):
    """A tail is larger than `READ_MAX_BYTES`."""


def units(connection: sqlite3.Connection) -> list[Unit]:
    """All that are kept, the oldest epoch first. Where mode primary never was, none."""
    try:
        rows = connection.execute(f"SELECT site, upto, length(body) FROM main.{TABLE} ORDER BY epoch, site").fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
    sizes: dict[Site, list[tuple[Stamp, int]]] = {}
    for site, upto, size in rows:
        sizes.setdefault(Site(site), []).append((Stamp(upto), size))
    return [of_rows(site, uptos) for site, uptos in sizes.items()]


def changes(connection: sqlite3.Connection, unit: Unit) -> list[Change]:
    """What a tail comes to. Raises TailTooLarge."""
    if unit.bytes > READ_MAX_BYTES:
        raise TailTooLarge
    return net(_each(connection, unit.site))


def rows(connection: sqlite3.Connection, unit: Unit) -> dict[str, int] | None:
    """How many rows of each table a tail comes to; None if it is too large to be looked into."""
    try:
        return dict(Counter(change.table for change in changes(connection, unit)))
    except TailTooLarge:
        return None


def _each(connection: sqlite3.Connection, site: Site) -> Iterator[tuple[str, tuple[str, ...], RowChange]]:
    bodies = connection.execute(f"SELECT body FROM main.{TABLE} WHERE site = ? ORDER BY upto", (site,)).fetchall()
    for (body,) in bodies:
        for table in changes_of(body):
            for change in table.each():
                yield table.table, table.key, change


def drop(connection: sqlite3.Connection, unit: Unit) -> None:
    """Forgets it, for good. Commits."""
    with transaction(connection):
        connection.execute(f"DELETE FROM main.{TABLE} WHERE site = ? AND upto <= ?", (unit.site, unit.upto))
