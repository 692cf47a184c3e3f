"""The verbs on an sqlite3 connection, synchronous: what a transaction's function gets, and what `Repo` runs."""

import inspect
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from replication.errors import ConstraintFailed, DatabaseReadOnly, NoSuchRow, QueryFailed, TransactionOver
from replication.positions import Position, of_next_fold
from replication.rows import Key, Parameters, Row
from replication.tables import INSERTED_AT, UPDATED_AT, Table, Tables
from replication.translation import SQLITE_ERRORS, translated

_COMMENTS = re.compile(r"(?:\s|;|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))+", re.DOTALL)
_ROLLBACK_TO = re.compile(r"ROLLBACK(\s+TRANSACTION)?\s+TO\b", re.IGNORECASE)
_CONTROL = frozenset({"BEGIN", "COMMIT", "END", "ROLLBACK"})
_ALONE = frozenset({"VACUUM", "PRAGMA", "ATTACH", "DETACH"})
_APART = "_litecast_apart"
_ROWS_ONLY = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the verbs need to know beside their connection."""

    path: Path
    busy_timeout_s: float
    stamp: Callable[[], str]
    """The time now, as it is written into inserted_at and updated_at."""
    gives_positions: bool = False
    """Whether what is written becomes changesets, so that others can wait for it."""
    guard: Callable[[], None] = lambda: None
    """Raises what keeps a transaction from writing now. Asked in the writer's thread, when the lock is had."""


