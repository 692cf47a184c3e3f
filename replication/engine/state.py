"""Whose database this is: one row in `_litecast_state`.

Format 1 has only `id` and `format`: a node opened the database, and nothing of it is attached; and `journal_mode`, as
it was, from when a node has opened it to attach it until it has. Format 5 is written by attach, into the same table.
Format 2 was that of a Litecast that could not move state from node to node yet, format 3 of one that knew of no renamed
and filled columns, and had no change feed, format 4 of one that did not note the runs of a site; `upgrade` adds what
they lack. A database with a larger number is refused by whoever opens it."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from replication.engine import filling, generation, held, journal, renaming, sites
from replication.engine.stamps import Site, Stamp
from replication.engine.transacting import transaction

PLAIN_FORMAT: Final = 1
OLDEST_ATTACHED_FORMAT: Final = 2
NEWEST_FORMAT: Final = 5

TABLES: Final = (
    "_litecast_state",
    "_litecast_sites",
    "_litecast_journal",
    "_litecast_columns",
    "_litecast_held",
    "_litecast_held_tables",
    "_litecast_floors",
    "_litecast_conflicts",
    filling.TABLE,
    renaming.TABLE,
)
"""The tables that `create` makes. The catalogue and what belongs to a single attached table are made elsewhere."""

_PLAIN = "CREATE TABLE IF NOT EXISTS _litecast_state (id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER NOT NULL)"
_MODE: Final = "journal_mode"
_COLUMNS: Final = {
    "cluster": "TEXT",
    "site": "TEXT",
    "nonce": "BLOB",
    "clock": "INTEGER",
    _MODE: "TEXT",
    "schema": "INTEGER",
    **generation.COLUMN,
}
_ADDED: Final = {
    sites.TABLE: sites.SINCE_FORMAT_3,
    held.TABLES: held.TABLES_SINCE_FORMAT_3,
    "_litecast_state": generation.COLUMN,
}
"""Columns that tables of older formats may lack, with their declarations."""


class AnotherCluster(Exception):
    """The database carries the id of another cluster."""

    def __init__(self, found: str, wanted: str) -> None:
        self.found = found
        self.wanted = wanted
        super().__init__(
            f"the database belongs to cluster {found}, not {wanted}; detach it first, or take another file"
        )


class OldFormat(Exception):
    """The database is as an older Litecast left it."""

    def __init__(self, found: int) -> None:
        self.found = found
        super().__init__(f"the database has format {found}; a node upgrades it when it opens it")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The row. `schema` is SQLite's schema_version when the schema was last looked at."""

    format: int
    cluster: str
    site: Site
    nonce: bytes
    clock: Stamp
    journal_mode_found: str
    schema: int


def create_plain(connection: sqlite3.Connection, *, journal_mode_found: str | None = None) -> None:
    """The table of a database of which nothing is attached. Inside a transaction.

    `journal_mode_found`: the database is opened to be attached by the same run, and this is how it was before."""
    connection.execute(_PLAIN)
    connection.execute("INSERT OR IGNORE INTO main._litecast_state (id, format) VALUES (1, ?)", (PLAIN_FORMAT,))
    if journal_mode_found is not None:
        _add_columns(connection, "_litecast_state", {_MODE: _COLUMNS[_MODE]})
        connection.execute(f"UPDATE main._litecast_state SET {_MODE} = ? WHERE id = 1", (journal_mode_found,))


def plain(connection: sqlite3.Connection) -> tuple[int, str | None] | None:
    """Of a database of which nothing is attached: the format, and the `journal_mode_found` of `create_plain`."""
    there = connection.execute("SELECT name FROM pragma_table_info('_litecast_state', 'main')").fetchall()
    if not there:
        return None
    mode = _MODE if (_MODE,) in there else "NULL"
    found: tuple[int, str | None] | None
    found = connection.execute(f"SELECT format, {mode} FROM main._litecast_state WHERE id = 1").fetchone()
    return found


