"""Fold: what was written here since the last one becomes a changeset.

The log says which keys may have changed; what did is found by comparing each row with its entry. So a key that was
logged and ended as it was is nothing, and whatever a trigger cannot see is found by looking at more keys, or at all
(`looking`). All of a fold is one write transaction and carries one stamp: rows, entries and contributions are
read, and the new ones written, in it, a page of keys at a time.

Lives follow the log's order. A DELETE that no REPLACE made, followed by a row that is there, ended a life and began
another; BEFORE and then DELETE, or no DELETE at all, is the life that was. A first insert takes the next odd number
above that of a tombstone and the floor of those trimmed.

A counter's cell is the sum of all sites' contributions to this life; the own one is what is left when the others' are
taken from it. So it does not matter how the application computed the number, or how often."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from replication.engine import catalogue, held, journal, state
from replication.engine.again import told_again
from replication.engine.catalogue import MergeRule
from replication.engine.changesets import ChangeKind, Changeset, EncodedTables, RowGroup, TableChange, digest, encode
from replication.engine.columns import Looked
from replication.engine.contributions import Shares
from replication.engine.counting import CounterFold
from replication.engine.decoding import decode
from replication.engine.entries import Later, split
from replication.engine.identity import Remembered, check_remembered
from replication.engine.known_tables import KnownTables
from replication.engine.logs import last_logged
from replication.engine.looking import look
from replication.engine.progress import Progress
from replication.engine.session import Session, move_clock, open_session
from replication.engine.sites import Head
from replication.engine.stamps import BASELINE_STAMP, GENESIS, Stamp, first_after, next_stamp
from replication.engine.table import Table
from replication.engine.transacting import merging_transaction, transaction
from replication.engine.values import Key, Value, row_hashes, same

NOTHING_OWED: Final = Stamp(0)

FEW_KEYS: Final = 5_000
"""So many log entries are folded at once. Of more keys, so many are taken at first, and then as many as fit."""
PAGE_KEYS: Final = 20_000
PAGE_BYTES: Final = 4 * 1024 * 1024
"""What a page of keys may have in a changeset, about: as rows of Python's it takes ten times as much."""
CHANGESET_BYTES: Final = 192 * 1024 * 1024
"""A transaction of more becomes several changesets, since none of more than CHANGESET_MAX_BYTES is taken by anybody."""

