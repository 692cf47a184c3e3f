"""The attached tables, read from the schema and the catalogue, and kept from one transaction to the next.

To read what the tables are, and to write the SQL for them, takes longer than to fold or merge a row. So a connection
that does much of that keeps its tables as long as all that they were read from is as it was. One query says whether it
is, whoever may have changed it: another process, another connection, or the transaction itself."""

import sqlite3
from functools import cached_property
from typing import Any, Final

from replication.engine import catalogue, filling, renaming
from replication.engine.columns import Columns
from replication.engine.entries import Shapes
from replication.engine.table import Table
from replication.engine.violations import ForeignKeys

KEPT_FOR: Final = 1_000
"""So many transactions at most: a table remembers the statements for each set of columns that was written."""

_BASIS: Final = " UNION ALL ".join(
    (
        f"SELECT 'table', tid, name, key_size, rule, floor, local_triggers FROM main.{catalogue.CATALOGUE}",
        f"SELECT 'counter', tid, name, NULL, NULL, NULL, NULL FROM main.{catalogue.COUNTERS}",
        "SELECT 'column', tid, name, id, here, NULL, NULL FROM main._litecast_columns",
        f"SELECT 'renamed', tid, old, new, NULL, NULL, NULL FROM main.{renaming.TABLE}",
        f"SELECT 'fill', tid, name, typeof(value), hex(value), NULL, NULL FROM main.{filling.TABLE}",
    )
)


class AttachedTables:
    """The attached tables of a database by name, as they were when this was made."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        shapes = Shapes()
        self.by_name = {
            name: Table(connection, spec, Columns(connection, spec.tid), shapes)
            for name, spec in catalogue.load(connection).items()
        }

    @cached_property
    def foreign_keys(self) -> ForeignKeys:
        """Those of them."""
        return ForeignKeys(self._connection, self.by_name)


def load_tables(connection: sqlite3.Connection) -> dict[str, Table]:
    """The attached tables by name."""
    return AttachedTables(connection).by_name


class KnownTables:
    """What one connection keeps of them: of a transaction that was rolled back nothing, since `keep` is not called."""

    def __init__(self) -> None:
        self._kept: tuple[tuple[int, list[Any]], AttachedTables] | None = None
        self._basis: tuple[int, list[Any]] | None = None
        self._uses = 0

    def take(self, connection: sqlite3.Connection, schema: int) -> AttachedTables:
        """The tables, in the transaction at work. `schema`: SQLite's schema_version now."""
        kept, self._kept = self._kept, None
        self._basis = schema, connection.execute(_BASIS).fetchall()
        self._uses += 1
        if kept is not None and kept[0] == self._basis and self._uses < KEPT_FOR:
            return kept[1]
        self._uses = 0
        return AttachedTables(connection)

    def keep(self, tables: AttachedTables) -> None:
        """The transaction is committed for which these were taken."""
        if self._basis is not None:
            self._kept, self._basis = (self._basis, tables), None
