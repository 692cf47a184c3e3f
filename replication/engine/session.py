"""What the transaction at work knows: state, sites, and the attached tables as the schema is now."""

import sqlite3
from dataclasses import dataclass, field
from typing import Final

from replication.engine import state
from replication.engine.known_tables import AttachedTables, KnownTables
from replication.engine.progress import Progress
from replication.engine.runs import run_of
from replication.engine.sites import Sites
from replication.engine.stamps import Site, Stamp
from replication.engine.table import Table

NOTHING_FORGOTTEN: Final = Stamp(0)
"""Nobody trims."""


class NotAttached(Exception):
    """Nothing of the database is attached."""

    def __init__(self) -> None:
        super().__init__("nothing of this database is attached; name its tables with `litecast attach`")


class NeedsCare(Exception):
    """A merge in haste came upon a row that is not as it supposed. Roll back, and begin again with care."""


@dataclass(slots=True, kw_only=True)
class Session:
    """Lives as long as one transaction. `clock` moves in it, and is written at its end by whoever moved it."""

    connection: sqlite3.Connection
    cluster: str
    site: Site
    run: bytes
    """The run at work, by its nonce: see `runs`."""
    clock: Stamp
    schema: int
    """schema_version when the schema was last looked at."""
    schema_now: int
    """schema_version when the transaction began."""
    sites: Sites
    attached: AttachedTables
    forgets_before: Stamp = NOTHING_FORGOTTEN
    """Deletes that are older may have been forgotten by others: see `again`."""
    progress: Progress = field(default_factory=Progress)
    """Is told how far the transaction is."""
    in_haste: bool = False
    """Rows that another site inserts are taken for new, and what is written for accepted, until NeedsCare is raised:
    then the transaction has to be rolled back. Looking first and keeping a savepoint cost as much again."""

    @property
    def tables(self) -> dict[str, Table]:
        """The attached tables by name."""
        return self.attached.by_name

    @property
    def is_schema_new(self) -> bool:
        """Whether it has to be looked at again: see `looking`."""
        return self.schema_now != self.schema


def open_session(connection: sqlite3.Connection, known: KnownTables | None = None) -> Session:
    """A session of the transaction that was begun. Raises NotAttached, and OldFormat if nobody upgraded it.

    `known`: what the connection keeps of its tables; it is given them back with `KnownTables.keep` after the commit."""
    found = state.read(connection)
    if found is None:
        raise NotAttached
    if found.format < state.NEWEST_FORMAT:
        raise state.OldFormat(found.format)
    schema_now = state.schema_version(connection)
    return Session(
        connection=connection,
        cluster=found.cluster,
        site=found.site,
        run=run_of(found.nonce),
        clock=found.clock,
        schema=found.schema,
        schema_now=schema_now,
        sites=Sites(connection),
        attached=AttachedTables(connection) if known is None else known.take(connection, schema_now),
    )


def move_clock(session: Session, stamp: Stamp) -> None:
    """The clock is not behind `stamp` any more."""
    if stamp > session.clock:
        session.clock = stamp
        state.write_clock(session.connection, stamp)