type _Shape = tuple[ChangeKind, tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """A changeset that was made, and stands in the journal. `rows`: how many it carries.

    `clamped`: contributions that were beyond the limit; `not_integers`: counters in which something else was written.
    In both cases the cell was written again."""

    encoded: bytes
    digest: bytes
    rows: int
    clamped: int = 0
    not_integers: int = 0

    @property
    def changeset(self) -> Changeset:
        """It, decoded: for who wants to look at it."""
        return decode(self.encoded)


def fold(
    connection: sqlite3.Connection,
    *,
    now_ms: int,
    owed: Stamp = NOTHING_OWED,
    expected: Remembered | None = None,
    known: KnownTables | None = None,
    progress: Progress | None = None,
) -> Folded | None:
    """Makes a changeset of what was written here since the last fold; None if nothing changed. Commits.

    `owed` is a position that somebody waits for elsewhere: if the writes that it was given out for changed nothing, an
    empty changeset brings the head there. `known`: what this connection keeps of its tables. `progress` is told how far
    it is. What is too much for one changeset becomes several, of which the last one is given. Looks first, without the
    write lock, and writes nothing at all if the log is empty and the schema what it was. Raises NotAttached,
    StateReplaced if the state is not as `expected`, sqlite3.OperationalError (the lock, the disk), and RuntimeError
    inside a transaction; nothing is changed then."""
    is_schema_new = _is_schema_new(connection)
    if not is_schema_new and owed == NOTHING_OWED and not _is_anything_logged(connection):
        check_remembered(connection, expected)
        return None
    known, progress = known or KnownTables(), progress or Progress()
    folded: Folded | None = None
    # Looking at a new schema takes a transaction of the other kind. It may have changed between the look and the lock.
    with merging_transaction(connection) if is_schema_new else transaction(connection):
        check_remembered(connection, expected)
        session = open_session(connection, known)
        session.progress = progress
        is_done = is_schema_new or not session.is_schema_new
        if is_done:
            folded = fold_inside(session, now_ms=now_ms, owed=owed)
    known.keep(session.attached)
    return (
        folded
        if is_done
        else fold(connection, now_ms=now_ms, owed=owed, expected=expected, known=known, progress=progress)
    )


def is_due(connection: sqlite3.Connection) -> bool:
    """True if a fold would have something to look at. Only reads."""
    return _is_schema_new(connection) or _is_anything_logged(connection)


def is_little_logged(session: Session) -> bool:
    """Whether a fold of what the log holds is done in one page."""
    tids = [table.spec.tid for table in session.tables.values()]
    return all((last or 0) <= FEW_KEYS for last in last_logged(session.connection, tids).values())


def _is_anything_logged(connection: sqlite3.Connection) -> bool:
    tids = [tid for (tid,) in connection.execute("SELECT tid FROM main._litecast_catalogue")]
    return any(last is not None for last in last_logged(connection, tids).values())


def _is_schema_new(connection: sqlite3.Connection) -> bool:
    found = state.read(connection)
    return found is None or found.schema != state.schema_version(connection)


def fold_inside(session: Session, *, now_ms: int, owed: Stamp = NOTHING_OWED) -> Folded | None:
    """`fold` in the transaction at work, which is a merging transaction if the schema is new."""
    looked = look(session)
    made = EncodedTables()
    session.progress.begin("folding")
    stamp = next_stamp(now_ms=now_ms, clock=session.clock)
    folded: Folded | None = None
    clamped = not_integers = 0
    logged = last_logged(session.connection, [table.spec.tid for table in session.tables.values()])
    for name, table in session.tables.items():
        last = logged[table.spec.tid]
        if last is None and name not in looked:
            continue
        work = _TableFold(session, table, stamp, looked.get(name))
        for _ in work.run(made, upto=last or 0):
            session.progress.rows = made.rows
            if made.size >= CHANGESET_BYTES:
                folded = publish(session, stamp, made)
                made.clear()
                stamp = work.stamp = next_stamp(now_ms=now_ms, clock=session.clock)
        if last is not None:
            table.clear_log(last)
        clamped += work.counters.clamped
        not_integers += work.counters.not_integers
    head = session.sites.head(session.site)
    if not made and (head.stamp if head else NOTHING_OWED) >= owed and not _is_told(session, logged):
        return folded
    return publish(session, stamp, made, clamped=clamped, not_integers=not_integers)


def _is_told(session: Session, logged: Mapping[int, int | None]) -> bool:
    """Whether another process may have told somebody that what the log held is in the next changeset, though it changed
    nothing: where one node writes, see `replication.file_position`."""
    return any(last is not None for last in logged.values()) and catalogue.is_one_writer(session.connection)


def publish(
    session: Session, stamp: Stamp, tables: EncodedTables, *, clamped: int = 0, not_integers: int = 0
) -> Folded:
    """Makes the changeset of the own site that has these changes, under `stamp`, which the clock moves to. Inside a
    transaction that wrote what they say."""
    own = session.site
    head = session.sites.head(own)
    deps = session.sites.moved(own)
    changeset = Changeset(
        cluster=session.cluster,
        site=own,
        after=head.stamp if head else first_after(own),
        upto=stamp,
        previous=head.digest if head else b"",
        deps=deps,
        tables=(),
        run=session.run,
        dep_runs=session.sites.runs_at(deps),
    )
    encoded = encode(changeset, tables)
    found = digest(encoded)
    short = session.sites.short(own)
    journal.append(
        session.connection, journal.Journaled(site=short, after=changeset.after, upto=stamp, digest=found), encoded
    )
    session.sites.move(own, Head(stamp=stamp, digest=found, run=session.run))
    session.sites.note()
    move_clock(session, stamp)
    return Folded(encoded=encoded, digest=found, rows=tables.rows, clamped=clamped, not_integers=not_integers)


class _TableFold:
    """The fold of one table."""

    def __init__(self, session: Session, table: Table, stamp: Stamp, looked: Looked | None) -> None:
        self._session = session
        self._table = table
        self.stamp = stamp
        self._own = session.sites.short(session.site)
        self._more = _keys_to_look_at(table, looked)
        self._fresh_cells = looked.cells if looked else frozenset[str]()
        self._any_held = held.is_any(session.connection, table.spec.tid)
        fresh = looked.counters if looked else frozenset[str]()
        self.counters = CounterFold(table, own=self._own, genesis=session.sites.short(GENESIS), fresh=fresh)
        self._groups: dict[_Shape, list[tuple[Value, ...]]] = {}
        self._entries: list[tuple[Value, ...]] = []
        self._ended: list[Key] = []
        self._begun: list[tuple[Any, ...]] = []
        self._lives: list[int] = []

    def run(self, made: EncodedTables, *, upto: int) -> Iterator[None]:
        """Compares and writes, a page of keys at a time: after each, what changed is in `made`, and `stamp` may be set
        to another one. `upto`: the newest log entry's number."""
        if upto <= FEW_KEYS and not self._more:
            self._run_page(self._table.read_dirty(()), made)
            yield
            return
        count = self._table.note_dirty(self._more)
        at, size = 0, FEW_KEYS
        while at < count:
            before = made.size
            self._run_page(self._table.read_noted(at, size), made)
            at += size
            # As many as fit into memory, if they are like these.
            size = min(PAGE_KEYS, max(1, PAGE_BYTES * size // max(1, made.size - before)))
            yield
        self._table.forget_noted()

    def _run_page(self, rows: Sequence[tuple[Any, ...]], made: EncodedTables) -> None:
        self._take(rows)
        self._insert_all()
        self._write()
        if self._groups:
            groups = tuple(
                RowGroup(kind=kind, cells=cells, counters=counters, rows=found)
                for (kind, cells, counters), found in self._groups.items()
            )
            self._groups.clear()
            made.add(TableChange(table=self._table.spec.name, key=self._table.spec.key, groups=groups))

    def _take(self, rows: Sequence[tuple[Any, ...]]) -> None:
        table = self._table
        spec = table.spec
        size = len(spec.key)
        self.counters.stamp = self.stamp
        same_life: list[tuple[Any, ...]] = []
        for row in rows:
            key = row[:size]
            gone, ended, there, life = row[size : size + 4]
            if life is None or not life & 1:
                if there:
                    self._begin(row, _next_life(life, spec.floor))
                elif life is not None and key in self._again:
                    self._end_again(key, life)
            elif not there:
                self._end(key, life)
            elif gone and ended:
                self._ended.append(key)
                if self._any_held:
                    held.drop(table.connection, spec.tid, key)
                self._begin(row, life + 2)
            else:
                same_life.append(row)
        if spec.counters and same_life:
            self.counters.shares = Shares.of(table.counts_of([row[:size] for row in same_life]), size)
        cells = slice(size + 7, size + 7 + len(spec.cells))
        hashes = row_hashes([row[:size] for row in same_life], same_life, cells)
        for row, found in zip(same_life, hashes, strict=True):
            self._compare(row, found)

    def _begin(self, row: tuple[Any, ...], life: int) -> None:
        self._begun.append(row)
        self._lives.append(life)

    def _insert_all(self) -> None:
        """Notes the new lives that were found. A big fold's time goes here."""
        if not self._begun:
            return
        table, spec = self._table, self._table.spec
        size, cells_at = len(spec.key), len(spec.key) + 7
        counts_at = cells_at + len(spec.cells)
        blob_of = table.shapes.of(table.cell_ids).blob
        stamp, own = self.stamp, self._own
        rows, lives = self._begun, self._lives
        hashes = row_hashes([row[:size] for row in rows], rows, slice(cells_at, counts_at))
        self._entries += [
            (*row[:size], life, stamp, own, blob_of(found))
            for row, life, found in zip(rows, lives, hashes, strict=True)
        ]
        if spec.counters:
            first = self.counters.first
            lines = [
                (*row[:size], life, *row[cells_at:counts_at], *first(row[:size], life, row[counts_at:]))
                for row, life in zip(rows, lives, strict=True)
            ]
        else:
            lines = [(*row[:size], life, *row[cells_at:]) for row, life in zip(rows, lives, strict=True)]
        self._groups[ChangeKind.INSERT, spec.cells, spec.counters] = lines
        self._begun, self._lives = [], []

    def _end(self, key: Key, life: int) -> None:
        if self._any_held:
            if held.ROW in held.of_key(self._table.connection, self._table.spec.tid, key):
                return  # it is not there because it could not be written
            held.drop(self._table.connection, self._table.spec.tid, key)
        self._ended.append(key)
        self._entries.append((*key, life + 1, self.stamp, self._own, b""))
        self._groups.setdefault((ChangeKind.DELETE, (), ()), []).append((*key, life + 1))

    def _end_again(self, key: Key, life: int) -> None:
        self._entries.append((*key, life, self.stamp, self._own, b""))
        self._groups.setdefault((ChangeKind.DELETE, (), ()), []).append((*key, life))

    @cached_property
    def _again(self) -> set[Key]:
        """Keys whose delete is told again. Looked up when a key is come upon that neither is nor was there."""
        return told_again(self._table)

    def _compare(self, row: tuple[Any, ...], hashes: tuple[int, ...]) -> None:
        table, spec = self._table, self._table.spec
        size = len(spec.key)
        key = row[:size]
        life, born_stamp, born_site, blob = row[size + 3 : size + 7]
        cells = row[size + 7 : size + 7 + len(spec.cells)]
        born, later = split(blob)
        changed = self._changed_cells(key, cells, hashes, born, later)
        silent = self._taken_silently(changed, born, later)
        sent = [name for name in changed if name not in silent]
        if sent and spec.rule is MergeRule.ROW:
            changed = dict(zip(spec.cells, hashes, strict=True))
            sent = list(changed)
            silent = set()
            if self._any_held:
                for name in sent:  # the row is as it is shown here, and what was held for a cell of it has lost
                    held.drop(table.connection, spec.tid, key, name)
        counts = self.counters.changed(key, life, row[size + 7 + len(spec.cells) :]) if spec.counters else {}
        for name, value in changed.items():
            number = table.columns.number(name)
            born.pop(number, None)
            later[number] = (value, BASELINE_STAMP, 0) if name in silent else (value, self.stamp, self._own)
        if changed:
            self._entries.append((*key, life, born_stamp, born_site, table.shapes.join(born, later)))
        if sent or counts:
            shape = (ChangeKind.UPDATE, tuple(sent), tuple(counts))
            values = [cells[spec.cells.index(name)] for name in sent]
            self._groups.setdefault(shape, []).append((*key, life, *values, *counts.values()))

    def _changed_cells(
        self,
        key: Key,
        cells: Sequence[Value],
        hashes: tuple[int, ...],
        born: Mapping[int, int],
        later: Mapping[int, Later],
    ) -> dict[str, int]:
        """The cells that are not as the entry has them, by name, with their hashes."""
        table = self._table
        found: dict[str, int] = {}
        holding = held.of_key(table.connection, table.spec.tid, key) if self._any_held else {}
        if held.ROW in holding:
            held.drop(table.connection, table.spec.tid, key, held.ROW)  # somebody wrote the row that could not be
        for name, number, value, value_hash in zip(table.spec.cells, table.cell_ids, cells, hashes, strict=True):
            known = born.get(number)
            if known is None:
                written = later.get(number)
                if written is None:
                    if not same(value, table.defaults[name]):
                        found[name] = value_hash
                    continue
                known = written[0]
            if name in holding:
                if value_hash == holding[name].shown:
                    continue
                held.drop(table.connection, table.spec.tid, key, name)
            if value_hash != known:
                found[name] = value_hash
        return found

    def _taken_silently(
        self, changed: Mapping[str, int], born: Mapping[int, int], later: Mapping[int, Later]
    ) -> set[str]:
        """Cells of a column that is new, and never written by anyone: a migration computed them, on every node."""
        if not self._fresh_cells:
            return set()
        ids = self._table.columns.ids
        return {
            name for name in changed if name in self._fresh_cells and ids[name] not in born and ids[name] not in later
        }

    def _write(self) -> None:
        table = self._table
        if self._ended:
            table.end_counts.run_many(table.connection, self._ended)
        table.put_entry.run_many(table.connection, self._entries)
        self.counters.write()
        self._ended, self._entries = [], []


def _keys_to_look_at(table: Table, looked: Looked | None) -> list[str]:
    """Queries of keys that no log has: all, or those that show something in a new column."""
    if looked is None:
        return []
    if looked.uncaptured:
        return table.all_keys
    return table.keys_with_news(sorted(looked.cells), sorted(looked.counters))


def _next_life(life: object, floor: int) -> int:
    """The next odd number above both."""
    return (max(life if isinstance(life, int) else 0, floor) + 1) | 1