class Verbs:
    """Statements on one connection, each atomic. Used in that connection's thread only."""

    def __init__(self, connection: sqlite3.Connection, tables: Tables, surroundings: Surroundings) -> None:
        self._connection = connection
        self._tables = tables
        self._surroundings = surroundings
        self.position = Position()
        """What a reader on another node waits for to see what is written here. Empty where there is no such thing."""

    def get(self, table: str, key: Key) -> Row | None:
        """The row with this primary key, or None. Raises NoSuchTable, WrongKey."""
        known = self._table(table)
        names, found = self._run(known.select, known.key_values(key), table)
        return Row(table, zip(names, found[0], strict=True)) if found else None

    def all(self, sql: str, params: Parameters = ()) -> list[Row]:
        """The rows that a query gives, in its order."""
        _refuse_control(sql)
        try:
            names, found = self._run(sql, params)
        except DatabaseReadOnly as error:
            if self._connection.execute("PRAGMA query_only").fetchone()[0]:
                raise QueryFailed(sql, "all() only reads; write with execute()") from error
            raise
        self._forget_if_schema_changed(sql)
        return [Row("", zip(names, values, strict=True)) for values in found]

    def insert(self, table: str, row: Mapping[str, Any]) -> Row:
        """The row as it now stands, defaults included.

        `inserted_at` and `updated_at`, where the table has them, are set to now unless given. Generated columns are
        left out. Raises DuplicateRow, ConstraintFailed, NoSuchTable, NoSuchColumn.
        """
        known = self._table(table)
        columns, values = self._stamped(known, row)
        names, found = self._run(self._tables.insert(known, columns), values, table)
        if not found:
            raise ConstraintFailed(table, "ignored by a trigger's RAISE(IGNORE) or by ON CONFLICT IGNORE")
        return self._written(table, names, found[0])

    def insert_many(self, table: str, rows: Iterable[Mapping[str, Any]]) -> int:
        """How many rows were inserted. Columns are filled as by `insert`; the rows may name different columns."""
        known = self._table(table)
        stamped = (self._stamped(known, row) for row in rows)
        inserted_count = 0
        for columns, group in groupby(stamped, key=lambda pair: pair[0]):
            sql = self._tables.insert(known, columns).removesuffix(" RETURNING *")
            try:
                cursor = self._live().executemany(sql, (values for _, values in group))
            except SQLITE_ERRORS as error:
                raise self._translated(error, table, sql) from error
            inserted_count += max(cursor.rowcount, 0)
        return inserted_count

    def update(self, table: str, key: Key, changes: Mapping[str, Any]) -> Row:
        """The whole row after these changes; `updated_at` is set to now unless it is among them.

        Raises NoSuchRow, DuplicateRow, ConstraintFailed, NoSuchTable, NoSuchColumn.
        """
        known = self._table(table)
        values = {name: value for name, value in changes.items() if name not in known.generated}
        if UPDATED_AT in known.columns:
            values.setdefault(UPDATED_AT, self._surroundings.stamp())
        parameters = (*values.values(), *known.key_values(key))
        if values:
            names, found = self._run(self._tables.update(known, tuple(values)), parameters, table)
        else:
            names, found = self._run(known.select, parameters, table)
        if not found:
            raise NoSuchRow(table, key)
        return self._written(table, names, found[0])

    def delete(self, table: str, key: Key) -> Row:
        """The row as it was. Raises NoSuchRow, ConstraintFailed, NoSuchTable."""
        known = self._table(table)
        names, found = self._run(known.delete, known.key_values(key), table)
        if not found:
            raise NoSuchRow(table, key)
        return self._written(table, names, found[0])

    def key_of(self, table: str, row: Mapping[str, Any]) -> Key:
        """The primary key of a row given by its columns. Raises NoSuchTable; WrongKey if the row lacks a part of it."""
        known = self._table(table)
        key = tuple(row[column] for column in known.key if column in row)
        known.key_values(key)
        return key

    def execute(self, sql: str, params: Parameters = ()) -> int:
        """How many rows one statement changed, 0 for one such as CREATE. Rows that it gives are dropped."""
        _refuse_control(sql)
        try:
            cursor = self._live().execute(sql, params)
            cursor.fetchall()
        except SQLITE_ERRORS as error:
            raise self._translated(error, "", sql) from error
        self._forget_if_schema_changed(sql)
        return max(cursor.rowcount, 0)

    def look_again(self) -> None:
        """Forgets what is known of the tables if anybody has changed the schema. Done before each write."""
        try:
            self._tables.check(self._connection)
        except SQLITE_ERRORS as error:
            raise self._translated(error, "", "") from error

    def _written(self, table: str, names: list[str], values: tuple[Any, ...]) -> Row:
        row = Row(table, zip(names, values, strict=True))
        row.position = self.position
        return row

    def _live(self) -> sqlite3.Connection:
        return self._connection

    def _table(self, name: str) -> Table:
        try:
            return self._tables.of(self._live(), name)
        except SQLITE_ERRORS as error:
            raise self._translated(error, name, "") from error

    def _run(self, sql: str, params: Parameters, table: str = "") -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows. All rows are fetched: only then has a RETURNING statement run to its end."""
        try:
            cursor = self._live().execute(sql, params)
            rows = cursor.fetchall()
        except SQLITE_ERRORS as error:
            raise self._translated(error, table, sql) from error
        return [column[0] for column in cursor.description or ()], rows

    def _stamped(self, table: Table, row: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        values = {name: value for name, value in row.items() if name not in table.generated}
        if INSERTED_AT in table.columns or UPDATED_AT in table.columns:
            now = self._surroundings.stamp()
            for name in (INSERTED_AT, UPDATED_AT):
                if name in table.columns:
                    values.setdefault(name, now)
        return tuple(values), tuple(values.values())

    def _forget_if_schema_changed(self, sql: str) -> None:
        if _first_word(sql) not in _ROWS_ONLY:
            self._tables.forget()

    def _translated(self, error: Exception, table: str, sql: str) -> Exception:
        around = self._surroundings
        return translated(error, path=around.path, busy_timeout_s=around.busy_timeout_s, table=table, sql=sql)


class Transaction(Verbs):
    """The verbs inside one BEGIN IMMEDIATE ... COMMIT. A verb that fails leaves in place what came before it."""

    _over = False

    def begun(self) -> None:
        """The transaction has the write lock: from now on no fold comes between it and its commit."""
        self._surroundings.guard()
        if self._surroundings.gives_positions:
            self.position = of_next_fold(self._connection)

    def apart[T](self, work: "Callable[[Transaction], T]") -> T:
        """What `work` returns. What it raises is raised, and then nothing that it wrote is kept, while all that was
        written before it is. Raises TransactionOver if SQLite rolled the whole transaction back meanwhile."""
        connection = self._live()
        _run_control(connection, f"SAVEPOINT {_APART}", self._surroundings)
        try:
            result = work(self)
            _run_control(self._live(), f"RELEASE {_APART}", self._surroundings)
        except BaseException:
            self._tables.forget()  # a schema change that is rolled back may have been looked up
            if connection.in_transaction:
                try:
                    connection.execute(f"ROLLBACK TO {_APART}")
                    connection.execute(f"RELEASE {_APART}")
                except SQLITE_ERRORS:  # `work` ended the savepoint: what it wrote cannot be told from the rest
                    connection.execute("ROLLBACK")
            raise
        return result

    def connection(self) -> sqlite3.Connection:
        """The connection of it, for what knows the engine's tables. Who uses it neither commits nor rolls back. Raises
        TransactionOver."""
        return self._live()

    def is_over(self) -> bool:
        """Whether nothing can be written in it any more: its function has ended, or SQLite rolled it back."""
        return self._over or not self._connection.in_transaction

    def end(self) -> None:
        """From now on every verb raises TransactionOver."""
        self._over = True

    def _live(self) -> sqlite3.Connection:
        if self._over:
            raise TransactionOver("this transaction is over; its verbs work inside its function only")
        if not self._connection.in_transaction:
            # SQLite itself rolls back when the disk fails or is full, or on ON CONFLICT ROLLBACK. A statement now would
            # be a commit of its own, without what came before it.
            raise TransactionOver("SQLite rolled this transaction back; let its error pass, nothing of it was kept")
        return self._connection


class Written[T](NamedTuple):
    """What a write returned, and its position."""

    result: T
    position: Position


def in_transaction[T](
    connection: sqlite3.Connection, tables: Tables, surroundings: Surroundings, work: Callable[[Transaction], T]
) -> Written[T]:
    """What `work` returns, after its COMMIT, and its position. Whatever it raises rolls everything back and is raised.

    Raises TypeError if `work` turns out to be a coroutine function: it could not run in this thread.
    """
    generation = tables.generation
    try:
        _run_control(connection, "BEGIN IMMEDIATE", surroundings)
        transaction = Transaction(connection, tables, surroundings)
        try:
            transaction.begun()
            transaction.look_again()
            result = work(transaction)
            if inspect.iscoroutine(result):
                result.close()
                raise TypeError("a transaction's function is a plain `def`, run in the writer's thread")
        finally:
            transaction.end()
        if not connection.in_transaction:
            raise TransactionOver("SQLite rolled this transaction back; nothing of it was kept")
        _run_control(connection, "COMMIT", surroundings)
        if tables.generation != generation:
            tables.forget()  # again: the point reader may have looked between the change and its commit
        return Written(result, transaction.position)
    except BaseException:
        tables.forget()  # a schema change that is rolled back may have been looked up
        raise
    finally:
        leave_no_transaction(connection)


def stands_alone(sql: str) -> bool:
    """True if SQLite runs the statement outside of transactions only, or it means something else inside of one."""
    return _first_word(sql) in _ALONE


def leave_no_transaction(connection: sqlite3.Connection) -> None:
    """Rolls back whatever is still open, so that the next user of the connection finds none."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _run_control(connection: sqlite3.Connection, sql: str, surroundings: Surroundings) -> None:
    try:
        connection.execute(sql)
    except SQLITE_ERRORS as error:
        raise translated(error, path=surroundings.path, busy_timeout_s=surroundings.busy_timeout_s, sql=sql) from error


def _first_word(sql: str) -> str:
    start = _COMMENTS.match(sql)
    return re.split(r"\W", sql[start.end() if start else 0 :], maxsplit=1)[0].upper()


def _refuse_control(sql: str) -> None:
    if _first_word(sql) not in _CONTROL:
        return
    start = _COMMENTS.match(sql)
    if not _ROLLBACK_TO.match(sql, start.end() if start else 0):
        raise QueryFailed(sql, "transactions are begun and ended by transaction(work), not by statements")
