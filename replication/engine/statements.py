"""SQL with holes, run for one row or for many, whatever text their values hold."""

import sqlite3
from collections.abc import Iterable, Sequence

from replication.engine.values import Value, bound, fetch

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
