"""Writing merged values into the application's rows, and holding what a table refuses.

Rows are written in bulk. If the table refuses one, the savepoint is rolled back and each row is written alone, so
that one row never stops a merge: a row that breaks only a CHECK is written all the same and named; a row or cell that
this schema cannot store (NOT NULL, STRICT, UNIQUE, a trigger that raises) is held, until a schema change allows it. So
is a value of which the column makes another (see `converting`)."""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from replication.engine import held
from replication.engine.contributions import saturated
from replication.engine.converting import converted
from replication.engine.held import HeldCell
from replication.engine.session import NeedsCare
from replication.engine.table import Table
from replication.engine.transacting import set_enforced, writing_rows
from replication.engine.values import Key, Value, cell_hash, key_seed, same

type _Write = Callable[[], object]

NO_COLUMN = "no such column here"
CONVERTED = "the column shows it as another type"
CONVERTED_KEY = "its key would become another one here"


@dataclass(slots=True)
class RowWrites:
    """What a merge has for a table: rows that go, rows that come, cells that change. No key comes and changes.

    An insert is its key, then its values; an update its values, then its key.
    """

    deletes: list[Key] = field(default_factory=list[Key])
    inserts: dict[tuple[str, ...], list[tuple[Value, ...]]] = field(
        default_factory=dict[tuple[str, ...], list[tuple[Value, ...]]]
    )
    updates: dict[tuple[str, ...], list[tuple[Value, ...]]] = field(
        default_factory=dict[tuple[str, ...], list[tuple[Value, ...]]]
    )

    def keys(self, size: int) -> list[Key]:
        """All keys, which have so many columns."""
        found = [*self.deletes]
        for rows in self.inserts.values():
            found += [row[:size] for row in rows]
        for rows in self.updates.values():
            found += [row[-size:] for row in rows]
        return found

    def insert(self, key: Key, values: Mapping[str, Value]) -> None:
        """A row comes."""
        self.inserts.setdefault(tuple(values), []).append((*key, *values.values()))

    def update(self, key: Key, values: Mapping[str, Value]) -> None:
        """Cells change."""
        self.updates.setdefault(tuple(values), []).append((*values.values(), *key))


@dataclass(slots=True)
class Refusals:
    """What a table did not take: keys of rows that break a CHECK and are there; how many cells and rows are held."""

    broken: list[Key] = field(default_factory=list[Key])
    held: int = 0


def write_rows(table: Table, writes: RowWrites, *, in_haste: bool = False) -> Refusals:
    """Writes them. In a merging transaction. Raises sqlite3.Error only for what is not the rows' fault.

    In haste there is no savepoint, and NeedsCare is raised where a row is refused.
    """
    refusals = Refusals()
    connection = table.connection
    other_keys = _take_out_converted_keys(table, writes)
    changed = _converted_cells(table, writes)
    if in_haste and (other_keys or changed):
        raise NeedsCare
    if table.spec.uniques:
        writes = _anew(table, writes)
    with writing_rows(connection, table):
        if in_haste:
            with _checks(table):
                refused = _in_bulk(table, writes)
            if refused is not None:
                raise NeedsCare from refused
            return refusals
        connection.execute("SAVEPOINT litecast_rows")
        with _checks(table):
            refused = _in_bulk(table, writes)
        if refused is not None:
            connection.execute("ROLLBACK TO litecast_rows")
        connection.execute("RELEASE litecast_rows")
        if refused is not None:
            _one_by_one(table, writes, refusals)
    for key, values in other_keys.items():
        _hold_row(table, key, values, CONVERTED_KEY, refusals)
    for (key, name), value in changed.items():
        _hold_converted(table, key, name, value, refusals)
    return refusals


def _anew(table: Table, writes: RowWrites) -> RowWrites:
    """The same, with rows that change taken out and put in again: two rows may have changed places on a UNIQUE index,
    and only what stands there in the end satisfies it."""
    size = len(table.spec.key)
    found = RowWrites(deletes=[*writes.deletes], inserts={columns: [*rows] for columns, rows in writes.inserts.items()})
    changes: dict[Key, dict[str, Value]] = {}
    for columns, rows in writes.updates.items():
        for row in rows:
            changes.setdefault(row[-size:], {}).update(zip(columns, row, strict=False))
    for key, values in changes.items():
        there = table.row(key)
        if there is not None:
            found.deletes.append(key)
            found.insert(key, there | values)
    return found


