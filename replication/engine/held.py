"""What is merged but cannot be shown here, and what an insert collision lost.

A held cell is the winner for its cell: its clock and hash stand in the row's entry as for any other. It is kept apart
because this schema has no column of the name, or the column refuses the value (NOT NULL, STRICT, UNIQUE). `shown` is
the hash of what the row shows instead, if it shows anything: a fold that still finds that knows that nobody wrote
there. A row that could not be written at all has all its cells held, and a record of the name "" beside them.

Changes of a table that is not attached here are held as they came, and merged when it is. So is the floor of its
trimmed lives.

`lacking` are changes of an attached table that were merged but for some rows, which this node does not know. As a rule
an unknown row was deleted and trimmed, and its changes are dropped. But where a site is closed, what a changeset
depends on may not be here, and the row may come with somebody's state: its changes are merged then.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from replication.engine.stamps import Dot, Site, Stamp
from replication.engine.statements import Statement, holes
from replication.engine.values import Key, Value, canonical_key, fetch, pack, unpack

_COLUMNS: Final = """
CREATE TABLE IF NOT EXISTS _litecast_columns (
    tid INTEGER NOT NULL, id INTEGER NOT NULL, name TEXT NOT NULL, here INTEGER NOT NULL,
    PRIMARY KEY (tid, id)) WITHOUT ROWID"""
_HELD: Final = """
CREATE TABLE IF NOT EXISTS _litecast_held (
    tid INTEGER NOT NULL, key BLOB NOT NULL, name TEXT NOT NULL, value, shown BLOB, reason TEXT NOT NULL,
    PRIMARY KEY (tid, key, name)) WITHOUT ROWID"""
TABLES: Final = "_litecast_held_tables"
TABLES_SINCE_FORMAT_3: Final = {"lacking": "INTEGER NOT NULL DEFAULT 0"}
_TABLES: Final = f"""
CREATE TABLE IF NOT EXISTS {TABLES} (
    seq INTEGER PRIMARY KEY, name TEXT NOT NULL, site TEXT NOT NULL, upto INTEGER NOT NULL, body BLOB NOT NULL,
    lacking INTEGER NOT NULL DEFAULT 0)"""
_FLOORS: Final = "CREATE TABLE IF NOT EXISTS _litecast_floors (name TEXT PRIMARY KEY NOT NULL, floor INTEGER NOT NULL)"
_CONFLICTS: Final = """
CREATE TABLE IF NOT EXISTS _litecast_conflicts (
    id INTEGER PRIMARY KEY, tid INTEGER NOT NULL, key BLOB NOT NULL, stamp INTEGER NOT NULL, site TEXT NOT NULL,
    cells BLOB NOT NULL)"""
CREATE: Final = (_COLUMNS, _HELD, _TABLES, _FLOORS, _CONFLICTS)

ROW: Final = ""
"""Stands for a column's name in the record that says: the whole row is held. No column is called that."""

