"""Repair of what `scan` found, one way or the other. A person decides which: nobody else can know who was right.

- *Adopt*: what the rows show now is taken for a write of this moment, and goes to every node.
- *Restore*: the rows are set back to what was written. Entries only have hashes of that, so the values come from a
  node that still shows them, and each is checked against its hash before it is written; counters are added up from
  contributions, which are all here; a row that nobody inserted is deleted. What no node could give is left as it is,
  and named. A value that another node shows because it is newer fails the check too: merging will bring it."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from replication.engine import generation, held
from replication.engine.capture import LogKind
from replication.engine.comparable import NotComparable
from replication.engine.contributions import saturated
from replication.engine.entries import split
from replication.engine.folding import Folded, fold, fold_inside
from replication.engine.held import HeldCell
from replication.engine.identity import Remembered, check_remembered
from replication.engine.scanning import RowCheck
from replication.engine.session import Session, open_session
from replication.engine.showing import RowWrites, write_rows
from replication.engine.statements import Statement, holes
from replication.engine.table import Table
from replication.engine.transacting import merging_transaction, transaction
from replication.engine.values import Key, Value, canonical_key, cell_hash, key_seed

type Row = Mapping[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What `restore` came to. `folded` is what the log held before, to be cast like any fold's."""

    rows: int
    """Rows that were damaged, and are as they were written."""
    unverified: Mapping[Key, tuple[str, ...]]
    """Rows that are not, and the columns for which nobody gave the value that was written."""
    held: int
    """Values that the table refused: they are held."""
    folded: Folded | None


def adopt(
    connection: sqlite3.Connection,
    name: str,
    keys: Iterable[Key],
    *,
    now_ms: int,
    expected: Remembered | None = None,
) -> Folded | None:
    """Takes what the rows with these keys show, or that they are gone, for a write of now; None if that is no news.

    Commits, twice; the changeset is to be made durable and cast like any fold's. Raises NotAttached, NotComparable if
    the table is not attached, StateReplaced if the state is not as `expected`, sqlite3.OperationalError (the lock, the
    disk), and RuntimeError inside a transaction.
    """
    with transaction(connection):
        check_remembered(connection, expected)
        spec = _table(open_session(connection), name).spec
        note = Statement(
            f"INSERT INTO main.{spec.log} (kind, {', '.join(spec.key_names)}) VALUES ({holes(len(spec.key) + 1)})"
        )
        note.run_each(connection, ((LogKind.UPDATE.value, *key) for key in keys))
    return fold(connection, now_ms=now_ms, expected=expected)


def restore(
    connection: sqlite3.Connection,
    name: str,
    rows: Mapping[Key, Row | None],
    *,
    now_ms: int,
    expected: Remembered | None = None,
) -> Restored:
    """Sets rows back to what was written. `rows`: keys of damaged rows, each with what another node shows, or None.

    Commits. What the log holds is folded first: a row that was written since the scan is not damaged any more. Raises
    as `adopt` does.
    """
    with merging_transaction(connection):
        check_remembered(connection, expected)
        session = open_session(connection)
        folded = fold_inside(session, now_ms=now_ms)
        work = _Restoration(_table(session, name))
        for key, row in rows.items():
            work.restore(canonical_key(key), row or {})
        restored = work.finish(folded)
        if restored.rows:
            generation.advance(connection)
        return restored


def _table(session: Session, name: str) -> Table:
    for found, table in session.tables.items():
        if found.lower() == name.lower():
            return table
    raise NotComparable("the table is not attached")


class _Restoration:
    """The rows of one table: first decided, then written."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._check = RowCheck(table)
        self._writes = RowWrites()
        self._rows = 0
        self._unverified: dict[Key, tuple[str, ...]] = {}
        self._held: dict[Key, Mapping[str, HeldCell]] = {}

    def restore(self, key: Key, theirs: Row) -> None:
        """One row."""
        table = self._table
        row, entry = table.row(key), table.entry_row(key)
        life, blob = (0, b"") if entry is None else (cast("int", entry[0]), cast("bytes", entry[3]))
        if not life & 1:
            if row is not None:
                self._writes.deletes.append(key)
                self._rows += 1
            return
        holding = self._check.holding(key)
        ours = {name: cell.value for name, cell in holding.items()}
        written = _Written(table, key, life, blob, (ours, theirs))
        if row is not None:
            self._change(key, row, written)
        elif held.ROW not in holding:
            self._bring_back(key, written, holding)

    def _change(self, key: Key, row: Row, written: "_Written") -> None:
        seed = key_seed(key)
        hashes = [cell_hash(row[name], seed) for name in self._table.spec.cells]
        damaged = self._check.columns(key, tuple(row.values()), hashes, written.blob, written.sums)
        values = written.verified(damaged)
        if values:
            self._writes.update(key, values)
        self._note(key, damaged, values)

    def _bring_back(self, key: Key, written: "_Written", holding: Mapping[str, HeldCell]) -> None:
        names = [name for name in written.hashes if name not in holding] + list(self._table.spec.counters)
        values = written.verified(names)
        if len(values) == len(names):
            self._writes.insert(key, values)
            self._held[key] = holding
        self._note(key, names, values)

    def _note(self, key: Key, names: Sequence[str], values: Row) -> None:
        lacking = tuple(name for name in names if name not in values)
        if lacking:
            self._unverified[key] = lacking
        elif names:
            self._rows += 1

    def finish(self, folded: Folded | None) -> Restored:
        """Writes."""
        table = self._table
        refusals = write_rows(table, self._writes)
        for key, holding in self._held.items():
            row = table.row(key) or {}
            seed = key_seed(key)
            for name in holding.keys() & row.keys():
                cell = holding[name]
                shown = HeldCell(value=cell.value, shown=cell_hash(row[name], seed), reason=cell.reason)
                held.put(table.connection, table.spec.tid, key, name, shown)
        return Restored(rows=self._rows, unverified=self._unverified, held=refusals.held, folded=folded)


class _Written:
    """What was written into a living row, as far as its hashes, its contributions and others' values tell."""

    def __init__(self, table: Table, key: Key, life: int, blob: bytes, candidates: Sequence[Row]) -> None:
        self._table = table
        self._candidates = candidates
        self._seed = key_seed(key)
        self.blob = blob
        born, later = split(blob)
        by_number = born | {number: cell[0] for number, cell in later.items()}
        ids = dict(zip(table.spec.cells, table.cell_ids, strict=True))
        self.hashes = {name: by_number[number] for name, number in ids.items() if number in by_number}
        """Of the cells that somebody wrote, by column."""
        self.sums: dict[int, int] = {}
        """Of contributions, by the counter's number."""
        for number, _, value, _ in cast("list[tuple[int, int, int, int]]", table.counts(key, life)):
            self.sums[number] = self.sums.get(number, 0) + value

    def verified(self, names: Sequence[str]) -> dict[str, Value]:
        """The values that were written into these columns, of those of which it is certain."""
        table = self._table
        counters = dict(zip(table.spec.counters, table.counter_ids, strict=True))
        found: dict[str, Value] = {}
        for name in names:
            if name in counters:
                found[name] = saturated(self.sums.get(counters[name], 0))
            elif name not in self.hashes:
                found[name] = table.defaults[name]
            else:
                for candidate in self._candidates:
                    value = candidate.get(name)  # NULL's hash is 0, whoever has it
                    if cell_hash(value, self._seed) == self.hashes[name]:
                        found[name] = value
        return found
