"""Changesets by (site, upto), own and merged, their bytes as their origin made them: what a peer is served."""

import heapq
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final

from replication.engine.runs import Place
from replication.engine.sites import Head, Sites
from replication.engine.stamps import Site, Stamp, first_after
from replication.engine.values import Value

CREATE = """
CREATE TABLE IF NOT EXISTS _litecast_journal (
    site INTEGER NOT NULL, upto INTEGER NOT NULL, after INTEGER NOT NULL, hash BLOB NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (site, upto))"""

PIECE_BYTES: Final = 1024 * 1024
"""A changeset that is larger is written and read in pieces of this size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journaled:
    """A changeset in the journal. `site` is the short number."""

    site: int
    after: Stamp
    upto: Stamp
    digest: bytes


def append(connection: sqlite3.Connection, entry: Journaled, encoded: bytes) -> None:
    """Keeps a changeset. Its site has none with this upto yet."""
    append_all(connection, [(entry, encoded)])


def append_all(connection: sqlite3.Connection, entries: Iterable[tuple[Journaled, bytes]]) -> None:
    """`append` for many."""
    small: list[tuple[Value, ...]] = []
    for entry, encoded in entries:
        row = (entry.site, entry.upto, entry.after, entry.digest)
        if len(encoded) <= PIECE_BYTES:
            small.append((*row, encoded))
            continue
        # Binding it, and making a row of it, would take its size in memory each.
        added = connection.execute(f"{_INSERT}, zeroblob(?))", (*row, len(encoded)))
        assert added.lastrowid is not None
        with connection.blobopen("_litecast_journal", "bytes", added.lastrowid) as blob:
            for start in range(0, len(encoded), PIECE_BYTES):
                blob.write(encoded[start : start + PIECE_BYTES])
    connection.executemany(f"{_INSERT}, ?)", small)


_INSERT: Final = "INSERT INTO main._litecast_journal (site, upto, after, hash, bytes) VALUES (?, ?, ?, ?"


def spanning(connection: sqlite3.Connection, site: int, stamp: Stamp) -> Journaled | None:
    """The site's changeset in whose range `(after, upto]` the stamp lies, if the journal still has it."""
    row = connection.execute(
        "SELECT after, upto, hash FROM main._litecast_journal WHERE site = ? AND upto >= ? ORDER BY upto LIMIT 1",
        (site, stamp),
    ).fetchone()
    if row is None or row[0] >= stamp:
        return None
    return Journaled(site=site, after=Stamp(row[0]), upto=Stamp(row[1]), digest=row[2])


def contradicts(connection: sqlite3.Connection, sites: Sites, site: Site, theirs: Head) -> bool:
    """True if somebody's head is of another history of the site than the one here. False if it is beyond the own one:
    then only who has it can tell.

    Where the journal reaches back to it, it shows that. Where it does not, the runs tell."""
    mine = sites.head(site)
    if mine is None or theirs.stamp > mine.stamp:
        return False
    if theirs.stamp == mine.stamp:
        return theirs.digest != mine.digest
    there = spanning(connection, sites.short(site), theirs.stamp)
    if there is not None:
        return there.upto != theirs.stamp or there.digest != theirs.digest
    return sites.place(site, stamp=theirs.stamp, run=theirs.run) is not Place.WITHIN


def one(connection: sqlite3.Connection, site: Site, upto: Stamp) -> bytes | None:
    """The site's changeset that ends at `upto`, if the journal still has it."""
    row = connection.execute(
        "SELECT bytes FROM main._litecast_journal WHERE upto = ?"
        " AND site = (SELECT short FROM main._litecast_sites WHERE site = ?)",
        (upto, site),
    ).fetchone()
    return None if row is None else bytes(row[0])


def piece(connection: sqlite3.Connection, site: Site, upto: Stamp, *, at: int, size: int) -> bytes | None:
    """So many bytes of the site's changeset that ends at `upto`, from an offset on, if the journal still has it."""
    row = connection.execute(
        "SELECT rowid FROM main._litecast_journal WHERE upto = ?"
        " AND site = (SELECT short FROM main._litecast_sites WHERE site = ?)",
        (upto, site),
    ).fetchone()
    if row is None:
        return None
    with connection.blobopen("_litecast_journal", "bytes", row[0], readonly=True) as blob:
        blob.seek(at)
        return blob.read(size)


