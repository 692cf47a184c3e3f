"""The sites known here: a short number for each, and how far each has been merged. The heads together are the vector.

A head is the stamp and the hash of the site's last changeset here. A site without a head is only known by name: a
counter or a clock mentions it. `noted` is the head as it was at the own site's previous changeset: where the two
differ, the next own changeset names the head among its deps. Number 0 is GENESIS, which has no head.

A site with `tips` is closed (see `closing`): it was forked, and the tips are the ends of the branches that were merged
here. Its head proves nothing any more."""

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from replication.engine.stamps import GENESIS, Site, Stamp
from replication.engine.values import pack, unpack

TABLE: Final = "_litecast_sites"
SINCE_FORMAT_3: Final = {"seen": "INTEGER", "tips": "BLOB"}
CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (short INTEGER PRIMARY KEY, site TEXT NOT NULL UNIQUE, head INTEGER, "
    "hash BLOB, noted INTEGER, seen INTEGER, tips BLOB)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a site's last changeset here ended, and that changeset's hash."""

    stamp: Stamp
    digest: bytes


def vector(connection: sqlite3.Connection) -> dict[Site, Head]:
    """All heads. Two vectors are equal only if stamps and hashes are."""
    rows = connection.execute("SELECT site, head, hash FROM main._litecast_sites WHERE head IS NOT NULL")
    return {Site(site): Head(stamp=Stamp(stamp), digest=found) for site, stamp, found in rows}


def closed(connection: sqlite3.Connection) -> dict[Site, frozenset[Head]]:
    """The closed sites, each with the tips that were merged here."""
    rows = connection.execute("SELECT site, tips FROM main._litecast_sites WHERE tips IS NOT NULL")
    return {Site(site): _tips(packed) for site, packed in rows}


def _tips(packed: bytes) -> frozenset[Head]:
    return frozenset(Head(stamp=Stamp(stamp), digest=digest) for stamp, digest in unpack(packed))


class Sites:
    """The table as it is in the transaction at work. A site that is asked for and not there is written into it."""

    __slots__ = ("_closed", "_connection", "_heads", "_names", "_noted", "_shorts")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._shorts: dict[Site, int] = {}
        self._names: dict[int, Site] = {}
        self._heads: dict[Site, Head] = {}
        self._noted: dict[Site, Stamp | None] = {}
        self._closed: set[Site] = set()
        rows = connection.execute("SELECT short, site, head, hash, noted, tips IS NOT NULL FROM main._litecast_sites")
        for short, site, head, found, noted, is_closed in rows:
            if is_closed:
                self._closed.add(site)
            self._shorts[site] = short
            self._names[short] = site
            self._noted[site] = noted
            if head is not None:
                self._heads[site] = Head(stamp=Stamp(head), digest=found)
        if GENESIS not in self._shorts:
            self._write(GENESIS, 0)

    def short(self, site: Site) -> int:
        """The site's number here."""
        found = self._shorts.get(site)
        return found if found is not None else self._write(site, max(self._names, default=0) + 1)

    def site(self, short: int) -> Site:
        """The site of a number."""
        return self._names[short]

    def head(self, site: Site) -> Head | None:
        """How far the site has been merged."""
        return self._heads.get(site)

    def covers(self, site: Site, stamp: Stamp) -> bool:
        """True if the site's changeset that ended at `stamp` was merged."""
        head = self._heads.get(site)
        return head is not None and head.stamp >= stamp

    def is_closed(self, site: Site) -> bool:
        """True if the site was forked: nothing more of it is merged, and its head proves nothing."""
        return site in self._closed

    def close(self, site: Site, tips: Collection[Head]) -> None:
        """Nothing more of the site is merged; these branches of it were."""
        packed = pack(tuple(sorted((tip.stamp, tip.digest) for tip in tips)))
        self._connection.execute("UPDATE main._litecast_sites SET tips = ? WHERE short = ?", (packed, self.short(site)))
        self._closed.add(site)

    def move(self, site: Site, head: Head) -> None:
        """The site's changesets up to `head` are merged."""
        self._heads[site] = head
        self._connection.execute(
            "UPDATE main._litecast_sites SET head = ?, hash = ? WHERE short = ?",
            (head.stamp, head.digest, self.short(site)),
        )

    def moved(self, own: Site) -> Mapping[Site, Stamp]:
        """The deps of the next own changeset: others' heads that moved since the previous one; all if there is none."""
        first = own not in self._heads
        return {
            site: head.stamp
            for site, head in self._heads.items()
            if site != own and (first or self._noted[site] != head.stamp)
        }

    def note(self) -> None:
        """The heads are in an own changeset's deps now."""
        if any(self._noted[site] != head.stamp for site, head in self._heads.items()):
            self._connection.execute("UPDATE main._litecast_sites SET noted = head WHERE noted IS NOT head")
            self._noted.update({site: head.stamp for site, head in self._heads.items()})

    def _write(self, site: Site, short: int) -> int:
        self._connection.execute("INSERT INTO main._litecast_sites (short, site) VALUES (?, ?)", (short, site))
        self._shorts[site] = short
        self._names[short] = site
        self._noted[site] = None
        return short
