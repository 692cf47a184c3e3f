"""Which generation of itself a database is: another one after each time that rows changed by something no changeset
tells of.

That is: a peer's state that was merged to heal drift or a fork, damaged rows that were restored, a site that was
closed. Whoever follows the changesets has to look at the rows again then. A snapshot for who is beyond the journal
needs no new generation: it moves heads past what the journal has, which tells the same.

The first generation is the empty text, on every node. Each further one is a hash of the one before, the site and the
clock, so that no two nodes come to the same."""

import hashlib
import sqlite3
from typing import Final

COLUMN: Final = {"generation": "TEXT"}
"""Of `_litecast_state`."""

DIGITS: Final = 16
FIRST: Final = ""


def read(connection: sqlite3.Connection) -> str:
    """The generation of an attached database."""
    (found,) = connection.execute("SELECT generation FROM main._litecast_state WHERE id = 1").fetchone()
    return FIRST if found is None else str(found)


def advance(connection: sqlite3.Connection) -> None:
    """Begins another one. In the transaction that changes the rows."""
    site, clock = connection.execute("SELECT site, clock FROM main._litecast_state WHERE id = 1").fetchone()
    content = f"{read(connection)} {site} {clock}".encode()
    following = hashlib.blake2b(content, digest_size=DIGITS // 2).hexdigest()
    connection.execute("UPDATE main._litecast_state SET generation = ? WHERE id = 1", (following,))
