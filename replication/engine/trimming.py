"""Trimming: the journal by age and size, tombstones when nobody can need them any more.

**The journal** loses its oldest changesets first, of all sites together. A baseline, whose stamp is 0, is the oldest of
all: it goes when anything goes. Whoever needs what was trimmed gets a snapshot: trimming costs nothing but time. What a
closed site wrote goes at once, since nobody is served it.

**A tombstone** is what keeps an older insert of its row from bringing the row back. It can go when each known member
covers it, and this node covers everything that those members have: then no older insert is on its way to here. The
table's floor keeps its life: a new insert of the key begins a higher one. An older insert that comes all the same is of
somebody who knew nothing of the delete; then those who have the tombstone still tell of it (`again`). So it must not go
as long as the changeset that deleted is in the journal here: the journal is trimmed first, by the same age.

Both look first, without the write lock, and then delete in short transactions."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from replication.engine import catalogue, held
from replication.engine.capture import LogKind
from replication.engine.journal import contradicts
from replication.engine.known_tables import load_tables
from replication.engine.sites import Head, Sites, stamps_of, vector
from replication.engine.stamps import STAMP_MAX, Site, Stamp, first_after, stamp_at
from replication.engine.statements import HOLE, Statement
from replication.engine.table import Table
from replication.engine.transacting import transaction
from replication.engine.values import fetch

ROWS_AT_A_TIME: Final = 2_000
"""So many are deleted in one transaction: some milliseconds of write lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLimits:
    """How old a changeset may be, and how much all may be together."""

    max_age_ms: int
    max_bytes: int

    def used(self, *, age_ms: float, size: int) -> float:
        """How far on its way out a changeset is that is so old, and makes so many bytes with all later ones: 0 is not
        at all, and at 1 it goes."""
        return max(age_ms / self.max_age_ms, size / self.max_bytes)


def bytes_since(connection: sqlite3.Connection, stamp: Stamp) -> int:
    """What the journal has that is stamped so, or later. Reads as many rows as that is."""
    (total,) = connection.execute(
        "SELECT coalesce(sum(length(j.bytes)), 0) FROM main._litecast_sites s CROSS JOIN main._litecast_journal j"
        " ON j.site = s.short AND j.upto >= ?",
        (stamp,),
    ).fetchone()
    return int(total)


def trim_journal(
    connection: sqlite3.Connection,
    *,
    now_ms: int,
    max_age_ms: int,
    max_bytes: int,
    pinned: Mapping[Site, Stamp] | None = None,
) -> int:
    """Deletes changesets that are older than `max_age_ms`, and the oldest ones as long as the others are more than
    `max_bytes`; gives how many. Commits.

    `pinned` is how far somebody has come who is being served: what ends beyond that stays, and of a site that it does
    not name, all."""
    sites = connection.execute(
        "SELECT short, site, tips IS NOT NULL AND site != (SELECT site FROM main._litecast_state)"  # that is set aside
        " FROM main._litecast_sites"
    ).fetchall()
    closed = {short: STAMP_MAX for short, _, is_closed in sites if is_closed}
    deleted = _delete(connection, closed)
    cutoff = max(_by_age(connection, now_ms - max_age_ms), _by_size(connection, max_bytes))
    if cutoff < 0:
        return deleted
    limits = {
        short: Stamp(cutoff if pinned is None else min(cutoff, pinned.get(Site(site), first_after(Site(site)))))
        for short, site, _ in sites
        if short not in closed
    }
    return deleted + _delete(connection, limits)


def _delete(connection: sqlite3.Connection, limits: Mapping[int, Stamp]) -> int:
    """Deletes each site's changesets up to a stamp."""
    deleted = 0
    for short, limit in limits.items():
        if not connection.execute(
            "SELECT 1 FROM main._litecast_journal WHERE site = ? AND upto <= ? LIMIT 1", (short, limit)
        ).fetchone():
            continue
        while True:
            with transaction(connection):
                count = connection.execute(
                    "DELETE FROM main._litecast_journal WHERE site = ?1 AND upto IN (SELECT upto FROM"
                    " main._litecast_journal WHERE site = ?1 AND upto <= ?2 ORDER BY upto LIMIT ?3)",
                    (short, limit, ROWS_AT_A_TIME),
                ).rowcount
            deleted += count
            if count < ROWS_AT_A_TIME:
                break
    return deleted


