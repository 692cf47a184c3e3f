"""The UNIQUE constraints and indexes of a table, beside its primary key."""

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

EXPRESSION = "<expression>"
_GENERATED = (2, 3)  # pragma_table_xinfo's `hidden`: virtual and stored


@dataclass(frozen=True, slots=True, kw_only=True)
class UniqueIndex:
    """A UNIQUE constraint or index other than the primary key's, which the key does not imply."""

    name: str
    columns: tuple[str, ...]
    """`<expression>` stands for what is not a column."""
    collations: tuple[str, ...] = ()
    """By which each column is compared, in upper case."""
    is_computed: bool = False
    """A generated column is among them: it changes with others that the statement names."""

    @property
    def has_expression(self) -> bool:
        """True if it is not made of columns alone."""
        return EXPRESSION in self.columns


def uniques(connection: sqlite3.Connection, table: str, key: Collection[str]) -> tuple[UniqueIndex, ...]:
    """Those of a table. `key` are the columns of its primary key, in lower case."""
    found: list[UniqueIndex] = []
    generated = {
        column
        for column, hidden in connection.execute("SELECT name, hidden FROM pragma_table_xinfo(?, 'main')", (table,))
        if hidden in _GENERATED
    }
    indexes = connection.execute("SELECT name, \"unique\", origin FROM pragma_index_list(?, 'main')", (table,))
    for index, unique, origin in indexes.fetchall():
        if not unique or origin == "pk":
            continue
        columns = index_columns(connection, index)
        exact = {column.lower() for column, collation in columns if collation == "BINARY"}
        if not key or not set(key) <= exact:  # else two rows that it forbids would have the same key
            names, collations = zip(*columns, strict=True)
            computed = not generated.isdisjoint(names)
            found.append(UniqueIndex(name=index, columns=names, collations=collations, is_computed=computed))
    return tuple(found)


def index_columns(connection: sqlite3.Connection, index: str) -> list[tuple[str, str]]:
    """The columns of an index, each with the collation by which it is compared there, in upper case."""
    return [
        (column if column is not None else EXPRESSION, str(collation).upper())
        for column, collation in connection.execute(
            "SELECT name, coll FROM pragma_index_xinfo(?, 'main') WHERE key ORDER BY seqno", (index,)
        )
    ]
