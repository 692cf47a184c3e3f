"""Stamping again what was stamped by a clock far ahead, once that clock is right.

Peers do not merge a stamp far ahead of their clocks until time has come, nor anything after it, since the clock of the
database that made it never goes back. So the site that was stamped ahead is given up, in two steps:

1. It is **set aside**: closed, without tips. Whoever hears of that closes it, too, where it is merged, and drops what
   waits of it. From then on nobody merges any more of it. The database goes on folding under it meanwhile, for what is
   stamped so is as good as what was stamped so before.
2. When each member has said what it merged (its tips), the site is **cut** there. Whatever stands in this database
   under a later stamp of it is nobody else's. It is stamped again, with one stamp, in the name of a new site: the rows
   that began, the cells and deletes, as they are now. The clock goes back to the newest stamp that is left.

Counters: what the old site has added lies in one number, of which the peers know an older value, and this database only
the newest. So the new site takes the whole number over, and the old one's share becomes 0, under the new stamp, in the
same changeset (`RowGroup.instead_of`). Shares of 0 are kept where their site is closed: an older state that somebody
sends does not bring the share back."""

import sqlite3
from collections.abc import Collection, Iterator
from typing import Any, cast

from replication.engine import generation, state
from replication.engine.changesets import ChangeKind, EncodedTables, RowGroup, TableChange, header
from replication.engine.entries import Cell, Entry, decode_entry, encode_entry, later_dots
from replication.engine.folding import Folded, fold_inside, publish
from replication.engine.identity import Remembered, check_remembered
from replication.engine.session import Session, open_session
from replication.engine.sites import Head
from replication.engine.stamps import Dot, Site, Stamp, first_after, next_stamp
from replication.engine.table import Table
from replication.engine.transacting import merging_transaction, transaction
from replication.engine.values import Key, Value, cell_hash, fetch, key_seed


def set_aside(connection: sqlite3.Connection, *, expected: Remembered | None = None) -> None:
    """Closes the own site, to be cut. Commits. Raises NotAttached, StateReplaced, and sqlite3.OperationalError (the
    lock, the disk), with nothing changed."""
    with transaction(connection):
        check_remembered(connection, expected)
        session = open_session(connection)
        session.sites.set_aside(session.site)
        generation.advance(connection)  # what was written under it comes again, under another site


def stamp_again(
    connection: sqlite3.Connection,
    tips: Collection[Head],
    *,
    new_site: Site,
    now_ms: int,
    expected: Remembered | None = None,
) -> Folded:
    """Cuts the own site, which was set aside, at what all members together have merged of it, `tips`, and stamps what
    is beyond them again under `new_site`: the changeset. Commits.

    Tips that are not of this database's history of the site are left out: whoever has them has to be asked for his
    state. Raises ValueError if the site was not set aside, and otherwise as `set_aside` does."""
    with merging_transaction(connection):
        check_remembered(connection, expected)
        session = open_session(connection)
        old = session.site
        if not session.sites.is_closed(old):
            raise ValueError("the site was not set aside")
        fold_inside(session, now_ms=now_ms)  # what the log holds, so that rows are as their entries say
        beyond = max((tip.stamp for tip in tips), default=first_after(old))
        own = [tip for tip in tips if _is_own(connection, session.sites.short(old), tip)]
        session.sites.cut(old, own)
        connection.execute(
            "DELETE FROM main._litecast_journal WHERE site = ? AND upto > ?", (session.sites.short(old), beyond)
        )
        state.write_site(connection, new_site)
        session = open_session(connection)
        found = [_Again(session, table, old, beyond) for table in session.tables.values()]
        newest = max([session.sites.newest(), _newest_held(connection), *(one.newest for one in found)])
        session.clock = Stamp(newest)
        stamp = next_stamp(now_ms=now_ms, clock=session.clock)
        changes = EncodedTables(change for one in found if (change := one.write(stamp)) is not None)
        return publish(session, stamp, changes)


def _is_own(connection: sqlite3.Connection, short: int, tip: Head) -> bool:
    """Whether this database's own history of the site has this head: its changeset, or the next one, says so."""
    found = connection.execute(
        "SELECT 1 FROM main._litecast_journal WHERE site = ? AND upto = ? AND hash = ?", (short, tip.stamp, tip.digest)
    ).fetchone()
    if found is not None:
        return True
    following = connection.execute(
        "SELECT bytes FROM main._litecast_journal WHERE site = ? AND after = ?", (short, tip.stamp)
    ).fetchone()
    return following is not None and header(following[0]).previous == tip.digest


def _newest_held(connection: sqlite3.Connection) -> int:
    (newest,) = connection.execute("SELECT coalesce(max(upto), 0) FROM main._litecast_held_tables").fetchone()
    return int(newest)


type _EntryRow = tuple[int, int, int, bytes]
"""Life, stamp, site, blob."""