def create(connection: sqlite3.Connection, *, cluster: str, site: Site, nonce: bytes, journal_mode_found: str) -> State:
    """State and the tables that belong to no single table, made or brought to the newest format. In a transaction.

    Where they are already there, their values stay; `AnotherCluster` is raised if they are another cluster's.
    """
    create_plain(connection)
    _add_columns(connection, "_litecast_state", _COLUMNS)
    for statement in (sites.CREATE, journal.CREATE, *held.CREATE, filling.CREATE, renaming.CREATE):
        connection.execute(statement)
    upgrade_inside(connection)
    found = read(connection)
    if found is not None and found.cluster != cluster:
        raise AnotherCluster(found.cluster, cluster)
    if found is None:
        connection.execute(
            "UPDATE main._litecast_state SET format = ?, cluster = ?, site = ?, nonce = ?, clock = 0, "
            "journal_mode = ?, schema = -1 WHERE id = 1",
            (NEWEST_FORMAT, cluster, site, nonce, journal_mode_found),
        )
        found = read(connection)
        assert found is not None
    sites.Sites(connection).short(found.site)
    return found


def upgrade(connection: sqlite3.Connection) -> bool:
    """Brings what an older Litecast attached to the newest format: True if there was something to do. Commits.

    Only reads if there is not. Called by whoever opens a database, before anything else of the engine's. Raises
    sqlite3.OperationalError (the lock, the disk), with nothing changed."""
    found = read(connection)
    if found is None or found.format >= NEWEST_FORMAT:
        return False
    with transaction(connection):
        return upgrade_inside(connection)


def upgrade_inside(connection: sqlite3.Connection) -> bool:
    """`upgrade` in the transaction at work."""
    found = read(connection)
    if found is None or found.format >= NEWEST_FORMAT:
        return False
    for statement in (*held.CREATE, filling.CREATE, renaming.CREATE):
        connection.execute(statement)
    for table, columns in _ADDED.items():
        _add_columns(connection, table, columns)
    connection.execute("UPDATE main._litecast_state SET format = ? WHERE id = 1", (NEWEST_FORMAT,))
    return True


def _add_columns(connection: sqlite3.Connection, table: str, columns: Mapping[str, str]) -> None:
    there = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?, 'main')", (table,))}
    for column, declared in columns.items():
        if column not in there:
            connection.execute(f"ALTER TABLE main.{table} ADD COLUMN {column} {declared}")


def read(connection: sqlite3.Connection) -> State | None:
    """The state, or None if nothing of the database is attached."""
    try:
        row = connection.execute(
            "SELECT format, cluster, site, nonce, clock, journal_mode, schema FROM main._litecast_state WHERE id = 1"
        ).fetchone()
    except sqlite3.OperationalError as error:
        if "no such" in str(error):  # table, or column: format 1
            return None
        raise
    if row is None or row[0] < OLDEST_ATTACHED_FORMAT:
        return None
    form, cluster, site, nonce, clock, journal_mode, schema = row
    return State(
        format=form,
        cluster=cluster,
        site=Site(site),
        nonce=nonce,
        clock=Stamp(clock),
        journal_mode_found=journal_mode,
        schema=schema,
    )


def write_clock(connection: sqlite3.Connection, clock: Stamp) -> None:
    """Moves the clock."""
    connection.execute("UPDATE main._litecast_state SET clock = ? WHERE id = 1", (clock,))


def write_schema(connection: sqlite3.Connection, version: int) -> None:
    """The schema was looked at when schema_version was this."""
    connection.execute("UPDATE main._litecast_state SET schema = ? WHERE id = 1", (version,))


def write_site(connection: sqlite3.Connection, site: Site) -> None:
    """Goes on under a new site. Its first changeset will name the whole vector."""
    connection.execute("UPDATE main._litecast_state SET site = ? WHERE id = 1", (site,))
    sites.Sites(connection).short(site)


def write_nonce(connection: sqlite3.Connection, nonce: bytes) -> None:
    """A run began."""
    connection.execute("UPDATE main._litecast_state SET nonce = ? WHERE id = 1", (nonce,))


def schema_version(connection: sqlite3.Connection) -> int:
    """SQLite's own count of schema changes, by whomever."""
    (version,) = connection.execute("PRAGMA main.schema_version").fetchone()
    return int(version)


def drop(connection: sqlite3.Connection) -> None:
    """Removes what `create` made. Inside a transaction."""
    for table in TABLES:
        connection.execute(f"DROP TABLE IF EXISTS main.{table}")
