"""Changes of rows that were not known here when the changes came, and may be by now: see `held`."""

from replication.engine import held
from replication.engine.absorbing import absorb
from replication.engine.changesets import TableChange, decode_table
from replication.engine.session import Session
from replication.engine.table import Table


def absorb_lacking(session: Session, table: Table) -> None:
    """Merges what is lacking of a table, as far as its rows are known now. In a merging transaction."""
    for one in list(held.changes(session.connection, table.spec.name, lacking=True)):
        change = decode_table(one.body)
        if change.key == table.spec.key and _is_any_known(table, change):
            held.release(session.connection, one.seq)
            absorb(session, table, change, one.dot, keep_unknown=True)


def _is_any_known(table: Table, change: TableChange) -> bool:
    entries = ((row.life, table.entry_row(row.key)) for row in change.rows)
    return any(isinstance(life := entry[0], int) and life >= wanted for wanted, entry in entries if entry is not None)
