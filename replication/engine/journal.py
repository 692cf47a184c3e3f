"""Changesets by (site, upto), own and merged, their bytes as their origin made them: what a peer is served."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from replication.engine.stamps import Site, Stamp

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of what a peer lacks. `beyond`: sites whose journal does not reach back to what the peer has."""

    changesets: tuple[bytes, ...]
    more: bool
    beyond: frozenset[Site]


def page(connection: sqlite3.Connection, have: Mapping[Site, Stamp], *, max_bytes: int, max_count: int) -> Page:
    """Changesets beyond `have`, of all sites, in the order of their stamps, which is a causal one."""
    rows = connection.execute(
        "SELECT s.site, j.upto, length(j.bytes) FROM main._litecast_journal j JOIN main._litecast_sites s"
        " ON s.short = j.site ORDER BY j.upto, s.site"
    )
    found: list[bytes] = []
    size = 0
    for site, upto, length in rows:
        if upto <= have.get(Site(site), -2):
            continue
        if found and (size + length > max_bytes or len(found) >= max_count):
            return Page(changesets=tuple(found), more=True, beyond=frozenset())
        (encoded,) = connection.execute(
            "SELECT j.bytes FROM main._litecast_journal j JOIN main._litecast_sites s ON s.short = j.site"
            " WHERE s.site = ? AND j.upto = ?",
            (site, upto),
        ).fetchone()
        found.append(encoded)
        size += length
    return Page(changesets=tuple(found), more=False, beyond=frozenset())
