"""SQL with holes, run for one row or for many, whatever text their values hold."""

import math
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain

from replication.engine.values import Value, bound, fetch

_PARAMETERS = 999
"""So many values are bound to one statement at most: SQLite's limit until 3.32. More would not be faster."""

HOLE = "\0"
"""Stands for a value in a statement's text. No name in a schema can hold it."""


class Statement:
    """SQL text in which each HOLE takes a value."""

    __slots__ = ("_text", "sql")

    def __init__(self, text: str) -> None:
        self._text = text
        self.sql = text.replace(HOLE, "?")

    def run(self, connection: sqlite3.Connection, values: Sequence[Value]) -> int:
        """Runs it once. Gives how many rows it changed."""
        try:
            return connection.execute(self.sql, values).rowcount
        except UnicodeEncodeError:
            sql, parameters = self._cast(values)
            return connection.execute(sql, parameters).rowcount

    def fetch(self, connection: sqlite3.Connection, values: Sequence[Value]) -> list[tuple[Value, ...]]:
        """The rows it selects."""
        try:
            return fetch(connection, self.sql, values)
        except UnicodeEncodeError:
            return fetch(connection, *self._cast(values))

    def run_many(self, connection: sqlite3.Connection, rows: Sequence[Sequence[Value]]) -> None:
        """Runs it for each row. Where text that is not UTF-8 stops it half-way, for each again: it must bear that."""
        if not rows:
            return
        try:
            connection.executemany(self.sql, rows)
        except UnicodeEncodeError:
            self.run_each(connection, rows)

    def run_each(self, connection: sqlite3.Connection, rows: Iterable[Sequence[Value]]) -> None:
        """Runs it for each row, one call for each."""
        for row in rows:
            self.run(connection, row)

    def _cast(self, values: Sequence[Value]) -> tuple[str, list[Value]]:
        holes, parameters = bound(values)
        first, *rest = self._text.split(HOLE)
        return first + "".join(hole + part for hole, part in zip(holes, rest, strict=True)), parameters


def holes(count: int) -> str:
    """That many holes, with commas."""
    return ", ".join([HOLE] * count)


class BulkInsert:
    """An INSERT of many rows, as many of them to a statement as go: half the time of a statement for each.

    `into` is its text up to VALUES. OR IGNORE and OR FAIL let SQLite do without a copy of each page that it changes,
    with which OR ABORT undoes half a statement.
    """

    __slots__ = ("_each", "_many", "_per")

    def __init__(self, into: str, width: int) -> None:
        row = f"({', '.join('?' * width)})"
        self._per = max(1, _PARAMETERS // width)
        self._each = f"{into} VALUES {row}"
        self._many = f"{into} VALUES {', '.join([row] * self._per)}"

    def run(self, connection: sqlite3.Connection, rows: Sequence[Sequence[Value]]) -> int:
        """Gives how many rows were inserted. If it raises, some are: UnicodeEncodeError for text that is not UTF-8."""
        if not rows:
            return 0
        whole = len(rows) - len(rows) % self._per
        count = 0
        for start in range(0, whole, self._per):
            values = list(chain.from_iterable(rows[start : start + self._per]))
            count += connection.execute(self._many, values).rowcount
        if whole < len(rows):
            count += connection.executemany(self._each, rows[whole:]).rowcount
        return count


class Lookup:
    """A query for rows by their keys, with many keys in a statement.

    `query` selects from `d`, whose columns are the keys', in `names`.
    """

    __slots__ = ("_names", "_per", "_query", "_row")

    def __init__(self, names: Sequence[str], query: str) -> None:
        self._names = ", ".join(names)
        self._query = query
        self._row = f"({', '.join('?' * len(names))})"
        self._per = max(1, _PARAMETERS // len(names))

    def fetch(self, connection: sqlite3.Connection, keys: Sequence[Sequence[Value]]) -> list[tuple[Value, ...]]:
        """What it gives for these keys, for some of them twice. Raises UnicodeEncodeError: text that is not UTF-8."""
        found: list[tuple[Value, ...]] = []
        for start in range(0, len(keys), self._per):
            some = keys[start : start + self._per]
            # To a power of two, so that there are few statements, which stay prepared.
            count = min(self._per, 1 << (len(some) - 1).bit_length())
            values = [*chain.from_iterable(some), *chain.from_iterable([some[-1]] * (count - len(some)))]
            rows = ", ".join([self._row] * count)
            found += fetch(connection, f"WITH d({self._names}) AS (VALUES {rows}) {self._query}", values)
        return found


def sql_literal(value: Value) -> tuple[str, str]:
    """A value as it is written in SQL, bit by bit, and its type as `typeof` names it."""
    match value:
        case None:
            return "NULL", "null"
        case int():
            return str(value), "integer"
        case float():
            return ("9e999" if value > 0 else "-9e999") if math.isinf(value) else repr(value), "real"
        case str():
            return f"CAST(x'{value.encode('utf-8', 'surrogateescape').hex()}' AS TEXT)", "text"
        case bytes():
            return f"x'{value.hex()}'", "blob"