CONFLICTS_MAX: Final = 1_000
"""So many losers are kept, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldCell:
    """A value that cannot be shown. `shown` is the hash of what the row shows instead; None: no such column, or row."""

    value: Value
    shown: int | None
    reason: str


def is_any(connection: sqlite3.Connection, tid: int) -> bool:
    """True if anything of the table is held."""
    found = connection.execute("SELECT 1 FROM main._litecast_held WHERE tid = ? LIMIT 1", (tid,))
    return found.fetchone() is not None


def rows_mark(connection: sqlite3.Connection) -> tuple[int, object, object] | None:
    """What changes when other rows are held as a whole; None if none is."""
    found = "SELECT count(*), min(key), max(key) FROM main._litecast_held WHERE name = ?"
    count, first, last = connection.execute(found, (ROW,)).fetchone()
    return (count, first, last) if count else None


def of_key(connection: sqlite3.Connection, tid: int, key: Key) -> dict[str, HeldCell]:
    """What is held of a row, by column."""
    rows = fetch(
        connection,
        "SELECT name, value, shown, reason FROM main._litecast_held WHERE tid = ? AND key = ?",
        (tid, packed(key)),
    )
    return {
        name: HeldCell(value=value, shown=None if shown is None else int.from_bytes(shown, "little"), reason=reason)
        for name, value, shown, reason in rows
    }


def keys(connection: sqlite3.Connection, tid: int) -> list[Key]:
    """The rows of which something is held."""
    rows = connection.execute("SELECT DISTINCT key FROM main._litecast_held WHERE tid = ?", (tid,)).fetchall()
    return [unpack(key) for (key,) in rows]


_PUT = Statement(f"INSERT OR REPLACE INTO main._litecast_held VALUES ({holes(6)})")


def put(connection: sqlite3.Connection, tid: int, key: Key, name: str, cell: HeldCell) -> None:
    """Holds a cell, or with the name ROW the row."""
    shown = None if cell.shown is None else cell.shown.to_bytes(8, "little")
    _PUT.run(connection, (tid, packed(key), name, cell.value, shown, cell.reason))


def drop(connection: sqlite3.Connection, tid: int, key: Key, name: str | None = None) -> None:
    """Lets go of a cell, or of everything of a row."""
    if name is None:
        connection.execute("DELETE FROM main._litecast_held WHERE tid = ? AND key = ?", (tid, packed(key)))
    else:
        connection.execute(
            "DELETE FROM main._litecast_held WHERE tid = ? AND key = ? AND name = ?", (tid, packed(key), name)
        )


def packed(key: Key) -> bytes:
    """A key as one value: equal for keys that SQLite takes for equal."""
    return pack(canonical_key(key))


def keep_loser(connection: sqlite3.Connection, tid: int, key: Key, dot: Dot, cells: dict[str, Value]) -> bool:
    """Keeps what an insert lost to another of the same life. The oldest make room. False if it was kept before."""
    cursor = connection.execute(
        "INSERT INTO main._litecast_conflicts (tid, key, stamp, site, cells) SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS"
        " (SELECT 1 FROM main._litecast_conflicts WHERE tid = ?1 AND key = ?2 AND stamp = ?3 AND site = ?4)",
        (tid, packed(key), dot.stamp, dot.site, pack(tuple(cells.items()))),
    )
    if cursor.rowcount == 0:
        return False
    oldest = (cursor.lastrowid or 0) - CONFLICTS_MAX
    if oldest > 0:
        connection.execute("DELETE FROM main._litecast_conflicts WHERE id <= ?", (oldest,))
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBody:
    """What a changeset has of a table, held. `body` is for `decoding.decode_table`."""

    seq: int
    dot: Dot
    body: bytes
    lacking: bool


def hold_table(connection: sqlite3.Connection, name: str, dot: Dot, body: bytes, *, lacking: bool = False) -> None:
    """Holds what a changeset has of a table, as it came. Once, however often it comes."""
    connection.execute(
        f"INSERT INTO main.{TABLES} (name, site, upto, body, lacking) SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS"
        f" (SELECT 1 FROM main.{TABLES} WHERE name = ?1 AND site = ?2 AND upto = ?3 AND body = ?4)",
        (name, dot.site, dot.stamp, body, lacking),
    )


def waiting_tables(connection: sqlite3.Connection) -> set[str]:
    """Names of tables of which changes are held."""
    rows = connection.execute(f"SELECT DISTINCT name FROM main.{TABLES}")
    return {name for (name,) in rows}


def changes(
    connection: sqlite3.Connection, name: str, *, beyond: int = 0, lacking: bool | None = None
) -> Iterator[HeldBody]:
    """What is held of a table, in the order in which it came; with `lacking`, only what is lacking, or is not."""
    rows = connection.execute(
        f"SELECT seq, site, upto, body, lacking FROM main.{TABLES} WHERE name = ?1 AND seq > ?2"
        " AND lacking = coalesce(?3, lacking) ORDER BY seq",
        (name, beyond, lacking),
    )
    for seq, site, stamp, body, is_lacking in rows:
        yield HeldBody(seq=seq, dot=Dot(Stamp(stamp), Site(site)), body=body, lacking=bool(is_lacking))


def release(connection: sqlite3.Connection, seq: int) -> None:
    """Holds it no more."""
    connection.execute(f"DELETE FROM main.{TABLES} WHERE seq = ?", (seq,))


def forget_lacking(connection: sqlite3.Connection, before: Stamp) -> None:
    """Drops what lacks its row, of changesets before a stamp. Only looks if there is nothing. Commits by itself."""
    old = f"FROM main.{TABLES} WHERE lacking AND upto < ?"
    if connection.execute(f"SELECT 1 {old} LIMIT 1", (before,)).fetchone() is not None:
        connection.execute(f"DELETE {old}", (before,))


def floor(connection: sqlite3.Connection, name: str) -> int:
    """The floor of a table that is not attached here, as far as others told."""
    row = connection.execute("SELECT floor FROM main._litecast_floors WHERE name = ?", (name,)).fetchone()
    return 0 if row is None else int(row[0])


def floors(connection: sqlite3.Connection) -> set[str]:
    """Names of tables that are not attached here and have a floor."""
    return {name for (name,) in connection.execute("SELECT name FROM main._litecast_floors")}


def raise_floor(connection: sqlite3.Connection, name: str, life: int) -> None:
    """Raises the floor of a table that is not attached here."""
    if life > floor(connection, name):
        connection.execute("INSERT OR REPLACE INTO main._litecast_floors (name, floor) VALUES (?, ?)", (name, life))


def take_floor(connection: sqlite3.Connection, name: str) -> int:
    """The floor of a table that is being attached, which has one of its own from now on."""
    found = floor(connection, name)
    connection.execute("DELETE FROM main._litecast_floors WHERE name = ?", (name,))
    return found
