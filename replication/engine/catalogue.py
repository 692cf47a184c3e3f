"""Which tables are attached, and what is known of them beyond the schema.

The catalogue stores what the schema cannot say: a short number for each table (`tid`, which names its log, clock and
count tables), the merge rule, the floor of trimmed lives, and which columns are counters. Everything else (key, other
columns) is read from the schema each time.

A table is found by its name; if no table has that name any more, by its capture triggers, which SQLite carries along
when it renames a table. So `ALTER TABLE a RENAME TO b` goes on as `b`, and a migration that moves the old table aside
and builds a new one in its place goes on with the new one.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from replication.engine.uniques import UniqueIndex, uniques

OURS = "_litecast"
"""How every name of Litecast's in a database begins."""

CATALOGUE = "_litecast_catalogue"
COUNTERS = "_litecast_counters"
ONE_WRITER = "_litecast_one_writer"

# In the file's schema: only what SQLite 3.35 understands.
CREATE = (
    f"""CREATE TABLE {CATALOGUE} (tid INTEGER PRIMARY KEY, name TEXT NOT NULL, key_size INTEGER NOT NULL,
    rule TEXT NOT NULL, floor INTEGER NOT NULL, local_triggers INTEGER NOT NULL)""",
    f"""CREATE TABLE {COUNTERS} (tid INTEGER NOT NULL, name TEXT NOT NULL, PRIMARY KEY (tid, name)) WITHOUT ROWID""",
)
"""What makes an empty catalogue."""

_GENERATED = (2, 3)  # pragma_table_xinfo's `hidden`: virtual and stored


class MergeRule(StrEnum):
    """What is merged as one."""

    CELL = "cell"
    """Each column by itself: writes of two nodes to two columns of a row both stay."""
    ROW = "row"
    """The row: each change carries all of it, so that no row arises that nobody wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSpec:
    """An attached table, as the schema is now."""

    tid: int
    """Its number in this database; other nodes have their own."""
    name: str
    key: tuple[str, ...]
    """Columns of the primary key, in key order."""
    cells: tuple[str, ...]
    """All other columns that are neither counters nor generated, in the table's order."""
    counters: tuple[str, ...]
    rule: MergeRule
    floor: int
    """Tombstones up to this life may have been trimmed."""
    local_triggers: bool = False
    """The application's triggers on it write what is not attached: it is merged with triggers on, capture gated."""
    rowid_is_key: bool = False
    """The key is the rowid, an INTEGER PRIMARY KEY: it can be written under the name `rowid` too."""
    uniques: tuple[UniqueIndex, ...] = ()
    """Its UNIQUE indexes beside the key, where one node writes at a time. Elsewhere it has none, or one that came later
    and that nobody looks at."""

    @property
    def log(self) -> str:
        """Name of its log table: (seq, kind, k0, ...)."""
        return f"{OURS}_log_{self.tid}"

    @property
    def clock(self) -> str:
        """Name of its clock table: (k0, ..., life, stamp, site, cells)."""
        return f"{OURS}_clock_{self.tid}"

    @property
    def count(self) -> str:
        """Name of its contributions table: (k0, ..., counter, life, site, value, stamp)."""
        return f"{OURS}_count_{self.tid}"

    @property
    def key_names(self) -> tuple[str, ...]:
        """Names of the key's columns in the three tables above: k0, k1, ..."""
        return tuple(f"k{number}" for number in range(len(self.key)))


def is_there(connection: sqlite3.Connection) -> bool:
    """Whether the database has a catalogue."""
    found = connection.execute("SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = ?", (CATALOGUE,))
    return found.fetchone() is not None


def is_one_writer(connection: sqlite3.Connection) -> bool:
    """Whether the tables are attached so that one node writes at a time: see `fence`."""
    found = connection.execute("SELECT 1 FROM main.sqlite_master WHERE type = 'table' AND name = ?", (ONE_WRITER,))
    return found.fetchone() is not None


def load(connection: sqlite3.Connection) -> dict[str, TableSpec]:
    """The attached tables by name, as the schema is now; a table that is not there, or got another key, is left out.

    Only reads.
    """
    if not is_there(connection):
        return {}
    specs: dict[str, TableSpec] = {}
    has_one_writer = is_one_writer(connection)
    rows = connection.execute(
        f"SELECT tid, name, key_size, rule, floor, local_triggers FROM main.{CATALOGUE} ORDER BY tid"
    ).fetchall()
    for tid, known_as, key_size, rule, floor, local_triggers in rows:
        name = _current_name(connection, tid, known_as)
        if name is None:
            continue
        counters = _counters(connection, tid)
        columns = connection.execute("SELECT name, pk, hidden FROM pragma_table_xinfo(?, 'main')", (name,)).fetchall()
        key = tuple(column for _, column in sorted((pk, column) for column, pk, _ in columns if pk))
        if len(key) != key_size:
            continue
        plain = [column for column, pk, hidden in columns if not pk and hidden not in _GENERATED]
        specs[name] = TableSpec(
            tid=tid,
            name=name,
            key=key,
            cells=tuple(column for column in plain if column.lower() not in counters),
            counters=tuple(column for column in plain if column.lower() in counters),
            rule=MergeRule(rule),
            floor=floor,
            local_triggers=bool(local_triggers),
            rowid_is_key=_is_rowid_key(connection, name),
            uniques=_uniques(connection, name, key) if has_one_writer else (),
        )
    return specs


