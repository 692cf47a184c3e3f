"""The sites known here: a short number for each, and how far each has been merged. The heads together are the vector.

A head is the stamp and the hash of the site's last changeset here. A site without a head is only known by name: a
counter or a clock mentions it. Number 0 is GENESIS, which has no head.

The next own changeset has to name what this node has seen that it had not when it made its previous one, so two more
things are kept. `noted` is the head as it was then: where the two differ, the head is named. `seen` are heads of
those whose *state* was merged here, or a part of it; they are ahead of the own one until the changesets up to them have
come, too. If these never come, but others in their place, the site has two histories.

`run` is the run of the site's node that made its last changeset, and `runs` those that made the ones before: see there.

A closed site is one of which two histories are about (see `closing`). `tips` are the ends of those histories that are
merged here; its head proves nothing any more, and is not part of the vector. A site whose own node closed it since it
stamped too far ahead has no tips until all have said what they merged of it (see `stamping_again`)."""

import sqlite3
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Final

from replication.engine.changesets import digest
from replication.engine.runs import UNKNOWN, Began, Place, Runs, following, place_of
from replication.engine.stamps import ALL_BRANCHES, GENESIS, STAMP_MAX, Site, Stamp, first_after
from replication.engine.values import pack, unpack

TABLE: Final = "_litecast_sites"
SINCE_FORMAT_3: Final = {"seen": "BLOB", "tips": "BLOB", "run": "BLOB", "runs": "BLOB"}
CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (short INTEGER PRIMARY KEY, site TEXT NOT NULL UNIQUE, head INTEGER, "
    "hash BLOB, noted INTEGER, seen BLOB, tips BLOB, run BLOB, runs BLOB)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Where a site's last changeset here ended, that changeset's hash, and the run that made it."""

    stamp: Stamp
    digest: bytes
    run: bytes = field(default=UNKNOWN, compare=False)  # which the hash is of, too


def stamps_of(vector: Mapping[Site, Head]) -> dict[Site, Stamp]:
    """The stamps of a vector."""
    return {site: head.stamp for site, head in vector.items()}


def vector(connection: sqlite3.Connection) -> dict[Site, Head]:
    """All heads, but those of closed sites. Two vectors are equal only if stamps and hashes are."""
    rows = connection.execute(
        f"SELECT site, head, hash, coalesce(run, x'') FROM main.{TABLE} WHERE head IS NOT NULL AND tips IS NULL"
    )
    return {Site(site): Head(stamp=Stamp(stamp), digest=found, run=run) for site, stamp, found, run in rows}


def runs(connection: sqlite3.Connection) -> dict[Site, Runs]:
    """Which runs wrote the chain to each head, but those of closed sites."""
    rows = connection.execute(f"SELECT site, runs FROM main.{TABLE} WHERE head IS NOT NULL AND tips IS NULL")
    return {Site(site): _runs_of(Site(site), packed) for site, packed in rows}


def closed(connection: sqlite3.Connection) -> dict[Site, frozenset[Head]]:
    """The closed sites, and which of their branches are merged here: closed sites are equal if these are."""
    rows = connection.execute(f"SELECT site, tips FROM main.{TABLE} WHERE tips IS NOT NULL")
    return {Site(site): _unpacked(tips) for site, tips in rows}


def seen(connection: sqlite3.Connection) -> dict[Site, frozenset[Head]]:
    """Heads of which a state was merged here, or a part of it, and that are ahead of the own ones.

    One that nobody has any more, since its site was put back to an older state before it got around, will never come:
    then the site is forked, and has to be closed here."""
    return known(connection).seen


def parts(connection: sqlite3.Connection) -> dict[Site, frozenset[Head]]:
    """Tips of closed sites of which a part of the state was merged here, and the rest has not come yet."""
    return known(connection).parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of all sites: see the functions of these names."""

    vector: dict[Site, Head]
    closed: dict[Site, frozenset[Head]]
    seen: dict[Site, frozenset[Head]]
    parts: dict[Site, frozenset[Head]]


def known(connection: sqlite3.Connection) -> Known:
    """All of it, by one query."""
    found = Known(vector={}, closed={}, seen={}, parts={})
    rows = connection.execute(f"SELECT site, head, hash, run, seen, tips FROM main.{TABLE}")
    for name, head, digest_, run, packed, tips in rows:
        site = Site(name)
        if tips is not None:
            found.closed[site] = _unpacked(tips)
            if packed is not None:
                found.parts[site] = _unpacked(packed)
            continue
        if head is not None:
            found.vector[site] = Head(stamp=Stamp(head), digest=digest_, run=run or UNKNOWN)
        if packed is not None:
            ahead = frozenset(one for one in _unpacked(packed) if head is None or one.stamp > head)
            if ahead:
                found.seen[site] = ahead
    return found


class Sites:
    """The table as it is in the transaction at work. A site that is asked for and not there is written into it."""

    __slots__ = (
        "_begun",
        "_connection",
        "_heads",
        "_names",
        "_noted",
        "_reached",
        "_runs",
        "_seen",
        "_shorts",
        "_tips",
    )

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._shorts: dict[Site, int] = {}
        self._names: dict[int, Site] = {}
        self._heads: dict[Site, Head] = {}
        self._noted: dict[Site, Stamp | None] = {}
        self._reached: set[Site] = set()
        self._runs: dict[Site, Runs] = {}
        self._begun: set[Site] = set()
        self._seen: dict[Site, frozenset[Head]] = {}
        self._tips: dict[Site, frozenset[Head]] = {}
        rows = connection.execute(f"SELECT short, site, head, hash, noted, seen, tips, run FROM main.{TABLE}")
        for short, site, head, found, noted, seen, tips, run in rows:
            self._shorts[site] = short
            self._names[short] = site
            self._noted[site] = noted
            if head is not None:
                self._heads[site] = Head(stamp=Stamp(head), digest=found, run=run or UNKNOWN)
            if seen is not None:
                self._seen[site] = _unpacked(seen)
            if tips is not None:
                self._tips[site] = _unpacked(tips)
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

    def heads(self) -> Mapping[Site, Head]:
        """All heads, also those of closed sites."""
        return self._heads

    def covers(self, site: Site, stamp: Stamp) -> bool:
        """True if the site's changeset that ended at `stamp` was merged."""
        head = self._heads.get(site)
        return head is not None and head.stamp >= stamp

    def move(self, site: Site, head: Head) -> None:
        """The site's changesets up to `head` are merged."""
        self.reach(site, head)
        self.write_reached()

    def reach(self, site: Site, head: Head) -> None:
        """`move`, written only by `write_reached`: for who moves heads many times in a transaction."""
        before = self._heads.get(site)
        if head.run != (UNKNOWN if before is None else before.run):
            after = first_after(site) if before is None else before.stamp
            self._runs[site] = following(self.runs(site), Began(head.run, after))
            self._begun.add(site)
        self._heads[site] = head
        self._reached.add(site)

    def jump(self, site: Site, head: Head, runs: Runs) -> None:
        """The state of somebody is merged who had the site's changesets up to `head`, which these runs made."""
        self._heads[site] = head
        self._runs[site] = runs
        self._begun.add(site)
        self._reached.add(site)
        self.write_reached()

    def write_reached(self) -> None:
        """Writes the heads that were reached."""
        for site in self._reached:
            head = self._heads[site]
            self._connection.execute(
                f"UPDATE main.{TABLE} SET head = ?, hash = ?, run = ? WHERE short = ?",
                (head.stamp, head.digest, head.run, self.short(site)),
            )
            if site in self._begun:
                self._connection.execute(
                    f"UPDATE main.{TABLE} SET runs = ? WHERE short = ?", (pack(self._runs[site]), self.short(site))
                )
        self._reached.clear()
        self._begun.clear()

    # ---- histories

    def runs(self, site: Site) -> Runs:
        """The runs that made the changesets up to the head."""
        found = self._runs.get(site)
        if found is None and site in self._heads:
            (packed,) = self._connection.execute(
                f"SELECT runs FROM main.{TABLE} WHERE short = ?", (self.short(site),)
            ).fetchone()
            found = self._runs[site] = _runs_of(site, packed)
        return found or ()

    def place(self, site: Site, *, stamp: Stamp, run: bytes) -> Place:
        """Where somebody's head of a site is, as the chain to the own one sees it."""
        mine = self._heads.get(site)
        end = first_after(site) if mine is None else mine.stamp
        return place_of(self.runs(site), end, stamp=stamp, run=run)

    # ---- closed sites

    def newest(self) -> Stamp:
        """The newest stamp that a head, a tip, or what was seen in somebody's state has."""
        heads = [head.stamp for site, head in self._heads.items() if site not in self._tips]
        others = [
            head.stamp
            for found in (*self._tips.values(), *self._seen.values())
            for head in found
            if head.stamp < STAMP_MAX  # that of a forgotten site stands for no history
        ]
        return max([*heads, *others], default=Stamp(0))

    def newest_of_others(self, own: Site) -> Stamp:
        """The newest stamp that the head of another site has."""
        return max((head.stamp for site, head in self._heads.items() if site != own), default=Stamp(0))

    @property
    def any_closed(self) -> bool:
        """True if a site is closed."""
        return bool(self._tips)

    def is_closed(self, site: Site) -> bool:
        """True if the site is closed."""
        return site in self._tips

    def close(self, site: Site, tips: Iterable[Head]) -> bool:
        """Closes the site, or adds tips to those it has. False if nothing is new."""
        head = self._heads.get(site)
        own = frozenset[Head]() if head is None else frozenset({head})
        known = self._tips.get(site)
        found = (known or own) | frozenset(tips)
        if found == known:
            return False
        self._write_tips(site, found)
        if known is None and site in self._seen:
            self._write_seen(site, frozenset())
        return True

    def set_aside(self, site: Site, tips: Iterable[Head] = ()) -> None:
        """Closes a site, with these tips alone: what is merged of it here is not one yet."""
        self._write_tips(site, frozenset(tips))

    def cut(self, site: Site, tips: Iterable[Head]) -> None:
        """What a site that was set aside stamped beyond these tips was never stamped: the newest one is its head."""
        found = frozenset(tips)
        self._write_tips(site, found)
        newest = max(found, key=lambda head: head.stamp, default=None)
        if newest is None:
            self._heads.pop(site, None)
        else:
            self._heads[site] = newest
        self._connection.execute(
            f"UPDATE main.{TABLE} SET head = ?, hash = ? WHERE short = ?",
            (*((newest.stamp, newest.digest) if newest else (None, None)), self.short(site)),
        )

    def _write_tips(self, site: Site, tips: frozenset[Head]) -> None:
        self._tips[site] = tips
        if site in self._seen:
            self._write_seen(site, self._seen[site] - tips)
        self._connection.execute(f"UPDATE main.{TABLE} SET tips = ? WHERE short = ?", (_packed(tips), self.short(site)))

    # ---- deps

    def see(self, site: Site, head: Head) -> None:
        """State was merged of somebody who had merged the site so far, or a part of that state."""
        known = self._seen.get(site, frozenset())
        if not (self.covers(site, head.stamp) or head in known or site in self._tips):
            self._write_seen(site, known | {head})

    def see_tips(self, site: Site, tips: Set[Head]) -> None:
        """A part of the state was merged of somebody who had merged these histories of a closed site."""
        known = self._seen.get(site, frozenset())
        if more := tips - known - self._tips[site]:
            self._write_seen(site, known | more)

    def forget_parts(self, site: Site) -> None:
        """They are tips now."""
        self._write_seen(site, frozenset())

    def part(self, site: Site, own: Site) -> list[Head]:
        """Tips that stand for the parts of a site's histories that are merged here as somebody's state: such as only
        this node has, so that the others fetch what it has of them, and it what they have."""
        heads = self._seen.get(site, frozenset()) if site in self._tips else self.seen(site)
        return [Head(stamp=head.stamp, digest=digest(head.digest + own.encode())) for head in heads]

    def seen(self, site: Site) -> frozenset[Head]:
        """Heads of the site that are ahead of the own one, of those whose state was merged here, or a part of it."""
        return frozenset(head for head in self._seen.get(site, ()) if not self.covers(site, head.stamp))

    def _write_seen(self, site: Site, heads: frozenset[Head]) -> None:
        self._seen[site] = heads
        packed = _packed(heads) if heads else None
        self._connection.execute(f"UPDATE main.{TABLE} SET seen = ? WHERE short = ?", (packed, self.short(site)))

    def moved(self, own: Site) -> Mapping[Site, Stamp]:
        """The deps of the next own changeset: others' heads that moved since the previous one, all if there is none;
        what was seen of them in others' state; and ALL_BRANCHES of each site that was closed since."""
        first = own not in self._heads
        deps = {site: head.stamp for site, head in self._heads.items() if first or self._noted[site] != head.stamp}
        deps.update((site, max(head.stamp for head in ahead)) for site in self._seen if (ahead := self.seen(site)))
        for site in self._tips:
            deps.pop(site, None)
            if first or self._noted[site] != ALL_BRANCHES:
                deps[site] = ALL_BRANCHES
        deps.pop(own, None)
        return deps

    def runs_at(self, deps: Mapping[Site, Stamp]) -> dict[Site, bytes]:
        """The run of each head that `moved` gave, if it is known."""
        return {
            site: head.run
            for site, stamp in deps.items()
            for head in (self._heads.get(site), *self._seen.get(site, ()))
            if head is not None and head.stamp == stamp and head.run
        }

    def note(self) -> None:
        """The heads are in an own changeset's deps now."""
        self.write_reached()
        noted: dict[Site, Stamp | None] = {site: head.stamp for site, head in self._heads.items()}
        noted |= dict.fromkeys(self._tips, ALL_BRANCHES)
        if any(self._noted[site] != stamp for site, stamp in noted.items()):
            self._connection.execute(
                f"UPDATE main.{TABLE} SET noted = iif(tips IS NULL, head, ?1)"
                " WHERE noted IS NOT iif(tips IS NULL, head, ?1)",
                (ALL_BRANCHES,),
            )
            self._noted.update(noted)
        for site, heads in self._seen.items():
            if site not in self._tips and (ahead := self.seen(site)) != heads:
                self._write_seen(site, ahead)

    def _write(self, site: Site, short: int) -> int:
        self._connection.execute(f"INSERT INTO main.{TABLE} (short, site) VALUES (?, ?)", (short, site))
        self._shorts[site] = short
        self._names[short] = site
        self._noted[site] = None
        return short


def _packed(heads: Iterable[Head]) -> bytes:
    return pack(tuple(sorted((head.stamp, head.digest, head.run) for head in heads)))


def _unpacked(heads: bytes) -> frozenset[Head]:
    return frozenset(
        Head(stamp=Stamp(stamp), digest=digest, run=run[0] if run else UNKNOWN) for stamp, digest, *run in unpack(heads)
    )


def _runs_of(site: Site, packed: bytes | None) -> Runs:
    if packed is None:
        return (Began(UNKNOWN, first_after(site)),)
    return tuple(Began(run, Stamp(after)) for run, after in unpack(packed))
