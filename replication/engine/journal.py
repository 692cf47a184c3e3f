"""Changesets by (site, upto), own and merged, their bytes as their origin made them: what a peer is served."""

import sqlite3
from dataclasses import dataclass

from replication.engine.stamps import Stamp

CREATE = """
CREATE TABLE IF NOT EXISTS _litecast_journal (
    site INTEGER NOT NULL, upto INTEGER NOT NULL, after INTEGER NOT NULL, hash BLOB NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (site, upto))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journaled:
    """A changeset in the journal. `site` is the short number."""

    site: int
    after: Stamp
    upto: Stamp
    digest: bytes


def append(connection: sqlite3.Connection, entry: Journaled, encoded: bytes) -> None:
    """Keeps a changeset. Its site has none with this upto yet."""
    connection.execute(
        "INSERT INTO main._litecast_journal (site, upto, after, hash, bytes) VALUES (?, ?, ?, ?, ?)",
        (entry.site, entry.upto, entry.after, entry.digest, encoded),
    )


def spanning(connection: sqlite3.Connection, site: int, stamp: Stamp) -> Journaled | None:
    """The site's changeset in whose range `(after, upto]` the stamp lies, if the journal still has it."""
    row = connection.execute(
        "SELECT after, upto, hash FROM main._litecast_journal WHERE site = ? AND upto >= ? ORDER BY upto LIMIT 1",
        (site, stamp),
    ).fetchone()
    if row is None or row[0] >= stamp:
        return None
    return Journaled(site=site, after=Stamp(row[0]), upto=Stamp(row[1]), digest=row[2])


def read(connection: sqlite3.Connection, site: int, *, after: Stamp) -> list[bytes]:
    """The site's changesets that end beyond `after`, in their order."""
    rows = connection.execute(
        "SELECT bytes FROM main._litecast_journal WHERE site = ? AND upto > ? ORDER BY upto", (site, after)
    )
    return [encoded for (encoded,) in rows]
