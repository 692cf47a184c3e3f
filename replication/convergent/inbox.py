"""Changesets that came and are not merged yet: which of them can be merged now, in which order, and what is missing.

Pure. It reads a changeset's header only, and is a forecast: the merge decides for itself. What it promises is that a
batch never holds a changeset whose deps are neither merged nor before it in the batch, so that a stream that comes in
order is merged in as few transactions as there are batches, and one that does not come in order waits here.

It is bounded. What does not fit is dropped: the peer that sent it has it still, and says so in its heads."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from replication.engine.changesets import Header
from replication.engine.stamps import Site, Stamp, first_after, ms_of

INBOX_MAX_BYTES: Final = 64 * 1024 * 1024
INBOX_MAX_COUNT: Final = 50_000
BATCH_MAX_BYTES: Final = 4 * 1024 * 1024
BATCH_MAX_COUNT: Final = 500
"""So many changesets are merged in one transaction: the write lock is held for some 50 ms at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A changeset as it came."""

    peer: str
    header: Header
    encoded: bytes
    digest: bytes
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """What keeps a changeset of a peer's from being merged. `since_s` is when it came; `own_gap`: its predecessor."""

    peer: str
    site: Site
    stamp: Stamp
    own_gap: bool
    since_s: float


class Inbox:
    """See the module."""

    def __init__(self, *, max_bytes: int = INBOX_MAX_BYTES, max_count: int = INBOX_MAX_COUNT) -> None:
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._by_site: dict[Site, list[Arrived]] = {}  # each in the order of its stamps
        self._tangled: set[Site] = set()
        """Sites of which changesets wait that cannot all be of one history."""
        self._bytes = 0
        self._count = 0

    @property
    def count(self) -> int:
        """How many changesets wait."""
        return self._count

    @property
    def bytes(self) -> int:
        """How many bytes they are."""
        return self._bytes

    def put(self, arrived: Arrived, *, asked_for: bool = False) -> bool:
        """Keeps a changeset; False if there is no room, which there always is for one that was asked for.

        A second copy of one that waits is dropped."""
        of_site = self._by_site.setdefault(arrived.header.site, [])
        at = bisect_left(of_site, _place(arrived), key=_place)
        if at < len(of_site) and _place(of_site[at]) == _place(arrived):
            return True
        if not asked_for and self._is_full(len(arrived.encoded)):
            if not of_site:
                del self._by_site[arrived.header.site]
            return False
        if (at and of_site[at - 1].header.upto > arrived.header.after) or (
            at < len(of_site) and arrived.header.upto > of_site[at].header.after
        ):
            self._tangled.add(arrived.header.site)
        of_site.insert(at, arrived)
        self._bytes += len(arrived.encoded)
        self._count += 1
        return True

    def _is_full(self, coming: int) -> bool:
        return self._count > 0 and (self._count >= self._max_count or self._bytes + coming > self._max_bytes)

    def drop(self, arrived: Arrived) -> None:
        """It is merged, or will never be."""
        of_site = self._by_site.get(arrived.header.site, [])
        at = bisect_left(of_site, _place(arrived), key=_place)
        if at < len(of_site) and _place(of_site[at]) == _place(arrived):
            del of_site[at]
            self._bytes -= len(arrived.encoded)
            self._count -= 1
            if not of_site:
                self._by_site.pop(arrived.header.site)
                self._tangled.discard(arrived.header.site)

    def drop_site(self, site: Site) -> None:
        """Nothing of the site will be merged any more."""
        self._tangled.discard(site)
        for arrived in self._by_site.pop(site, []):
            self._bytes -= len(arrived.encoded)
            self._count -= 1

    def held(self) -> Iterator[tuple[Site, Stamp]]:
        """Sites and stamps of what waits."""
        for site, of_site in self._by_site.items():
            for arrived in of_site:
                yield site, arrived.header.upto

    def reach(self, vector: Mapping[Site, Stamp]) -> dict[Site, Stamp]:
        """How far each site's changesets go that are here, merged or not."""
        reach = dict(vector)
        for site, of_site in self._by_site.items():
            reach[site] = max(of_site[-1].header.upto, reach.get(site, first_after(site)))
        return reach

    def batch(
        self,
        vector: Mapping[Site, Stamp],
        *,
        own: Site,
        closed: frozenset[Site],
        before_ms: int,
        max_count: int = BATCH_MAX_COUNT,
        max_bytes: int = BATCH_MAX_BYTES,
    ) -> list[Arrived]:
        """What can be merged now, each after what it depends on. It stays here until it is dropped.

        Also what the merge has to judge: repeats, and what claims a place that is taken. Stamps in or after the
        millisecond `before_ms` wait until time has come."""
        if not self._count:
            return []
        there = dict(vector)
        taken: list[Arrived] = []
        size = 0
        reached = dict.fromkeys(self._by_site, 0)
        progress = True
        while progress:
            progress = False
            for site, queue in self._by_site.items():
                at = reached[site]
                while at < len(queue):
                    arrived = queue[at]
                    at += 1
                    if not _is_ready(arrived.header, there, own, closed, before_ms):
                        if site in self._tangled:
                            continue  # what comes after it may be of another history, which can be merged
                        break
                    if site in self._tangled and any(one is arrived for one in taken):
                        continue
                    if taken and (len(taken) >= max_count or size + len(arrived.encoded) > max_bytes):
                        return taken
                    if site not in self._tangled:
                        reached[site] = at
                    taken.append(arrived)
                    size += len(arrived.encoded)
                    there[site] = max(there.get(site, first_after(site)), arrived.header.upto)
                    progress = True
        return taken

    def lacking(
        self, vector: Mapping[Site, Stamp], *, own: Site, closed: frozenset[Site], before_ms: int
    ) -> list[Lacking]:
        """What is missing, of each site that has something waiting: what keeps its first changeset back."""
        found: list[Lacking] = []
        for of_site in self._by_site.values():
            first = of_site[0]
            header = first.header
            if ms_of(header.upto) >= before_ms:
                continue
            missing = _missing(header, vector, own, closed)
            if missing is not None:
                site, stamp = missing
                found.append(
                    Lacking(peer=first.peer, site=site, stamp=stamp, own_gap=site == header.site, since_s=first.at_s)
                )
        return found


def _place(arrived: Arrived) -> tuple[Stamp, bytes]:
    return arrived.header.upto, arrived.digest


def _is_ready(header: Header, vector: Mapping[Site, Stamp], own: Site, closed: frozenset[Site], before_ms: int) -> bool:
    if header.site == own or header.site in closed or header.upto <= vector.get(header.site, first_after(header.site)):
        return True  # a repeat or a fork: the merge says which
    if ms_of(header.upto) >= before_ms:
        return False
    return _missing(header, vector, own, closed) is None


def _missing(
    header: Header, vector: Mapping[Site, Stamp], own: Site, closed: frozenset[Site]
) -> tuple[Site, Stamp] | None:
    if header.after > vector.get(header.site, first_after(header.site)):
        return header.site, header.after
    for site, stamp in header.deps.items():
        if site not in (own, header.site) and site not in closed and stamp > vector.get(site, Stamp(-2)):
            return site, stamp
    return None
