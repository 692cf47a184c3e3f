"""What the transaction at work knows: state, sites, and the attached tables as the schema is now."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from replication.engine import catalogue, state
from replication.engine.columns import Columns
from replication.engine.entries import Shapes
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
    sites: Sites
    tables: dict[str, Table]
    forgets_before: Stamp = NOTHING_FORGOTTEN
    """Deletes that are older may have been forgotten by others: see `again`."""
    in_haste: bool = False
    """Rows that another site inserts are taken for new, and what is written for accepted, until NeedsCare is raised:
    then the transaction has to be rolled back. Looking first and keeping a savepoint cost as much again."""


def open_session(connection: sqlite3.Connection) -> Session:
    """A session of the transaction that was begun. Raises NotAttached, and OldFormat if nobody upgraded it."""
    found = state.read(connection)
    if found is None:
        raise NotAttached
    if found.format < state.NEWEST_FORMAT:
        raise state.OldFormat(found.format)
    return Session(
        connection=connection,
        cluster=found.cluster,
        site=found.site,
        run=run_of(found.nonce),
        clock=found.clock,
        schema=found.schema,
        sites=Sites(connection),
        tables=load_tables(connection),
    )


def load_tables(connection: sqlite3.Connection) -> dict[str, Table]:
    """The attached tables by name."""
    shapes = Shapes()
    return {
        name: Table(connection, spec, Columns(connection, spec.tid), shapes)
        for name, spec in catalogue.load(connection).items()
    }


def move_clock(session: Session, stamp: Stamp) -> None:
    """The clock is not behind `stamp` any more."""
    if stamp > session.clock:
        session.clock = stamp
        state.write_clock(session.connection, stamp)
