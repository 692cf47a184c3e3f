"""Reading the feed of a table: the next changes after a position. On a connection that only reads; synchronous.

All of a page is of one moment: the changesets beyond the position, and what is known of their rows. Nothing is kept for
a reader between two pages but its position and the changeset in which it stopped, so a reader that comes late, or after
a restart, reads the same as one that was there all the time, as long as the journal has it.

What is missing in the journal is known, since the changesets of a site join end to end; there the reader has to start
over. That is so when the journal was trimmed past it, when a snapshot moved the heads, and when somebody put the
database back to an older state and other things were written since."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from typing import Any, Final

from replication.engine import generation, journal, state
from replication.engine.changesets import RowChange, header
from replication.engine.decoding import LARGE_BYTES, changes_of, contents, contents_of, decode
from replication.engine.entries import Entry, decode_entry
from replication.engine.session import NotAttached, Session, open_session
from replication.engine.sites import stamps_of, vector
from replication.engine.stamps import Dot, Site, Stamp, first_after
from replication.engine.table import Table
from replication.engine.transacting import reading
from replication.engine.values import Key, Value, pack
from replication.errors import NotReplicated, StartOver
from replication.feed.change import Change, ChangeOp, Origin
from replication.feed.position import SHAPE_DIGITS, FeedPosition, Partway
from replication.feed.telling import told

ROWS_MAX: Final = 500
"""So many rows make a page: some milliseconds. A reader holds one page."""
CHANGESETS_MAX: Final = 500
BYTES_MAX: Final = 1024 * 1024
"""Of changesets, read at once. A single one may be larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPage:
    """The next changes, and the position after them, which also passes what other tables changed. `more`: there is more
    to be read at once. `missing`: what this node has to merge first, since the reader was told of it elsewhere."""

    changes: tuple[Change, ...]
    position: FeedPosition
    more: bool
    missing: Mapping[Site, Stamp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durable:
    """The own site, and up to where what it wrote may be told: a power cut must not take back what was. None: nothing.
    What others wrote comes again from them."""

    site: Site
    upto: Stamp | None

    def allows(self, site: Site, stamp: Stamp) -> bool:
        """False for an own changeset that is not durable yet."""
        return site != self.site or (self.upto is not None and stamp <= self.upto)


def here(connection: sqlite3.Connection, durable: Durable) -> FeedPosition:
    """The position of who was told of all that is merged here. Raises NotAttached."""
    with reading(connection):
        return _here(connection, durable)


def _here(connection: sqlite3.Connection, durable: Durable) -> FeedPosition:
    try:
        found = generation.read(connection)
    except (sqlite3.OperationalError, TypeError) as error:
        raise NotAttached from error
    stamps: dict[Site, Stamp] = {}
    for site, head in vector(connection).items():
        if durable.allows(site, head.stamp):
            stamps[site] = head.stamp
        elif durable.upto is not None:
            stamps[site] = durable.upto
    return FeedPosition(vector=stamps, generation=found)


class _Opened:
    """A changeset, of which one table's rows are decoded and told piece by piece."""

    def __init__(self, encoded: bytes, table: str) -> None:
        self._encoded = encoded
        self._table = table
        self._small = decode(encoded) if len(encoded) <= LARGE_BYTES else None
        head = self._small or header(encoded)
        self.dot = Dot(head.upto, head.site)
        self.after = head.after
        found = contents_of(encoded) if self._small is None else contents(self._small.tables)
        self._contents = found.get(table)
        self._rows: Iterator[RowChange] = iter(())
        self._at = -1

    @property
    def count(self) -> int:
        """How many rows of the table there are."""
        return 0 if self._contents is None else self._contents.rows

    @property
    def before(self) -> int:
        """Rows of other tables that come before."""
        return 0 if self._contents is None else self._contents.before

    def has_key(self, key: tuple[str, ...]) -> bool:
        """False if the rows are of a table that had another key: they are held, and not shown here."""
        return self._contents is not None and self._contents.key == key

    def take(self, skip: int, limit: int) -> list[RowChange]:
        """The rows after the first `skip`."""
        if self._contents is None:
            return []
        if skip != self._at:  # a page that was read got lost
            self._rows = islice(self._each(), skip, None)
        rows = list(islice(self._rows, limit))
        self._at = skip + len(rows)
        return rows

    def _each(self) -> Iterator[RowChange]:
        changes = changes_of(self._encoded) if self._small is None else self._small.tables
        return (row for change in changes if change.table == self._table for row in change.each())


class FeedReader:
    """Reads the feed of one table. A page depends on nothing but the position and the database: what is remembered
    between two pages is only the changeset that was decoded last."""

    def __init__(self, table: str, nodes: Mapping[Site, str] | None = None) -> None:
        """`nodes`: the names of the nodes that write under sites, as far as they are known; it may change."""
        self._table = table
        self._nodes: Mapping[Site, str] = {} if nodes is None else nodes
        self._opened: _Opened | None = None
        self._versions: tuple[int, int] | None = None
        self._known_shape = ""

    def read(self, connection: sqlite3.Connection, position: FeedPosition | None, durable: Durable) -> FeedPage:
        """The next page after a position; without one, the first. Raises NotReplicated, StartOver, sqlite3.Error."""
        with reading(connection):
            moment = _Moment(connection, self._table)
            shape = self._shape(moment)
            if position is None:
                position = replace(_here(connection, durable), is_at_rows=True)
            elif position.shape not in ("", shape):
                raise StartOver(self._table, "its columns are others, or the position is another table's")
            elif position.generation != generation.read(connection):
                raise StartOver(self._table, "rows changed here by more than what was written, or it is another node's")
            position = replace(position, shape=shape)
            heads = stamps_of(vector(connection))
            missing = {site: stamp for site, stamp in position.reaches.items() if heads.get(site, Stamp(-2)) < stamp}
            if missing:
                return FeedPage(changes=(), position=position, more=False, missing=missing)
            if position.is_at_rows:
                return self._rows(moment.table, position)
            return self._changes(moment, position, durable)

    def _shape(self, moment: "_Moment") -> str:
        """The table's, which is looked up when somebody changed a schema or has looked at one. Raises NotReplicated."""
        versions = moment.versions()
        if versions != self._versions:
            self._known_shape = _shape(moment.table)
            self._versions = versions
        return self._known_shape

    # --- the rows that were there

    def _rows(self, table: Table, position: FeedPosition) -> FeedPage:
        rows = table.rows_after(position.rows_after, ROWS_MAX)
        after = [replace(position, rows_after=row[: len(table.spec.key)]) for row in rows]
        more = len(rows) == ROWS_MAX
        if not more:
            position = replace(position, is_at_rows=False, rows_after=None)
            after[-1:] = [position] if rows else []
        changes = tuple(
            Change(
                table=self._table,
                op=ChangeOp.ROW,
                key=_key(table, row),
                columns=_shown(table, row),
                origin=None,
                position=at,
            )
            for row, at in zip(rows, after, strict=True)
        )
        return FeedPage(changes=changes, position=after[-1] if more else position, more=True, missing={})

    # --- what changed since

    def _changes(self, moment: "_Moment", position: FeedPosition, durable: Durable) -> FeedPage:
        opened, more = self._next(moment.connection, position, durable)
        found: list[Change] = []
        for one in opened:
            if len(found) == ROWS_MAX and one.count:
                return FeedPage(changes=tuple(found), position=position, more=True, missing={})
            if not _joins(position, one):
                raise StartOver(self._table, "the database was put back to an older state")
            skip = 0 if position.partway is None else max(0, position.partway.rows - one.before)
            rows = one.take(skip, ROWS_MAX - len(found)) if one.count and one.has_key(moment.table.spec.key) else []
            positions = _positions(position, one, skip, len(rows))
            if rows:
                found += self._tell(moment, one.dot, rows, position, positions)
            position = positions[-1]
            if position.partway is not None:
                return FeedPage(changes=tuple(found), position=position, more=True, missing={})
        return FeedPage(changes=tuple(found), position=position, more=more, missing={})

    def _next(
        self, connection: sqlite3.Connection, position: FeedPosition, durable: Durable
    ) -> tuple[Iterator["_Opened"], bool]:
        """The changesets that come next, decoded as they are needed, and whether there are more."""
        if position.partway is not None:
            site, upto, _ = position.partway
            if self._opened is None or self._opened.dot != (upto, site):
                encoded = journal.one(connection, site, upto)
                if encoded is None:
                    raise StartOver(self._table, _TRIMMED)
                self._opened = _Opened(encoded, self._table)
            return iter((self._opened,)), True
        page = journal.page_inside(connection, position.vector, max_bytes=BYTES_MAX, max_count=CHANGESETS_MAX)
        if page.beyond:
            raise StartOver(self._table, _TRIMMED)
        ready = [one for one in page.changesets if durable.allows(one.site, one.upto)]
        return self._open_each(connection, ready), page.more and len(ready) == len(page.changesets)

    def _open_each(self, connection: sqlite3.Connection, served: Iterable[journal.Served]) -> Iterator["_Opened"]:
        for one in served:
            encoded = journal.one(connection, one.site, one.upto) if one.encoded is None else one.encoded
            assert encoded is not None, "it is read in the transaction that found it"
            self._opened = _Opened(encoded, self._table)
            yield self._opened

    def _tell(
        self,
        moment: "_Moment",
        dot: Dot,
        rows: Sequence[RowChange],
        position: FeedPosition,
        positions: Sequence[FeedPosition],
    ) -> Iterator[Change]:
        table = moment.table
        known = _Known(moment.session, table, rows)
        for row, at in zip(rows, positions, strict=True):
            named = known.as_here(row)
            found = told(
                named,
                dot,
                known.entry(row.key),
                partial(known.row, row.key),
                lambda one: position.covers(one.site, one.stamp),
                is_whole=table.shown <= {*named.cells, *named.counts},
            )
            if found is not None:
                yield Change(
                    table=self._table,
                    op=found.op,
                    key=dict(zip(table.spec.key, row.key, strict=True)),
                    columns=found.columns,
                    origin=Origin(site=dot.site, node=self._nodes.get(dot.site)),
                    position=at,
                )


class _Moment:
    """The moment that a page is of. What is known of the tables is only read when it is needed: most pages, of a reader
    that waits for changes of one table, have none."""

    def __init__(self, connection: sqlite3.Connection, table: str) -> None:
        self.connection = connection
        self._name = table

    def versions(self) -> tuple[int, int]:
        """Of the schema, now and when it was last looked at. Raises NotReplicated."""
        found = state.read(self.connection)
        if found is None:
            raise NotReplicated(self._name)
        return state.schema_version(self.connection), found.schema

    @cached_property
    def session(self) -> Session:
        """All that is known of the database."""
        return open_session(self.connection)

    @property
    def table(self) -> Table:
        """The table. Raises NotReplicated."""
        table = self.session.tables.get(self._name)
        if table is None:
            raise NotReplicated(self._name)
        return table


class _Known:
    """What is known now of the rows of a page, read together."""

    def __init__(self, session: Session, table: Table, rows: Sequence[RowChange]) -> None:
        self._session = session
        self._table = table
        size = len(table.spec.key)
        keys = [row.key for row in rows]
        self._entries = {row[:size]: row[size:] for row in table.entries_of(keys)}
        self._names: dict[tuple[str, ...], dict[str, str] | None] = {}
        self._rows: dict[Key, Mapping[str, Value]] | None = None
        if any(row.counts for row in rows):
            self._rows = {row[:size]: _shown(table, row) for row in table.rows_of(keys)}

    def as_here(self, change: RowChange) -> RowChange:
        """The change, with the names that columns have here, and without those that were dropped here."""
        named = (*change.cells, *change.counts)
        if named not in self._names:
            self._names[named] = _names_here(self._table, named)
        names = self._names[named]
        if names is None:
            return change
        return replace(
            change,
            cells={names[name]: value for name, value in change.cells.items() if name in names},
            counts={names[name]: value for name, value in change.counts.items() if name in names},
        )

    def entry(self, key: Key) -> Entry | None:
        """The row's entry."""
        found: Any = self._entries.get(key)
        if found is None:
            return None
        life, stamp, short, blob = found
        site_of = self._session.sites.site
        born = Dot(Stamp(stamp), site_of(short))
        return decode_entry(life, born, blob, names=self._table.columns.names, site_of=site_of)

    def row(self, key: Key) -> Mapping[str, Value] | None:
        """What the row shows, or None if it is not there."""
        return self._table.row(key) if self._rows is None else self._rows.get(key)


def _names_here(table: Table, named: Sequence[str]) -> dict[str, str] | None:
    """What columns are called here, of those that are not dropped; None if all are called the same."""
    here, is_dropped = table.columns.here, table.columns.is_dropped
    found = {name: here(name) for name in named}
    kept = {
        name: other for name, other in found.items() if not is_dropped(other) and (name == other or other not in found)
    }
    return None if all(kept.get(name) == name for name in named) else kept


def _shape(table: Table) -> str:
    """A hash of the table's columns, as they were when the schema was last looked at: the same on all nodes."""
    looked = sorted((name, int(here)) for name, here in table.columns.looked_at().items())
    return hashlib.blake2b(pack((table.spec.name, table.spec.key, looked)), digest_size=SHAPE_DIGITS // 2).hexdigest()


def _positions(position: FeedPosition, one: _Opened, skip: int, count: int) -> list[FeedPosition]:
    """The positions after each of the next `count` rows of a changeset, of which `skip` were told; at least one."""
    passed = replace(position, vector={**position.vector, one.dot.site: one.dot.stamp}, partway=None)
    if skip + count >= one.count or count == 0:
        last = passed
    else:
        last = replace(position, partway=Partway(one.dot.site, one.dot.stamp, one.before + skip + count))
    between = [
        replace(position, partway=Partway(one.dot.site, one.dot.stamp, one.before + skip + at))
        for at in range(1, count)
    ]
    return [*between, last]


def _joins(position: FeedPosition, one: _Opened) -> bool:
    """False if the site went back since, and wrote something else."""
    return one.after == position.vector.get(one.dot.site, first_after(one.dot.site))


def _key(table: Table, row: Sequence[Value]) -> dict[str, Value]:
    return dict(zip(table.spec.key, row, strict=False))


def _shown(table: Table, row: Sequence[Value]) -> dict[str, Value]:
    names = (*table.spec.cells, *table.spec.counters)
    return dict(zip(names, row[len(table.spec.key) :], strict=True))


_TRIMMED: Final = "what was written since is not in this node's journal any more, or came as a snapshot"