def _converted_cells(table: Table, writes: RowWrites) -> dict[tuple[Key, str], Value]:
    """Cells that will show something else than what is written, with what is written."""
    size = len(table.spec.key)
    found: dict[tuple[Key, str], Value] = {}
    for columns, rows in writes.inserts.items():
        for number, name, _ in converted(table, columns, rows, start=size):
            found[rows[number][:size], name] = rows[number][size + columns.index(name)]
    for columns, rows in writes.updates.items():
        for number, name, _ in converted(table, columns, rows):
            found[rows[number][len(columns) :], name] = rows[number][columns.index(name)]
    return {place: value for place, value in found.items() if place[1] in table.spec.cells}


def _hold_converted(table: Table, key: Key, name: str, value: Value, refusals: Refusals) -> None:
    row = table.row(key)
    if row is None or name in held.of_key(table.connection, table.spec.tid, key):
        return  # it is held anyway
    refusals.held += 1
    shown = cell_hash(row[name], key_seed(key))
    held.put(table.connection, table.spec.tid, key, name, HeldCell(value=value, shown=shown, reason=CONVERTED))


def _take_out_converted_keys(table: Table, writes: RowWrites) -> dict[Key, Mapping[str, Value]]:
    """Rows that would come under another key are taken out of `writes`, as are deletes: they would hit that one."""
    size = len(table.spec.key)
    gone = {number for number, _, _ in converted(table, table.spec.key, writes.deletes)}
    if gone:
        writes.deletes = [key for number, key in enumerate(writes.deletes) if number not in gone]
    found: dict[Key, Mapping[str, Value]] = {}
    for columns, rows in writes.inserts.items():
        numbers = {number for number, _, _ in converted(table, table.spec.key, rows)}
        found |= {rows[number][:size]: dict(zip(columns, rows[number][size:], strict=True)) for number in numbers}
        if numbers:
            writes.inserts[columns] = [row for number, row in enumerate(rows) if number not in numbers]
    return found


def _in_bulk(table: Table, writes: RowWrites) -> Exception | None:
    connection = table.connection
    try:
        table.delete.run_many(connection, writes.deletes)
        for columns, rows in writes.inserts.items():
            table.new_rows(columns).run(connection, rows)
        for columns, rows in writes.updates.items():
            table.update(columns).run_many(connection, rows)
    except UnicodeEncodeError as error:
        return error
    except sqlite3.Error as error:
        if not _is_refusal(error):
            raise
        return error
    return None


def _one_by_one(table: Table, writes: RowWrites, refusals: Refusals) -> None:
    size = len(table.spec.key)
    for key in writes.deletes:
        _attempt(table, lambda key=key: table.delete.run(table.connection, key))  # type: ignore[misc]
    for columns, rows in writes.inserts.items():
        for row in rows:
            _insert(table, row[:size], dict(zip(columns, row[size:], strict=True)), refusals)
    for columns, rows in writes.updates.items():
        for row in rows:
            _update(table, row[len(columns) :], dict(zip(columns, row[: len(columns)], strict=True)), refusals)


def _insert(table: Table, key: Key, values: Mapping[str, Value], refusals: Refusals) -> None:
    def write() -> None:
        table.delete.run(table.connection, key)  # a row that no entry knows of
        table.insert(tuple(values)).run(table.connection, (*key, *values.values()))

    reason = _attempt_both(table, key, write, refusals)
    if reason is not None:
        _hold_row(table, key, values, reason, refusals)


def _hold_row(table: Table, key: Key, values: Mapping[str, Value], reason: str, refusals: Refusals) -> None:
    refusals.held += 1
    tid = table.spec.tid
    held.put(table.connection, tid, key, held.ROW, HeldCell(value=None, shown=None, reason=reason))
    for name, value in values.items():
        if name in table.spec.cells:
            held.put(table.connection, tid, key, name, HeldCell(value=value, shown=None, reason=reason))


def _update(table: Table, key: Key, values: Mapping[str, Value], refusals: Refusals) -> None:
    def write(part: Mapping[str, Value]) -> str | None:
        statement = table.update(tuple(part))
        return _attempt_both(table, key, lambda: statement.run(table.connection, (*part.values(), *key)), refusals)

    if write(values) is None:
        return
    row = table.row(key) or {}
    for name, value in values.items():
        reason = write({name: value})
        if reason is not None and name in table.spec.cells:
            refusals.held += 1
            shown = cell_hash(row.get(name), key_seed(key))
            held.put(table.connection, table.spec.tid, key, name, HeldCell(value=value, shown=shown, reason=reason))


