"""Setting a tail aside: what was written in an epoch after the next one had begun without it.

It is kept as a unit, changeset by changeset, in a table of its own, and is merged nowhere. What it had written is taken
out of the tables, row by row, with all that is known of these rows. What the cluster has in their place comes with a
peer's state: this database says that it has merged nothing any more, though most of its rows are as they should be, and
takes a snapshot with authority as a node does that was away for too long. Until that is done it is *resetting*: nothing
else is merged, since changes of rows that are not here now would be taken for changes of deleted ones."""

import sqlite3
from collections.abc import Mapping
from typing import Final

from replication.engine import generation, held, state
from replication.engine.catalogue import ONE_WRITER
from replication.engine.decoding import decode
from replication.engine.epochs import epoch_of
from replication.engine.folding import fold_inside
from replication.engine.identity import Remembered, check_remembered
from replication.engine.session import Session, open_session
from replication.engine.showing import RowWrites, write_rows
from replication.engine.sites import TABLE as SITES
from replication.engine.stamps import Site, Stamp
from replication.engine.statements import HOLE, Statement
from replication.engine.table import Table
from replication.engine.transacting import merging_transaction
from replication.engine.values import Key

TABLE: Final = "_litecast_tails"
CREATE: Final = (
    f"CREATE TABLE {TABLE} (site TEXT NOT NULL, upto INTEGER NOT NULL, epoch INTEGER NOT NULL, body BLOB NOT NULL,"
    " PRIMARY KEY (site, upto))"
)


def count(connection: sqlite3.Connection) -> int:
    """How many changesets are kept as tails."""
    (found,) = connection.execute(f"SELECT count(*) FROM main.{TABLE}").fetchone()
    return int(found)


def forget_all(connection: sqlite3.Connection) -> None:
    """Forgets those that are kept."""
    connection.execute(f"DELETE FROM main.{TABLE}")


def is_resetting(connection: sqlite3.Connection) -> bool:
    """Whether a tail was set aside, and the cluster's rows in its place have not all come yet."""
    (found,) = connection.execute(f"SELECT resetting FROM main.{ONE_WRITER}").fetchone()
    return bool(found)


def has_been_reset(connection: sqlite3.Connection) -> None:
    """A peer's state is merged. Inside a transaction."""
    connection.execute(f"UPDATE main.{ONE_WRITER} SET resetting = 0")


def set_aside(
    connection: sqlite3.Connection,
    tail: Mapping[Site, Stamp],
    *,
    new_site: Site,
    now_ms: int,
    expected: Remembered | None = None,
) -> int:
    """Sets it aside: `tail` has, by site, the stamp after which it begins. This database goes on under a new site.

    Gives how many rows were taken out. Commits. Raises as a merge does, with nothing changed."""
    with merging_transaction(connection):
        check_remembered(connection, expected)
        session = open_session(connection)
        fold_inside(session, now_ms=now_ms)
        keys: dict[str, set[Key]] = {}
        for site, after in tail.items():
            for encoded in _taken_from_journal(session, site, after):
                for change in decode(encoded).tables:
                    table = session.tables.get(change.table)
                    if table is not None and table.spec.key == change.key:
                        size = len(change.key)
                        keys.setdefault(change.table, set()).update(
                            row[:size] for group in change.groups for row in group.rows
                        )
        for name, found in keys.items():
            _take_out(session.tables[name], sorted(found, key=repr))
        connection.execute(
            f"UPDATE main.{SITES} SET head = NULL, hash = NULL, run = NULL, runs = NULL, noted = NULL, seen = NULL"
            " WHERE tips IS NULL AND head IS NOT NULL"
        )
        state.write_site(connection, new_site)
        connection.execute(f"UPDATE main.{ONE_WRITER} SET resetting = 1")
        generation.advance(connection)
        return sum(map(len, keys.values()))


def _taken_from_journal(session: Session, site: Site, after: Stamp) -> list[bytes]:
    """A site's changesets after that stamp, which are in the journal no longer, and are kept."""
    connection, short = session.connection, session.sites.short(site)
    where = "WHERE site = ? AND upto > ?"
    rows = connection.execute(
        f"SELECT upto, bytes FROM main._litecast_journal {where} ORDER BY upto", (short, after)
    ).fetchall()
    connection.executemany(
        f"INSERT OR REPLACE INTO main.{TABLE} (site, upto, epoch, body) VALUES (?, ?, ?, ?)",
        [(site, upto, epoch_of(site), encoded) for upto, encoded in rows],
    )
    connection.execute(f"DELETE FROM main._litecast_journal {where}", (short, after))
    return [encoded for _, encoded in rows]


def _take_out(table: Table, keys: list[Key]) -> None:
    """Rows go, and all that is known of them."""
    spec = table.spec
    write_rows(table, RowWrites(deletes=keys))
    table.end_counts.run_many(table.connection, keys)
    where = " AND ".join(f"{name} = {HOLE}" for name in spec.key_names)
    Statement(f"DELETE FROM main.{spec.clock} WHERE {where}").run_many(table.connection, keys)
    for key in keys:
        held.drop(table.connection, spec.tid, key)