def read(connection: sqlite3.Connection, site: int, *, after: Stamp) -> list[bytes]:
    """The site's changesets that end beyond `after`, in their order."""
    rows = connection.execute(
        "SELECT bytes FROM main._litecast_journal WHERE site = ? AND upto > ? ORDER BY upto", (site, after)
    )
    return [encoded for (encoded,) in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A changeset as a peer gets it. One of more than PIECE_BYTES is not read yet: `piece` reads it."""

    site: Site
    upto: Stamp
    size: int
    encoded: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some of what a peer lacks. `more`: there is more in the journal. `beyond`: sites whose journal here does not join
    what the peer has to what this node has, so that the peer needs a snapshot."""

    changesets: tuple[Served, ...]
    more: bool
    beyond: frozenset[Site]


def page(
    connection: sqlite3.Connection,
    have: Mapping[Site, Stamp],
    *,
    max_bytes: int,
    max_count: int,
) -> Page:
    """Changesets beyond `have`, of all sites but the closed ones, in the order of their stamps.

    That is a causal order, for a changeset's stamp is later than all that its site had merged. There is always one, if
    there is any, however large. What joins no longer to what comes before it was trimmed, or jumped over by a snapshot:
    nothing of that site is served from there on. In one read transaction."""
    connection.execute("BEGIN")
    try:
        return page_inside(connection, have, max_bytes=max_bytes, max_count=max_count)
    finally:
        connection.execute("ROLLBACK")


def page_inside(connection: sqlite3.Connection, have: Mapping[Site, Stamp], *, max_bytes: int, max_count: int) -> Page:
    """`page` in the read transaction at work."""
    reach: dict[int, Stamp] = {}
    heads: dict[int, Stamp] = {}
    names: dict[int, Site] = {}
    for short, name, head in connection.execute(
        "SELECT short, site, head FROM main._litecast_sites WHERE head IS NOT NULL AND tips IS NULL"
    ).fetchall():
        site = Site(name)
        at = have.get(site, first_after(site))
        if head > at:
            reach[short], heads[short], names[short] = at, Stamp(head), site
    found: list[Served] = []
    size = 0
    beyond: set[int] = set()
    joining: list[Iterator[tuple[int, Site, int, int, int]]] = []
    for short, at in reach.items():
        rows = _beyond(connection, names[short], short, at)
        first = next(rows, None)
        if first is None or first[3] > at:
            beyond.add(short)  # said at once, and not where its turn would come: others depend on it
        else:
            joining.append(chain([first], rows))
    for upto, _, short, after, length in heapq.merge(*joining):
        if short in beyond:
            continue
        if after > reach[short]:
            beyond.add(short)
            continue
        if found and (size + length > max_bytes or len(found) >= max_count):
            return Page(changesets=tuple(found), more=True, beyond=frozenset(names[short] for short in beyond))
        encoded: bytes | None = None
        if length <= PIECE_BYTES:
            (encoded,) = connection.execute(
                "SELECT bytes FROM main._litecast_journal WHERE site = ? AND upto = ?", (short, upto)
            ).fetchone()
        found.append(Served(site=names[short], upto=Stamp(upto), size=length, encoded=encoded))
        size += length
        reach[short] = Stamp(upto)
    beyond.update(short for short, head in heads.items() if reach[short] < head)
    return Page(changesets=tuple(found), more=False, beyond=frozenset(names[short] for short in beyond))


def state_bytes(connection: sqlite3.Connection) -> int:
    """About how large all that a snapshot tells is: the database without its journal. Reads the length of each
    changeset there, but not its bytes."""
    (pages,), (free,), (page_bytes,) = (
        connection.execute(f"PRAGMA main.{what}").fetchone() for what in ("page_count", "freelist_count", "page_size")
    )
    (journal,) = connection.execute("SELECT coalesce(sum(length(bytes)), 0) FROM main._litecast_journal").fetchone()
    return max(0, int((pages - free) * page_bytes - journal))


def _beyond(
    connection: sqlite3.Connection, name: Site, short: int, at: Stamp
) -> Iterator[tuple[int, Site, int, int, int]]:
    """Stamp, site, short number, `after` and length of a site's changesets that end beyond `at`, as they are needed."""
    yield from (
        (upto, name, short, after, length)
        for upto, after, length in connection.execute(
            "SELECT upto, after, length(bytes) FROM main._litecast_journal WHERE site = ? AND upto > ? ORDER BY upto",
            (short, at),
        )
    )
