"""What stands in a column of a row whose insert did not carry it, where the schema does not say.

A migration that adds a column NOT NULL and without a default, as Django's do, gives a value to the rows that it finds;
for rows to come the application has one. A row that is inserted meanwhile by a node which has not migrated yet lacks
the column, and could not be shown. But if all rows that the migration found here got one value, it will give the same
to this row, there: so that value is noted as the column's fill, and stands in such a row, with the clock of values that
migrations compute, until somebody writes another.
"""

import sqlite3
from collections.abc import Collection
from typing import Final

from replication.engine.statements import Statement, holes
from replication.engine.table import Table
from replication.engine.values import Value, fetch
from replication.tables import quoted

TABLE: Final = "_litecast_fills"
CREATE: Final = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (tid INTEGER NOT NULL, name TEXT NOT NULL, value, PRIMARY KEY (tid, name))
WITHOUT ROWID"""

_PUT = Statement(f"INSERT OR REPLACE INTO main.{TABLE} VALUES ({holes(3)})")


def learn(table: Table, fresh: Collection[str]) -> None:
    """Notes the fills of columns that are new, and forgets those of columns that need none any more.

    In the transaction that looks at the schema anew, before anything is written into the table."""
    connection, tid = table.connection, table.spec.tid
    for name in _known(connection, tid) - table.required:
        connection.execute(f"DELETE FROM main.{TABLE} WHERE tid = ? AND name = ?", (tid, name))
    for name in sorted(table.required.intersection(table.spec.cells, fresh)):
        found = _values(table, name)
        if len(found) == 1:
            _PUT.run(connection, (tid, name, *found))


def _known(connection: sqlite3.Connection, tid: int) -> set[str]:
    return {name for (name,) in connection.execute(f"SELECT name FROM main.{TABLE} WHERE tid = ?", (tid,))}


def _values(table: Table, name: str) -> list[Value]:
    """What stands in the column of rows that were there before: one value if it is one everywhere, two if not.

    Rows in the log are looked at only if there are no others: an application may have written them meanwhile."""
    spec = table.spec
    column = f"t.{quoted(name)}"
    on = " AND ".join(f"t.{quoted(one)} = c.{key}" for one, key in zip(spec.key, spec.key_names, strict=True))
    rows = f"main.{spec.clock} AS c JOIN {table.name} AS t ON {on} WHERE c.life & 1"
    keys = ", ".join(f"c.{key}" for key in spec.key_names)
    untouched = f" AND ({keys}) NOT IN (SELECT {table.keys} FROM main.{spec.log})"
    for which in (untouched, ""):
        # No collation of the column's own, and 1 is not 1.0.
        distinct = f"SELECT DISTINCT typeof({column}), {column} COLLATE BINARY FROM {rows}{which} LIMIT 2"
        if found := fetch(table.connection, distinct):
            return [value for _, value in found]
    return []
