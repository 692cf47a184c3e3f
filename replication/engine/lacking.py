"""Changes of rows that are not known here, and may come yet: see `held`.

As a rule, a row that is not known where everything is merged that its change depends on was deleted, and its tombstone
trimmed. The rule does not hold for what depends on a forked site: a head that covers the dep may be of another history.
A closed site is one that is known to be forked. One that is not known to be betrays itself where the dep names a head
that its history here does not have."""

from collections.abc import Mapping

from replication.engine import held, journal
from replication.engine.absorbing import absorb
from replication.engine.changesets import TableChange
from replication.engine.decoding import decode_table
from replication.engine.session import Session
from replication.engine.stamps import Site, Stamp
from replication.engine.table import Table


def is_doubtful(session: Session, deps: Mapping[Site, Stamp]) -> bool:
    """True if these deps may be of other histories than those merged here."""
    return session.sites.any_closed or any(_is_elsewhere(session, site, stamp) for site, stamp in deps.items())


def _is_elsewhere(session: Session, site: Site, stamp: Stamp) -> bool:
    head = session.sites.head(site)
    if head is None or head.stamp <= stamp:
        return False
    there = journal.spanning(session.connection, session.sites.short(site), stamp)
    return there is not None and there.upto != stamp


def absorb_lacking(session: Session, table: Table) -> None:
    """Merges what is lacking of a table, as far as its rows are known now. In a merging transaction."""
    for one in list(held.changes(session.connection, table.spec.name, lacking=True)):
        change = decode_table(one.body)
        if change.key == table.spec.key and _is_any_known(table, change):
            held.release(session.connection, one.seq)
            absorb(session, table, change, one.dot, keep_unknown=lambda: True)


def _is_any_known(table: Table, change: TableChange) -> bool:
    entries = ((row.life, table.entry_row(row.key)) for row in change.rows)
    return any(isinstance(life := entry[0], int) and life >= wanted for wanted, entry in entries if entry is not None)
