"""Writing a tail again: a function that every node registers, and that the primary runs in one transaction.

Everything is looked at before anything is written. A row that somebody has written in a newer epoch than the tail's, or
writes just now, is not overwritten: then nothing of the tail is applied. Nor is it where rows would be left without
their parent; where a UNIQUE value is passed on from row to row they are written in the order in which that works, and
where two rows exchanged theirs there is none. What only adds to counters is added whoever
wrote the row. So such a tail, of all, does not show in its rows that it was applied: that it was is noted for good, in
the transaction that writes it, where the keys of forwarded writes stand for some minutes."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, cast

from replication.engine import forwarded
from replication.engine.entries import later_dots
from replication.engine.epochs import epoch_of
from replication.engine.session import Session, open_session
from replication.engine.stamps import Site
from replication.engine.statements import HOLE, Statement
from replication.engine.table import Table
from replication.engine.values import INT64_MAX, Key
from replication.engine.violations import ForeignKeys, Violation
from replication.errors import TailConflict
from replication.tables import quoted
from replication.tails.unit import Change, Op
from replication.transaction import Transaction

APPLY: Final = "litecast: apply a tail"
"""Under which name it is registered."""
_SHOWN_MAX: Final = 5
_ORDER: Final = (Op.DELETE, Op.UPDATE, Op.INSERT)

_FIND: Final = f"SELECT 1 FROM {forwarded.TABLE} WHERE key = ?"
_NOTE: Final = f"INSERT INTO {forwarded.TABLE} (key, at, outcome) VALUES (?, {INT64_MAX}, x'c0')"
"""At the end of time: the keys of forwarded writes go when they are old, and a node may keep its tail for longer."""


def apply(transaction: Transaction, site: str, upto: int, changes: Sequence[Any]) -> bool:
    """Writes it, once: False if that was done before. Raises TailConflict, with nothing written."""
    note = f"tail {site} {upto}"
    if transaction.all(_FIND, (note,)):
        return False
    wanted = [Change.parse(change) for change in changes]
    connection = transaction.connection()
    session = open_session(connection)
    against = [said for change in wanted if (said := _against(session, Site(site), change))]
    if against:
        raise TailConflict(against[:_SHOWN_MAX], len(against), len(wanted))
    connection.execute("PRAGMA defer_foreign_keys = ON")
    keys: dict[str, list[Key]] = {}
    for change in wanted:
        keys.setdefault(change.table, []).append(change.key)
    foreign = ForeignKeys(connection, session.tables)
    before = foreign.orphans(keys)
    for op in _ORDER:
        _write_all(session, Site(site), [change for change in wanted if change.op is op], size=len(wanted))
    orphans = [_without_parent(found) for found in foreign.orphans(keys) if found not in before]
    if orphans:
        raise TailConflict(orphans[:_SHOWN_MAX], len(orphans), len(wanted))
    transaction.execute(_NOTE, (note,))
    return True


def _write_all(session: Session, site: Site, changes: Sequence[Change], *, size: int) -> None:
    """Those whose UNIQUE value another one gives up first come after that one. Raises TailConflict."""
    while changes:
        failed: list[tuple[Change, sqlite3.IntegrityError]] = []
        for change in changes:
            try:
                _write(session, site, change)
            except sqlite3.IntegrityError as error:
                failed.append((change, error))
                if not session.connection.in_transaction:  # the table declares ON CONFLICT ROLLBACK
                    break
        if len(failed) == len(changes) or not session.connection.in_transaction:
            said = [f"{_row(change)}: {error}" for change, error in failed]
            raise TailConflict(said[:_SHOWN_MAX], len(said), size) from failed[0][1]
        changes = [change for change, _ in failed]


def _without_parent(found: Violation) -> str:
    key = ", ".join(map(repr, found.key))
    return f"row {key} of {found.table} would have no parent by its {found.rule}"


def _against(session: Session, site: Site, change: Change) -> str:
    """Why a change cannot be applied; "" if nothing is against it."""
    table = session.tables.get(change.table)
    if table is None or table.spec.key != change.key_columns:
        return f"table {change.table} is not attached there, or has another key"
    row = _row(change)
    missing = sorted({*change.cells, *change.counts} - table.shown)
    if missing:
        return f"{row}: there is no column {', '.join(missing)} any more"
    is_there = table.row(change.key) is not None
    if change.op is Op.DELETE and not is_there:
        return ""  # as it is to be; or it came and went between two folds, which says no more than that it is gone
    if change.op is Op.UPDATE and not is_there:
        return f"{row} is not there any more"
    if change.op is Op.INSERT and is_there:
        return f"{row} is there already"
    only_counts = change.op is Op.UPDATE and not change.cells
    if not only_counts and _is_newer(session, table, change, epoch_of(site)):
        return f"{row} was written since"
    return ""


def _row(change: Change) -> str:
    return f"row {', '.join(map(repr, change.key))} of {change.table}"


def _is_newer(session: Session, table: Table, change: Change, epoch: int) -> bool:
    logged = f"SELECT 1 FROM main.{table.spec.log} WHERE " + " AND ".join(
        f"{name} = {HOLE}" for name in table.spec.key_names
    )
    if Statement(logged).fetch(session.connection, change.key):
        return True  # written this very moment
    entry = table.entry_row(change.key)
    if entry is None:
        return False
    _, _, born, blob = cast("tuple[int, int, int, bytes]", entry)
    shorts = [born, *(short for _, short in table.count_dots(change.key))]
    if blob:
        shorts += [short for _, short in later_dots(blob)]
    return any(epoch_of(session.sites.site(short)) > epoch for short in shorts)


def _write(session: Session, site: Site, change: Change) -> None:
    table, connection = session.tables[change.table], session.connection
    where = " AND ".join(f"{quoted(name)} = {HOLE}" for name in change.key_columns)
    if change.op is Op.DELETE:
        Statement(f"DELETE FROM {table.name} WHERE {where}").run(connection, change.key)
        return
    added = _added(session, site, change)
    if change.op is Op.INSERT:
        columns = (*change.key_columns, *change.cells, *added)
        names = ", ".join(map(quoted, columns))
        holes = ", ".join([HOLE] * len(columns))
        values = (*change.key, *change.cells.values(), *added.values())
        Statement(f"INSERT INTO {table.name} ({names}) VALUES ({holes})").run(connection, values)
        return
    settings = [f"{quoted(name)} = {HOLE}" for name in change.cells]
    settings += [f"{quoted(name)} = {quoted(name)} + {HOLE}" for name in added]
    if settings:
        update = Statement(f"UPDATE {table.name} SET {', '.join(settings)} WHERE {where}")
        update.run(connection, (*change.cells.values(), *added.values(), *change.key))


def _added(session: Session, site: Site, change: Change) -> dict[str, int]:
    """What the tail itself added to each counter: all that its site added, but for what is known here of that."""
    table = session.tables[change.table]
    counts = cast("list[tuple[int, int, int, int]]", table.counts(change.key, change.life))
    known = {counter: value for counter, short, value, _ in counts if session.sites.site(short) == site}
    return {name: count - known.get(table.columns.number(name), 0) for name, count in change.counts.items()}
