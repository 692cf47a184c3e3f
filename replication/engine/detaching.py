"""Detach: the inverse of attach.

What was in the schema before attach is there afterwards in the same order and with the same text, and nothing else. The
journal mode is what it was, too, unless another process has the database open just then, which keeps SQLite from
changing it. What belongs to a node that only opens a database is left: its format number if it was there before, and
the list of migrations that ran.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from replication.engine import capture, catalogue, fence, forwarded, state
from replication.engine.catalogue import OURS
from replication.engine.journal_mode import journal_mode, set_journal_mode
from replication.engine.mending import gate
from replication.engine.planning import as_merge_sees_it, of_format, of_remaining, refuse
from replication.engine.transacting import transaction
from replication.errors import ReplicationError
from replication.tables import quoted

NOTE = "_litecast_attach"
"""One row: what attach found, beside the journal mode."""
STATE = "_litecast_state"
_MIGRATIONS = "_litecast_migrations"  # the Repo's: what it ran is in the schema, attached or not


class NotAttached(ReplicationError):
    """A table that was to be detached is not attached."""

    def __init__(self, table: str, attached: Sequence[str]) -> None:
        self.table = table
        known = f"attached are {', '.join(attached)}" if attached else "nothing of this database is"
        super().__init__(f"table {table} is not attached; {known}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachReport:
    """What detach did."""

    tables: tuple[str, ...]
    """Names of the tables that were detached."""
    journal_mode: str
    """The journal mode now."""
    journal_mode_wanted: str
    """The one it should be: another only if somebody has the database open, so that SQLite could not change it."""


def detach(connection: sqlite3.Connection, tables: Sequence[str] | None = None) -> DetachReport:
    """Detaches these tables, or, with None, everything. After the last one nothing of attach's is left.

    What was written since the last fold is in the tables as ever, but no peer will hear of it. Raises, with nothing
    changed, NotAttached; AttachRefused if the tables that remain cannot do so without these, or a newer Litecast has
    attached them; sqlite3.OperationalError if the write lock cannot be had.
    """
    if connection.in_transaction:
        raise RuntimeError("a transaction is open on the connection: detach makes its own")
    if not catalogue.is_there(connection):
        if tables:
            raise NotAttached(tables[0], ())
        mode = journal_mode(connection)
        return DetachReport(tables=(), journal_mode=mode, journal_mode_wanted=mode)
    wanted = journal_mode(connection)
    with as_merge_sees_it(connection), transaction(connection):
        refuse(of_format(connection))
        leaving = _leaving(connection, tables)
        for tid in leaving:
            detach_table(connection, tid)
        left = catalogue.names(connection)
        if set(left.values()) <= {forwarded.TABLE}:  # nobody attached it, and nobody detaches it
            for tid in left:
                detach_table(connection, tid)
        if not catalogue.names(connection):
            found = state.read(connection)
            wanted = wanted if found is None else found.journal_mode_found
            _remove_all(connection)
        else:
            refuse(of_remaining(connection))
            gate(connection)
    return DetachReport(
        tables=tuple(name for name in leaving.values() if name != forwarded.TABLE),
        journal_mode=set_journal_mode(connection, wanted),
        journal_mode_wanted=wanted,
    )


def _leaving(connection: sqlite3.Connection, tables: Sequence[str] | None) -> dict[int, str]:
    """Number and name of the tables that are to be detached."""
    attached = catalogue.names(connection)
    if tables is None:
        return attached
    leaving: dict[int, str] = {}
    for table in tables:
        tids = [tid for tid, name in attached.items() if name.lower() == table.lower()]
        if not tids:
            raise NotAttached(table, tuple(attached.values()))
        leaving[tids[0]] = attached[tids[0]]
    return leaving


def detach_table(connection: sqlite3.Connection, tid: int) -> None:
    """Leaves nothing of one table but its changesets in the journal. Inside a transaction."""
    for statement in (*fence.drop_statements(tid), *capture.drop_statements(tid)):
        connection.execute(statement)
    catalogue.remove(connection, tid)
    for table in our_tables(connection):
        columns = connection.execute("SELECT name FROM pragma_table_info(?, 'main')", (table,)).fetchall()
        if ("tid",) in columns:
            connection.execute(f"DELETE FROM main.{quoted(table)} WHERE tid = ?", (tid,))


def _remove_all(connection: sqlite3.Connection) -> None:
    (format_found,) = connection.execute(f"SELECT format_found FROM main.{NOTE}").fetchone()
    for table in reversed(our_tables(connection)):
        if table == STATE and format_found is not None:
            _make_plain(connection, format_found)
        elif table != _MIGRATIONS:
            connection.execute(f"DROP TABLE main.{quoted(table)}")


def _make_plain(connection: sqlite3.Connection, format_found: int) -> None:
    """The state table as a node makes it that only opens the database.

    Dropped and made again it would stand elsewhere in a dump.
    """
    columns = connection.execute("SELECT name FROM pragma_table_info(?, 'main')", (STATE,)).fetchall()
    for (column,) in columns:
        if column not in ("id", "format"):
            connection.execute(f"ALTER TABLE main.{STATE} DROP COLUMN {quoted(column)}")
    connection.execute(f"UPDATE main.{STATE} SET format = ?", (format_found,))


def our_tables(connection: sqlite3.Connection) -> list[str]:
    """All tables of Litecast's."""
    rows = connection.execute(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND substr(name, 1, ?) = ? ORDER BY rowid",
        (len(OURS) + 1, f"{OURS}_"),
    )
    return [name for (name,) in rows]