def names(connection: sqlite3.Connection) -> dict[int, str]:
    """Number and name of each attached table, also of those that are gone from the schema."""
    rows = connection.execute(f"SELECT tid, name FROM main.{CATALOGUE} ORDER BY tid").fetchall()
    return {tid: _current_name(connection, tid, known_as) or known_as for tid, known_as in rows}


def names_if_there(connection: sqlite3.Connection) -> dict[int, str]:
    """`names`, of a database of which perhaps nothing is attached."""
    return names(connection) if is_there(connection) else {}


def add(connection: sqlite3.Connection, *, name: str, counters: tuple[str, ...], rule: MergeRule) -> TableSpec:
    """Enters a table, which is in the schema, and gives its spec. Inside the caller's transaction."""
    key_size = connection.execute("SELECT count(*) FROM pragma_table_xinfo(?, 'main') WHERE pk > 0", (name,)).fetchone()
    tid = _next_tid(connection)
    connection.execute(
        f"INSERT INTO main.{CATALOGUE} (tid, name, key_size, rule, floor, local_triggers) VALUES (?, ?, ?, ?, 0, 0)",
        (tid, name, *key_size, rule.value),
    )
    connection.executemany(
        f"INSERT INTO main.{COUNTERS} (tid, name) VALUES (?, ?)", [(tid, column) for column in counters]
    )
    return load(connection)[name]


def remove(connection: sqlite3.Connection, tid: int) -> None:
    """Takes a table out. Inside the caller's transaction."""
    connection.execute(f"DELETE FROM main.{COUNTERS} WHERE tid = ?", (tid,))
    connection.execute(f"DELETE FROM main.{CATALOGUE} WHERE tid = ?", (tid,))


def set_local_triggers(connection: sqlite3.Connection, spec: TableSpec, local: bool) -> None:
    """Notes what the application's triggers on a table write. Inside the caller's transaction."""
    connection.execute(f"UPDATE main.{CATALOGUE} SET local_triggers = ? WHERE tid = ?", (int(local), spec.tid))


def declared_counters(connection: sqlite3.Connection, tid: int) -> set[str]:
    """Names of its counters, in lower case, also of those that the schema has not, or not yet."""
    return _counters(connection, tid)


def declare_counters(connection: sqlite3.Connection, tid: int, names: Iterable[str]) -> None:
    """Columns of these names are counters, now or when they come. Inside the caller's transaction."""
    connection.executemany(
        f"INSERT OR IGNORE INTO main.{COUNTERS} (tid, name) VALUES (?, ?)", [(tid, name) for name in names]
    )


def set_rule(connection: sqlite3.Connection, spec: TableSpec, rule: MergeRule) -> None:
    """Changes a table's merge rule. Inside the caller's transaction."""
    connection.execute(f"UPDATE main.{CATALOGUE} SET rule = ? WHERE tid = ?", (rule.value, spec.tid))


def raise_floor(connection: sqlite3.Connection, spec: TableSpec, life: int) -> None:
    """Raises a table's floor to `life`, or leaves it where it is higher. Inside the caller's transaction."""
    connection.execute(f"UPDATE main.{CATALOGUE} SET floor = max(floor, ?) WHERE tid = ?", (life, spec.tid))


def _next_tid(connection: sqlite3.Connection) -> int:
    (tid,) = connection.execute(f"SELECT coalesce(max(tid), 0) + 1 FROM main.{CATALOGUE}").fetchone()
    return int(tid)


def _current_name(connection: sqlite3.Connection, tid: int, known_as: str) -> str | None:
    """The table's name in the schema now, or None if it is gone."""
    by_name = connection.execute(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name = ? COLLATE NOCASE", (known_as,)
    ).fetchone()
    by_trigger = (
        by_name
        or connection.execute(
            "SELECT t.name FROM main.sqlite_master g JOIN main.sqlite_master t"
            " ON t.type = 'table' AND t.name = g.tbl_name COLLATE NOCASE WHERE g.type = 'trigger' AND g.name = ?",
            (f"{OURS}_{tid}_insert",),
        ).fetchone()
    )
    return str(by_trigger[0]) if by_trigger else None


def _uniques(connection: sqlite3.Connection, name: str, key: tuple[str, ...]) -> tuple[UniqueIndex, ...]:
    """Attach refuses one with an expression; nothing is done for one that came later."""
    found = uniques(connection, name, {column.lower() for column in key})
    return tuple(index for index in found if not index.has_expression)


def _is_rowid_key(connection: sqlite3.Connection, name: str) -> bool:
    """Every other key has an index, also where the table itself is that index (WITHOUT ROWID)."""
    indexed = connection.execute("SELECT 1 FROM pragma_index_list(?, 'main') WHERE origin = 'pk'", (name,))
    return indexed.fetchone() is None


def _counters(connection: sqlite3.Connection, tid: int) -> set[str]:
    names = connection.execute(f"SELECT name FROM main.{COUNTERS} WHERE tid = ?", (tid,))
    return {name.lower() for (name,) in names}