def _attempt_both(table: Table, key: Key, write: _Write, refusals: Refusals) -> str | None:
    """Writes a row with CHECK enforced, so that it is known whether it breaks one, and then without."""
    if table.has_check:
        with _checks(table):
            error = _attempt(table, write)
        if error is None:
            return None
        if getattr(error, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_CHECK":
            refusals.broken.append(key)
    error = _attempt(table, write)
    return None if error is None else str(error)


def _attempt(table: Table, write: _Write) -> sqlite3.Error | None:
    connection = table.connection
    connection.execute("SAVEPOINT litecast_row")
    try:
        write()
    except sqlite3.Error as error:
        if not _is_refusal(error) or not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO litecast_row")
        connection.execute("RELEASE litecast_row")
        return error
    connection.execute("RELEASE litecast_row")
    return None


def _is_refusal(error: sqlite3.Error) -> bool:
    """True if it is the row that the table will not have; False for the disk, the lock, the memory, damage."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.DataError):
        return True
    return getattr(error, "sqlite_errorname", "") == "SQLITE_ERROR"  # a trigger of the application's that fails


@contextmanager
def _checks(table: Table) -> Iterator[None]:
    if not table.has_check:
        yield
        return
    set_enforced(table.connection, checks=True)
    try:
        yield
    finally:
        set_enforced(table.connection, checks=False)


def show_held(table: Table, fresh: Collection[str] = ()) -> int:
    """Writes what is held and can be shown now, into cells that still show what they showed. Gives how many.

    `fresh` are columns that have just come: what a migration computed for them gives way to what somebody wrote.
    """
    shown = 0
    for key in held.keys(table.connection, table.spec.tid):
        shown += show_key(table, key, fresh)
    return shown


def show_key(table: Table, key: Key, fresh: Collection[str] = ()) -> int:
    """`show_held` for one row."""
    found = held.of_key(table.connection, table.spec.tid, key)
    with writing_rows(table.connection, table):
        if held.ROW in found:
            return _show_row(table, key, found)
        return sum(
            _show_cell(table, key, name, cell, is_fresh=name in fresh)
            for name, cell in found.items()
            if name in table.spec.cells
        )


def _show_row(table: Table, key: Key, found: Mapping[str, HeldCell]) -> int:
    values = {name: cell.value for name, cell in found.items() if name in table.spec.cells}
    entry = table.entry_row(key)
    if entry is None:
        return 0
    life = entry[0]
    assert isinstance(life, int)
    sums: dict[int, int] = {}
    for number, _, value, _ in table.counts(key, life):
        assert isinstance(number, int)
        assert isinstance(value, int)
        sums[number] = sums.get(number, 0) + value
    for name, number in zip(table.spec.counters, table.counter_ids, strict=True):
        values[name] = saturated(sums.get(number, 0))
    if table.row(key) is not None:
        return 0  # somebody wrote it meanwhile: the fold compares
    if any(converted(table, table.spec.key, [key])):
        return 0
    insert = table.insert(tuple(values))
    if _attempt(table, lambda: insert.run(table.connection, (*key, *values.values()))) is not None:
        return 0
    row = table.row(key) or {}
    for name in (held.ROW, *(name for name in values if name in found)):
        if name == held.ROW or same(row[name], values[name]):
            held.drop(table.connection, table.spec.tid, key, name)
        else:
            _still_held(table, key, name, values[name], row[name])
    return 1


def _still_held(table: Table, key: Key, name: str, value: Value, shown: Value) -> None:
    cell = HeldCell(value=value, shown=cell_hash(shown, key_seed(key)), reason=CONVERTED)
    held.put(table.connection, table.spec.tid, key, name, cell)


def _show_cell(table: Table, key: Key, name: str, cell: HeldCell, *, is_fresh: bool) -> int:
    row = table.row(key)
    if row is None:
        return 0
    seed = key_seed(key)
    before = cell_hash(table.defaults[name], seed) if cell.shown is None else cell.shown
    now = cell_hash(row[name], seed)
    if now == before or is_fresh:
        update = table.update((name,))
        error = _attempt(table, lambda: update.run(table.connection, (cell.value, *key)))
        if error is not None:
            refused = HeldCell(value=cell.value, shown=now, reason=str(error))
            held.put(table.connection, table.spec.tid, key, name, refused)
            return 0
        shown = (table.row(key) or {}).get(name)
        if not same(shown, cell.value):
            _still_held(table, key, name, cell.value, shown)
            return 0
    held.drop(table.connection, table.spec.tid, key, name)  # shown, or overwritten by somebody
    return 1
