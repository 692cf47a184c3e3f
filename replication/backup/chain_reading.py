"""Reading the objects of many sites: their changesets in the order of stamps, which is a causal order.

An object that is gone was made part of a larger one, and is read there."""

import heapq
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from replication.backup.batches import Batch, Link
from replication.backup.bucket import Bucket, batch_at, missing
from replication.backup.chains import by_site, to_read, upto_first
from replication.backup.names import CHANGESETS, Stretch, stretches_in
from replication.backup.read_ahead import ReadAhead
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp, first_after


@dataclass(slots=True)
class Chain:
    """What is left to be read of a site's objects, and the end of what was."""

    left: deque[Stretch]
    head: Head | None


class ChainReader:
    """See the module. `cluster`: whose objects they have to be. `ends_in`: whether an object is the last of its site
    that is wanted. `close` ends what is under way."""

    def __init__(self, bucket: Bucket, *, cluster: str, ends_in: Callable[[Stretch], bool]) -> None:
        self._bucket = bucket
        self._ends_in = ends_in
        self._ahead = ReadAhead(lambda stretch: batch_at(bucket, stretch, cluster=cluster))

    async def next_batch(self, site: Site, chain: Chain) -> Batch:
        """What the next object of a site holds, which stays the next one; another one, if it is gone. Raises
        BackupUnreachable, BackupDamaged."""
        while (batch := await self._ahead.batch(stretch := chain.left[0], islice(chain.left, 1, None))) is None:
            at = first_after(site) if chain.head is None else chain.head.stamp
            there = by_site(stretches_in(await self._bucket.names(CHANGESETS)))
            left = upto_first(to_read(there.get(site, ()), at), self._ends_in)
            if not left or left[0] == stretch or left[0].first > stretch.first:
                raise missing(self._bucket, stretch)
            self.forget(chain.left)
            chain.left = deque(left)
        return batch

    def forget(self, stretches: Iterable[Stretch]) -> None:
        """These are not wanted any more."""
        self._ahead.forget(stretches)

    async def close(self) -> None:
        """Ends what is under way."""
        await self._ahead.close()


async def in_order(
    chains: Mapping[Site, Chain], next_links: Callable[[Site], Awaitable[Sequence[Link]]]
) -> AsyncGenerator[tuple[Site, Link], None]:
    """The changesets of all chains, in the order of stamps. `next_links` reads a site's next object, takes it from its
    chain, and gives what of it is wanted; a chain that is emptied meanwhile ends with what was read of it.

    An object is read when it is the turn of the first changeset in it, or sooner if that one is not wanted."""
    turns: list[tuple[Stamp, Site]] = [(chain.left[0].first, site) for site, chain in chains.items()]
    heapq.heapify(turns)
    read: dict[Site, deque[Link]] = {}
    while turns:
        _, site = heapq.heappop(turns)
        links = read.get(site)
        if not links:
            links = read[site] = deque(await next_links(site))
            if links and turns and turns[0] < (links[0].upto, site):
                heapq.heappush(turns, (links[0].upto, site))
                continue
        if links:
            yield site, links.popleft()
        if links:
            heapq.heappush(turns, (links[0].upto, site))
        elif chains[site].left:
            heapq.heappush(turns, (chains[site].left[0].first, site))
