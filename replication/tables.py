"""What is known of the tables of one connection, and the SQL made from it.

A table is looked up once (`pragma_table_xinfo`) and its statements are made once: the text must be the same object each
time, since sqlite3 finds the compiled statement by it. Names are quoted with backticks, never with double quotes:
SQLite takes a double-quoted name that no longer exists for a string, and would answer instead of refusing.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from replication.errors import NoSuchColumn, NoSuchTable, WrongKey
from replication.rows import Key

INSERTED_AT = "inserted_at"
UPDATED_AT = "updated_at"

_STATEMENTS_MAX = 1_000  # a row of n columns can be updated in 2^n ways; beyond this the texts are made anew
_VIRTUAL_GENERATED, _STORED_GENERATED = 2, 3  # pragma_table_xinfo's `hidden`


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: its columns, its key, and the statements that need nothing else."""

    name: str
    columns: frozenset[str]
    key: tuple[str, ...]
    """Columns of the primary key in key order; empty if there is none."""
    generated: frozenset[str]
    """Columns that SQLite computes: they come back with a row and are left out when one is written."""
    select: str
    delete: str

    def key_values(self, key: Key) -> tuple[object, ...]:
        """`key` as the values of a WHERE. Raises WrongKey if it has not the key's shape."""
        values = key if type(key) is tuple else (key,)
        if len(values) != len(self.key) or not values:
            raise WrongKey(self.name, self.key, len(values))
        return values

    def has(self, columns: Iterable[str]) -> None:
        """Raises NoSuchColumn unless the table has them all."""
        for column in columns:
            if column not in self.columns:
                raise NoSuchColumn(self.name, column, tuple(sorted(self.columns)))

    @property
    def where(self) -> str:
        return " AND ".join(f"{quoted(column)} = ?" for column in self.key)


class Tables:
    """The tables of one connection, remembered. Used in that connection's thread only."""

    def __init__(self) -> None:
        self._tables: dict[str, Table] = {}
        self._statements: dict[tuple[object, ...], str] = {}
        self._schema_version = -1
        self.generation = 0
        """Grows with each `forget`; may be read in another thread."""

    def forget(self) -> None:
        """The schema has changed: look everything up again when it is next asked for."""
        self._tables.clear()
        self._statements.clear()
        self.generation += 1

    def check(self, connection: sqlite3.Connection) -> None:
        """Forgets what is known if the schema has changed since the last check."""
        (version,) = connection.execute("PRAGMA schema_version").fetchone()
        if version != self._schema_version:
            self.forget()
            self._schema_version = version

    def of(self, connection: sqlite3.Connection, name: str) -> Table:
        """The table called so. Raises NoSuchTable."""
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = _look_up(connection, name)
        return table

    def insert(self, table: Table, columns: tuple[str, ...]) -> str:
        """INSERT of these columns. It gives the row back."""
        made = self._statements.get(("insert", table.name, columns))
        if made is None:
            table.has(columns)
            names, marks = ", ".join(map(quoted, columns)), ", ".join("?" * len(columns))
            values = f"({names}) VALUES ({marks})" if columns else "DEFAULT VALUES"
            made = self._keep("insert", table, columns, f"INSERT INTO {quoted(table.name)} {values} RETURNING *")
        return made

    def update(self, table: Table, columns: tuple[str, ...]) -> str:
        """UPDATE of these columns of the row with a key. It gives the row back."""
        made = self._statements.get(("update", table.name, columns))
        if made is None:
            table.has(columns)
            changes = ", ".join(f"{quoted(column)} = ?" for column in columns)
            text = f"UPDATE {quoted(table.name)} SET {changes} WHERE {table.where} RETURNING *"
            made = self._keep("update", table, columns, text)
        return made

    def _keep(self, verb: str, table: Table, columns: tuple[str, ...], text: str) -> str:
        if len(self._statements) >= _STATEMENTS_MAX:
            self._statements.clear()
        self._statements[(verb, table.name, columns)] = text
        return text


def _look_up(connection: sqlite3.Connection, name: str) -> Table:
    found = connection.execute("SELECT name, pk, hidden FROM pragma_table_xinfo(?)", (name,)).fetchall()
    if not found:
        raise NoSuchTable(name)
    key = tuple(column for _, column in sorted((pk, column) for column, pk, _ in found if pk))
    where = " AND ".join(f"{quoted(column)} = ?" for column in key)
    return Table(
        name=name,
        columns=frozenset(column for column, _, _ in found),
        key=key,
        generated=frozenset(column for column, _, hidden in found if hidden in (_VIRTUAL_GENERATED, _STORED_GENERATED)),
        select=f"SELECT * FROM {quoted(name)} WHERE {where}",
        delete=f"DELETE FROM {quoted(name)} WHERE {where} RETURNING *",
    )