def _by_age(connection: sqlite3.Connection, before_ms: int) -> int:
    """The stamp up to which everything is too old; -1 if nothing is. A baseline by itself is never too old."""
    if before_ms <= 0:
        return -1
    limit = stamp_at(before_ms) - 1
    (oldest,) = connection.execute(
        "SELECT max(upto) FROM main._litecast_journal WHERE upto > 0 AND upto <= ?", (limit,)
    ).fetchone()
    return -1 if oldest is None else int(oldest)


def _by_size(connection: sqlite3.Connection, max_bytes: int) -> int:
    """The stamp up to which there is more than may be kept; -1 if there is not."""
    (total,) = connection.execute("SELECT coalesce(sum(length(bytes)), 0) FROM main._litecast_journal").fetchone()
    cutoff = -1
    if total > max_bytes:
        for upto, length in connection.execute("SELECT upto, length(bytes) FROM main._litecast_journal ORDER BY upto"):
            total -= length
            cutoff = int(upto)
            if total <= max_bytes:
                break
    return cutoff


def trim_tombstones(
    connection: sqlite3.Connection,
    *,
    members: Sequence[Mapping[Site, Head]],
    settled: Collection[Site] = (),
    min_age_ms: int,
    now_ms: int,
) -> int:
    """Deletes tombstones that are older than `min_age_ms` and that nobody needs; gives how many. Commits.

    `members` is what each other known member has merged: all of them, for one that is left out might need what goes.
    One that has merged another history of a site has not seen what this node takes it to have seen: nothing goes then.
    `settled` are closed sites of which all of them have the tips that this node has: the deletes of other closed sites
    stay. Changes that lack their row for so long will not get it any more, and go as well."""
    own = stamps_of(vector(connection))
    all_sites = Sites(connection)
    if any(
        own.get(site, -2) < head.stamp or contradicts(connection, all_sites, site, head)
        for have in members
        for site, head in have.items()
    ):
        return 0
    before = stamp_at(max(now_ms - min_age_ms, 0))
    held.forget_lacking(connection, before)
    limits = {
        site: Stamp(min([stamp, *(have[site].stamp if site in have else -2 for have in members)]))
        for site, stamp in own.items()
    }
    limits |= dict.fromkeys(settled, STAMP_MAX)
    deleted = 0
    for name in load_tables(connection):
        count = ROWS_AT_A_TIME
        while count == ROWS_AT_A_TIME:
            with transaction(connection):
                table = load_tables(connection).get(name)
                count = 0 if table is None else _trim_table(table, Sites(connection), limits, before)
            deleted += count
    return deleted


def _trim_table(table: Table, sites: Sites, limits: Mapping[Site, Stamp], before: Stamp) -> int:
    """`limits`: up to which stamp a site's deletes are known to everybody."""
    size = len(table.spec.key)
    if not limits or table.logged(LogKind.AGAIN):  # a tombstone that is to be told again is needed until it is
        return 0
    cases = " ".join(f"WHEN {sites.short(site)} THEN {stamp}" for site, stamp in limits.items())
    dead = fetch(
        table.connection,
        f"SELECT {table.keys}, life FROM main.{table.spec.clock} WHERE life & 1 = 0 AND stamp < ?"
        f" AND stamp <= CASE site {cases} ELSE -2 END LIMIT ?",
        (before, ROWS_AT_A_TIME),
    )
    if not dead:
        return 0
    where = " AND ".join(f"{name} = {HOLE}" for name in table.spec.key_names)
    delete = Statement(f"DELETE FROM main.{table.spec.clock} WHERE {where}")
    delete.run_many(table.connection, [row[:size] for row in dead])
    catalogue.raise_floor(table.connection, table.spec, max(int(row[size]) for row in dead))
    return len(dead)
