"""What a node's database holds at a moment at which it can be compared with a restored one. Only reads.

Asked of the file, beside the node that has it open: who checks a backup had better not ask those who made it."""

import contextlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from replication.backup.fingerprints import fingerprints_inside
from replication.convergent.schemas import schemas_of
from replication.engine import epochs, state, tails
from replication.engine.folding import is_due
from replication.engine.sites import Head, known, stamps_of
from replication.engine.stamps import Site
from replication.engine.transacting import reading

BUSY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """All of one moment. `rows`: a digest of each attached table's."""

    vector: Mapping[Site, Head]
    closed: Mapping[Site, frozenset[Head]]
    schemas: Mapping[str, str]
    rows: Mapping[str, str]


class NotNow(Exception):
    """At this moment the database cannot be compared; the text says why. It can be asked again."""


class NothingAttached(Exception):
    """Nothing of the database is attached, so there is nothing that a backup could have."""


def opened(path: Path) -> sqlite3.Connection:
    """A connection to a database that others write, for any thread. Raises sqlite3.Error."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False)


def outline(path: Path) -> Live:
    """What there is but for the rows: read at once. Raises NothingAttached, NotNow, sqlite3.Error."""
    return _read(path, rows=False)


def live(path: Path) -> Live:
    """What there is. Reads all rows, some seconds for each million. Raises as `outline`."""
    return _read(path, rows=True)


def _read(path: Path, *, rows: bool) -> Live:
    with contextlib.closing(opened(path)) as connection, reading(connection):
        try:
            if state.read(connection) is None:
                raise NothingAttached
        except sqlite3.OperationalError as error:
            if "no such" in str(error):
                raise NothingAttached from None
            raise
        if is_due(connection):
            raise NotNow("something was written that no node has looked at yet: is the node running?")
        sites, epoch = known(connection), epochs.read(connection)
        if sites.seen or sites.parts:
            raise NotNow("rows came from a peer whose changes have not come yet")
        if epoch is not None and (tails.is_resetting(connection) or epoch.tail_of(stamps_of(sites.vector))):
            raise NotNow("it has what it wrote after another node had become the primary")
        return Live(
            vector=sites.vector,
            closed=sites.closed,
            schemas=schemas_of(connection),
            rows=fingerprints_inside(connection) if rows else {},
        )
