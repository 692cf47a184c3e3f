"""Looking at the schema again after it changed: by a migration, a rebuild of a table, a `DROP`, a `VACUUM`.

What is done, in the transaction of the fold or merge that noticed: capture's triggers are put back where they are
gone; columns whose renaming is declared keep what is known of them; held values that have a place now are shown; and
it is said which tables have to be compared row by row: those that were without triggers for a while, and, where they
show something in it, those with a column that was not there before.

A table that is gone is left alone: its entries stay, changes of it are held, and its log, which nobody will read, is
emptied. If it comes back, it is compared.
"""

from dataclasses import replace

from replication.engine import filling, held, state
from replication.engine.absorbing import absorb
from replication.engine.columns import Looked
from replication.engine.decoding import decode_table
from replication.engine.known_tables import AttachedTables
from replication.engine.mending import mend
from replication.engine.session import Session
from replication.engine.showing import show_held
from replication.engine.table import Table
from replication.engine.uniting import unite


def look(session: Session) -> dict[str, Looked]:
    """Does the above if the schema is new. Gives the tables to compare, with what is new in them."""
    _empty_logs_of_the_gone(session)
    if not session.is_schema_new:
        return {}
    uncaptured = mend(session.connection).uncaptured
    looked: dict[str, Looked] = {}
    fresh: dict[str, frozenset[str]] = {}
    for name, table in session.tables.items():
        found = table.columns.look(table.spec)
        fresh[name] = found.cells
        filling.learn(table, found.cells)
        for renamed in found.renamed:
            unite(table, renamed)
        if name in uncaptured or found.cells or found.counters:
            looked[name] = replace(found, uncaptured=name in uncaptured)
    session.attached = AttachedTables(session.connection)
    for table in session.tables.values():
        _absorb_waiting(session, table)
        if held.is_any(session.connection, table.spec.tid):
            show_held(table, fresh.get(table.spec.name, ()))
    session.schema = session.schema_now = state.schema_version(session.connection)
    state.write_schema(session.connection, session.schema)
    return looked


def _absorb_waiting(session: Session, table: Table) -> None:
    """Merges what was held of the table while it was not attached, or had another key."""
    for held_body in list(held.changes(session.connection, table.spec.name)):
        change = decode_table(held_body.body)
        if change.key == table.spec.key:
            held.release(session.connection, held_body.seq)
            keep = held_body.lacking or session.sites.any_closed
            absorb(session, table, change, held_body.dot, keep_unknown=lambda keep=keep: keep)  # type: ignore[misc]


def _empty_logs_of_the_gone(session: Session) -> None:
    present = {table.spec.tid for table in session.tables.values()}
    for (tid,) in session.connection.execute("SELECT tid FROM main._litecast_catalogue").fetchall():
        if tid not in present:
            session.connection.execute(f"DELETE FROM main._litecast_log_{tid}")
