"""Whose database this is: one row in `_litecast_state`.

Format 1 has only `id` and `format`: a node opened the database, and nothing of it is attached. Format 2 is written by
attach, into the same table. A database with a larger number is refused by whoever opens it."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from replication.engine import held, journal, sites
from replication.engine.stamps import Site, Stamp

PLAIN_FORMAT: Final = 1
ATTACHED_FORMAT: Final = 2
NEWEST_FORMAT: Final = ATTACHED_FORMAT

TABLES: Final = (
    "_litecast_state",
    "_litecast_sites",
    "_litecast_journal",
    "_litecast_columns",
    "_litecast_held",
    "_litecast_held_tables",
    "_litecast_conflicts",
)
"""The tables that `create` makes. The catalogue and what belongs to a single attached table are made elsewhere."""

_PLAIN = "CREATE TABLE IF NOT EXISTS _litecast_state (id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER NOT NULL)"
_COLUMNS: Final = {
    "cluster": "TEXT",
    "site": "TEXT",
    "nonce": "BLOB",
    "clock": "INTEGER",
    "journal_mode": "TEXT",
    "schema": "INTEGER",
}


class AnotherCluster(Exception):
    """The database carries the id of another cluster."""

    def __init__(self, found: str, wanted: str) -> None:
        self.found = found
        self.wanted = wanted
        super().__init__(
            f"the database belongs to cluster {found}, not {wanted}; detach it first, or take another file"
        )


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


def create_plain(connection: sqlite3.Connection) -> None:
    """The table of a database of which nothing is attached. Inside a transaction."""
    connection.execute(_PLAIN)
    connection.execute(
        "INSERT OR IGNORE INTO main._litecast_state (id, format) VALUES (1, ?)",
        (PLAIN_FORMAT,),
    )


def create(connection: sqlite3.Connection, *, cluster: str, site: Site, nonce: bytes, journal_mode_found: str) -> State:
    """State and the tables that belong to no single table, made or brought to format 2. Inside a transaction.

    Where they are already there, their values stay; `AnotherCluster` is raised if they are another cluster's.
    """
    create_plain(connection)
    there = {name for (name,) in connection.execute("SELECT name FROM pragma_table_info('_litecast_state')")}
    for column, affinity in _COLUMNS.items():
        if column not in there:
            connection.execute(f"ALTER TABLE main._litecast_state ADD COLUMN {column} {affinity}")
    for statement in (sites.CREATE, journal.CREATE, *held.CREATE):
        connection.execute(statement)
    found = read(connection)
    if found is not None and found.cluster != cluster:
        raise AnotherCluster(found.cluster, cluster)
    if found is None:
        connection.execute(
            "UPDATE main._litecast_state SET format = ?, cluster = ?, site = ?, nonce = ?, clock = 0, "
            "journal_mode = ?, schema = -1 WHERE id = 1",
            (ATTACHED_FORMAT, cluster, site, nonce, journal_mode_found),
        )
        found = read(connection)
        assert found is not None
    sites.Sites(connection).short(found.site)
    return found


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
    if row is None or row[0] < ATTACHED_FORMAT:
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