class _Again:
    """What of one table is to be stamped again. `newest`: the newest stamp of the rest."""

    def __init__(self, session: Session, table: Table, old: Site, beyond: Stamp) -> None:
        self.newest = 0
        self._session = session
        self._table = table
        self._old = old
        self._short = session.sites.short(old)
        self._beyond = beyond
        self._size = len(table.spec.key)
        self._rows: dict[Key, _EntryRow] = {}
        """Entries in which something is."""
        self._counts: dict[Key, set[int]] = {}
        """Short numbers of the sites whose shares go over to the new one."""
        self._read_entries()
        self._read_counts()

    def _is_ahead(self, stamp: int, short: int) -> bool:
        return short == self._short and stamp > self._beyond

    def _read_entries(self) -> None:
        table, size = self._table, self._size
        for row in fetch(
            table.connection, f"SELECT {table.keys}, life, stamp, site, cells FROM main.{table.spec.clock}"
        ):
            life, stamp, short, blob = row[size:]
            dots = [(stamp, short), *(later_dots(blob) if blob else ())]
            ahead = [self._is_ahead(*dot) for dot in dots]
            self.newest = max(
                self.newest, *(dot[0] for dot, is_ahead in zip(dots, ahead, strict=True) if not is_ahead), 0
            )
            if any(ahead):
                self._rows[row[:size]] = (life, stamp, short, blob)

    def _read_counts(self) -> None:
        """Shares of the old site; and shares of 0 that a change which is stamped again had given to a closed one."""
        table, size, sites = self._table, self._size, self._session.sites
        for row in fetch(
            table.connection,
            f"SELECT {table.keys}, life, site, value, stamp FROM main.{table.spec.count} WHERE stamp > 0",
        ):
            life, short, value, stamp = row[size:]
            was_ended = value == 0 and stamp > self._beyond and sites.is_closed(sites.site(short))
            entry = table.entry_row(row[:size]) if self._is_ahead(stamp, short) or was_ended else None
            if entry is None or entry[0] != life:
                self.newest = max(self.newest, stamp)
                continue
            self._counts.setdefault(row[:size], set()).add(short)
            self._rows.setdefault(row[:size], cast("_EntryRow", entry))

    def write(self, stamp: Stamp) -> TableChange | None:
        """Stamps it again, here, and gives what is to be sent; None if nothing is."""
        table = self._table
        groups: dict[tuple[Any, ...], list[tuple[Value, ...]]] = {}
        for key in sorted(self._rows, key=repr):
            for shape, row in self._write_row(key, stamp):
                groups.setdefault(shape, []).append(row)
        if not groups:
            return None
        return TableChange(
            table=table.spec.name,
            key=table.spec.key,
            groups=tuple(
                RowGroup(kind=kind, cells=cells, counters=counters, rows=rows, instead_of=instead_of)
                for (kind, cells, counters, instead_of), rows in groups.items()
            ),
        )

    def _write_row(self, key: Key, stamp: Stamp) -> Iterator[tuple[tuple[Any, ...], tuple[Value, ...]]]:
        table, sites = self._table, self._session.sites
        life, born_stamp, born_short, blob = self._rows[key]
        dot = Dot(stamp, self._session.site)
        is_born = self._is_ahead(born_stamp, born_short)
        born = dot if is_born else Dot(Stamp(born_stamp), sites.site(born_short))
        row = table.row(key) if life & 1 else None
        if life & 1 and row is None:
            return  # it is held, or damaged: there is nothing of this site's to be seen
        if row is None:
            self._put(key, Entry(life=life, born=born))
            yield (ChangeKind.DELETE, (), (), ()), (*key, life)
            return
        entry = decode_entry(
            life, Dot(Stamp(born_stamp), sites.site(born_short)), blob, names=table.columns.names, site_of=sites.site
        )
        again = [
            name
            for name in table.spec.cells
            if name in entry.cells
            and entry.cells[name].dot.site == self._old
            and entry.cells[name].dot.stamp > self._beyond
        ]
        seed = key_seed(key)
        written = {name: Cell(dot, cell_hash(row[name], seed)) for name in again}
        self._put(key, Entry(life=life, born=born, cells={**entry.cells, **written}))
        counts = self._write_counts(key, life, stamp, all_of_them=is_born)
        kind = ChangeKind.INSERT if is_born else ChangeKind.UPDATE
        instead_of = tuple(sorted(sites.site(short) for short in self._counts.get(key, ())))
        values = (*(row[name] for name in again), *counts.values())
        yield (kind, tuple(again), tuple(counts), instead_of), (*key, life, *values)

    def _write_counts(self, key: Key, life: int, stamp: Stamp, *, all_of_them: bool) -> dict[str, int]:
        """The new site's shares, by counter: in each that is carried, all that those had whose shares go over."""
        table, new, over = self._table, self._session.sites.short(self._session.site), self._counts.get(key, set())
        shares: dict[int, dict[int, tuple[int, int]]] = {}
        for number, short, value, stamped in table.counts(key, life):
            if short in over:
                shares.setdefault(cast("int", number), {})[cast("int", short)] = cast(
                    "tuple[int, int]", (value, stamped)
                )
        found: dict[str, int] = {}
        for name, number in zip(table.spec.counters, table.counter_ids, strict=True):
            going = shares.get(number, {})
            if not all_of_them and not any(stamped > self._beyond for _, stamped in going.values()):
                continue
            found[name] = sum(value for value, _ in going.values())
            if found[name]:
                table.put_count.run(table.connection, (*key, number, life, new, found[name], stamp))
            for short in over:
                table.put_count.run(table.connection, (*key, number, life, short, 0, stamp))
        return found

    def _put(self, key: Key, entry: Entry) -> None:
        table, short_of = self._table, self._session.sites.short
        blob = encode_entry(entry, shapes=table.shapes, number_of=table.columns.number, short_of=short_of)
        table.put_entry.run(table.connection, (*key, entry.life, entry.born.stamp, short_of(entry.born.site), blob))
