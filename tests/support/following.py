"""Somebody who keeps a copy of a table by following the feed of a replica, as the how-to says; and begins again, at any
moment, from the text of a position."""

import random
import sqlite3
from collections.abc import Mapping, Sequence

from replication.engine.session import open_session
from replication.engine.sites import vector
from replication.engine.stamps import Site
from replication.engine.values import Key, Value, canonical_key, fetch
from replication.errors import StartOver
from replication.feed import reading
from replication.feed.change import Change, ChangeOp
from replication.feed.position import FeedPosition
from replication.feed.reading import Durable, FeedPage, FeedReader
from tests.support.sql_schema import quoted

type Copy = dict[Key, dict[str, Value]]


def apply(copy: Copy, change: Change) -> None:
    """What whoever keeps a copy does with a change."""
    key = canonical_key(tuple(change.key.values()))
    match change.op:
        case ChangeOp.ROW | ChangeOp.INSERT:
            copy[key] = dict(change.columns)
        case ChangeOp.UPDATE:
            if key in copy:
                copy[key].update(change.columns)
        case ChangeOp.DELETE:
            copy.pop(key, None)


class Follower:
    """Follows one table, page by page; within a page it may stop after any change, and its position is kept as text."""

    def __init__(self, rng: random.Random, table: str) -> None:
        self.table = table
        self.copy: Copy = {}
        self.started = 0
        self.told = 0
        self._rng = rng
        self._reader = FeedReader(table)
        self._position: str | None = None

    def read(self, connection: sqlite3.Connection) -> FeedPage | None:
        """One page, or a part of it. None if it had to start over."""
        if self._rng.random() < 0.3:
            self._reader = FeedReader(self.table)
        position = None if self._position is None else FeedPosition.parse(self._position)
        try:
            page = self._reader.read(connection, position, durable(connection))
        except StartOver:
            self.start_over()
            return None
        stop = self._rng.choice((len(page.changes), self._rng.randint(0, len(page.changes))))
        for change in page.changes[:stop]:
            apply(self.copy, change)
            self.told += 1
            self._position = str(change.position)
        if stop == len(page.changes):
            self._position = str(page.position)
        return page

    def start_over(self) -> None:
        """Empties the copy, and reads without a position."""
        self.started += 1
        self.copy.clear()
        self._position = None

    def catch_up(self, connection: sqlite3.Connection) -> None:
        """Reads until there is no more. What is not there, and will not be, makes it start over."""
        while True:
            page = self.read(connection)
            if page is None:
                continue
            if page.missing:
                self.start_over()
            elif not page.more and self._position == str(page.position):
                return

    def assert_is_copy_of(self, connection: sqlite3.Connection) -> None:
        """The copy is what the table shows."""
        found = shown(connection, self.table)
        assert _plain(self.copy) == _plain(found), (
            self.table,
            [row for row in _plain(self.copy) if row not in _plain(found)],
            [row for row in _plain(found) if row not in _plain(self.copy)],
        )


def durable(connection: sqlite3.Connection) -> Durable:
    """All that there is."""
    ((site,),) = connection.execute("SELECT site FROM _litecast_state").fetchall()
    head = vector(connection).get(site)
    return Durable(site=Site(site), upto=None if head is None else head.stamp)


def shown(connection: sqlite3.Connection, name: str) -> Copy:
    """The table's rows."""
    spec = open_session(connection).tables[name].spec
    columns = (*spec.cells, *spec.counters)
    wanted = ", ".join(map(quoted, (*spec.key, *columns)))
    size = len(spec.key)
    return {
        canonical_key(row[:size]): dict(zip(columns, row[size:], strict=True))
        for row in fetch(connection, f"SELECT {wanted} FROM {quoted(name)}")
    }


def _plain(copy: Mapping[Key, Mapping[str, Value]]) -> list[str]:
    return sorted(
        repr((key, sorted((name, _value(value)) for name, value in row.items()))) for key, row in copy.items()
    )


def _value(value: Value) -> str:
    return repr(value + 0.0 if isinstance(value, float) else value)


def small_pages(rows: int) -> Sequence[tuple[object, str, int]]:
    """What to patch so that pages are small."""
    return ((reading, "ROWS_MAX", rows), (reading, "CHANGESETS_MAX", rows))
