"""The baseline: rows that are there when a table is attached become one changeset, without a sender.

Its stamp is 0, so that everything written later wins; its life is 1; its site is named by the hash of what is in it.
Two nodes that attach the same rows so have the same site at the same head, and nothing to send each other. Different
rows are different sites, and an ordinary changeset that the other one misses. Counters stand under GENESIS on every
node, where the larger value wins: 30 on three nodes stays 30."""

import hashlib
import sqlite3
from collections.abc import Sequence

from replication.engine import journal
from replication.engine.catalogue import TableSpec
from replication.engine.changesets import (
    ChangeKind,
    Changeset,
    RowGroup,
    TableChange,
    digest,
    encodable,
    encode,
)
from replication.engine.entries import Shapes
from replication.engine.logs import last_logged
from replication.engine.session import Session, open_session
from replication.engine.sites import Head
from replication.engine.stamps import BASELINE_STAMP, GENESIS, Site, first_after
from replication.engine.table import Table
from replication.engine.values import fetch, pack, row_hashes
from replication.tables import quoted

_ROWS_AT_A_TIME = 10_000


def take(connection: sqlite3.Connection, specs: Sequence[TableSpec]) -> Changeset | None:
    """Makes the baseline of tables that have just been attached; None if they are empty. In the caller's transaction.

    Their log, clock and count tables are there and empty; their counters hold nothing but integers within COUNT_MAX.
    """
    session = open_session(connection)
    taken = [_Taken(session, session.tables[spec.name]) for spec in specs]
    tables = tuple(
        TableChange(table=one.spec.name, key=one.spec.key, groups=(one.group,))
        for one in sorted(taken, key=lambda one: one.spec.name)
        if one.group.rows
    )
    logged = last_logged(connection, [spec.tid for spec in specs])
    for one in taken:
        one.table.columns.look(one.spec)
        if last := logged[one.spec.tid]:
            one.table.clear_log(last)
    if not tables:
        return None
    site = Site("g" + hashlib.blake2b(pack(encodable(tables)), digest_size=16).hexdigest()[1:])
    changeset = Changeset(
        cluster=session.cluster,
        site=site,
        after=first_after(site),
        upto=BASELINE_STAMP,
        previous=b"",
        deps={},
        tables=tables,
    )
    for one in taken:
        one.write_entries(session.sites.short(site), session.sites.short(GENESIS))
    if session.sites.head(site) is None:
        encoded = encode(changeset)
        found = digest(encoded)
        short = session.sites.short(site)
        journaled = journal.Journaled(site=short, after=changeset.after, upto=BASELINE_STAMP, digest=found)
        journal.append(connection, journaled, encoded)
        session.sites.move(site, Head(stamp=BASELINE_STAMP, digest=found))
    return changeset


class _Taken:
    """The rows of one table."""

    def __init__(self, session: Session, table: Table) -> None:
        self.table = table
        self.spec = table.spec
        # By name: another node's table may have its columns in another order.
        self.cells = tuple(sorted(self.spec.cells))
        self.counters = tuple(sorted(self.spec.counters))
        names = (*self.spec.key, *self.cells, *self.counters)
        size = len(self.spec.key)
        rows = fetch(
            session.connection,
            f"SELECT {', '.join(map(quoted, names))} FROM {table.name}"
            f" ORDER BY {', '.join(str(number + 1) for number in range(size))}",
        )
        lines = [(*row[:size], 1, *row[size:]) for row in rows]
        self.group = RowGroup(kind=ChangeKind.INSERT, cells=self.cells, counters=self.counters, rows=lines)

    def write_entries(self, site: int, genesis: int) -> None:
        """Entries and contributions of the rows, as if the changeset had been merged."""
        table = self.table
        shape = Shapes().of(tuple(table.columns.number(name) for name in self.cells))
        numbers = [table.columns.number(name) for name in self.counters]
        key, life = slice(len(self.spec.key)), len(self.spec.key)
        cells = slice(life + 1, life + 1 + len(self.cells))
        for start in range(0, len(self.group.rows), _ROWS_AT_A_TIME):
            rows = self.group.rows[start : start + _ROWS_AT_A_TIME]
            hashes = row_hashes([row[key] for row in rows], rows, cells)
            table.put_entry.run_many(
                table.connection,
                [
                    (*row[key], 1, BASELINE_STAMP, site, shape.blob(found))
                    for row, found in zip(rows, hashes, strict=True)
                ],
            )
            for at, number in enumerate(numbers, start=cells.stop):
                table.put_count.run_many(
                    table.connection, [(*row[key], number, 1, genesis, row[at], BASELINE_STAMP) for row in rows]
                )
