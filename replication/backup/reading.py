"""What of the journal is not in the bucket yet: the next changesets of a site, and from which stamp on. Only reads."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from replication.backup.batches import BATCH_BYTES, BATCH_MAX_COUNT
from replication.engine.stamps import Site, Stamp, first_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """The next changesets of a site, as many as an object takes. `joins`: whether the journal still has the first one
    that the bucket lacks; if it has not, only a snapshot brings what is beyond. `is_another`: the history here goes on
    past the end of the one in the bucket: there are two."""

    changesets: tuple[bytes, ...]
    joins: bool
    is_another: bool = False


def lacking(connection: sqlite3.Connection, site: Site, *, beyond: Stamp, upto: Stamp) -> Lacking:
    """What the bucket lacks of a site of which it has what ends at `beyond`, no further than `upto`."""
    rows = connection.execute(
        "SELECT j.after, length(j.bytes), j.rowid FROM main._litecast_journal j JOIN main._litecast_sites s"
        " ON s.short = j.site WHERE s.site = ? AND j.upto > ? AND j.upto <= ? ORDER BY j.upto LIMIT ?",
        (site, beyond, upto, BATCH_MAX_COUNT),
    )
    found: list[int] = []
    size = 0
    for after, length, rowid in rows:
        if not found and after != beyond:
            return Lacking(changesets=(), joins=False, is_another=after < beyond)
        if found and size + length > BATCH_BYTES:
            break
        found.append(rowid)
        size += length
    rows.close()
    changesets = [_bytes(connection, rowid) for rowid in found]
    return Lacking(
        changesets=tuple(one for one in changesets if one is not None), joins=bool(found) and None not in changesets
    )


def _bytes(connection: sqlite3.Connection, rowid: int) -> bytes | None:
    row = connection.execute("SELECT bytes FROM main._litecast_journal WHERE rowid = ?", (rowid,)).fetchone()
    return None if row is None else bytes(row[0])  # trimmed in between


def first_lacking(
    connection: sqlite3.Connection, heads: Mapping[Site, Stamp], uploaded: Mapping[Site, Stamp]
) -> dict[Site, Stamp]:
    """Of each site that is further here than in the bucket, the stamp of the first changeset that is not there.

    Where the journal no longer has that one, the stamp up to which it is there: nothing after that counts as there."""
    found: dict[Site, Stamp] = {}
    for site, head in heads.items():
        at = uploaded.get(site, first_after(site))
        if head <= at:
            continue
        row = connection.execute(
            "SELECT j.after, j.upto FROM main._litecast_journal j JOIN main._litecast_sites s ON s.short = j.site"
            " WHERE s.site = ? AND j.upto > ? ORDER BY j.upto LIMIT 1",
            (site, at),
        ).fetchone()
        found[site] = Stamp(row[1]) if row is not None and row[0] == at else at
    return found


def last_upto(connection: sqlite3.Connection, sites: Iterable[Site], limit: Stamp) -> dict[Site, Stamp]:
    """The stamp of each site's last changeset that is stamped no later than a limit, if the journal has it."""
    found: dict[Site, Stamp] = {}
    for site in sites:
        (upto,) = connection.execute(
            "SELECT max(j.upto) FROM main._litecast_journal j JOIN main._litecast_sites s ON s.short = j.site"
            " WHERE s.site = ? AND j.upto <= ?",
            (site, limit),
        ).fetchone()
        if upto is not None:
            found[site] = Stamp(upto)
    return found
