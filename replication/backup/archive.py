"""The bucket as an archive: what a node lacks that no peer's journal has any more (see `convergent.archive`).

Two questions say what there is: whose backup it is, and one listing. A listing does not show a gap: reading does, by
what links the changesets, before anything beyond it is given."""

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence

from replication.backup.batches import Link
from replication.backup.bucket import Bucket, whose
from replication.backup.chain_reading import Chain, ChainReader, in_order
from replication.backup.chains import AnotherHistory, Gap, by_site, following, to_read, upto_first
from replication.backup.errors import BackupDamaged
from replication.backup.names import CHANGESETS, Stretch, of_stretch, stretch_of
from replication.convergent.archive import Offer, Part
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp, first_after

PART_BYTES = 1024 * 1024
PART_MAX_COUNT = 2_000
"""A part is given when it is so large. Then it is merged, before more is read but what is read ahead."""


class BucketArchive:
    """See the module."""

    def __init__(self, bucket: Bucket, *, cluster: str) -> None:
        self._bucket = bucket
        self._cluster = cluster

    async def offer(self, have: Mapping[Site, Head], wanted: Mapping[Site, Stamp]) -> Offer | None:
        """See `Archive.offer`. Raises BackupError."""
        if await whose(self._bucket) != self._cluster:
            return None
        sizes: dict[Stretch, int] = {}
        for one in await self._bucket.listed(CHANGESETS):
            stretch = stretch_of(one.name)
            if stretch is not None and stretch.site in wanted:
                sizes[stretch] = one.size
        chains = {
            site: left
            for site, there in by_site(sizes).items()
            if (left := objects_between(there, have.get(site), wanted[site]))
        }
        if not chains:
            return None
        return Offer(
            reaches={site: min(left[-1].last, wanted[site]) for site, left in chains.items()},
            size=sum(sizes[one] for left in chains.values() for one in left),
            parts=lambda: self._parts(
                {site: Chain(deque(left), have.get(site)) for site, left in chains.items()}, wanted
            ),
        )

    async def _parts(self, chains: Mapping[Site, Chain], wanted: Mapping[Site, Stamp]) -> AsyncGenerator[Part, None]:
        reader = ChainReader(self._bucket, cluster=self._cluster, ends_in=lambda one: one.last >= wanted[one.site])

        async def next_links(site: Site) -> Sequence[Link]:
            chain = chains[site]
            batch = await reader.next_batch(site, chain)
            stretch = chain.left.popleft()
            try:
                found = following(batch, chain.head)
            except (Gap, AnotherHistory) as error:
                raise BackupDamaged(self._bucket.place(of_stretch(stretch)), str(error)) from None
            if found:
                chain.head = found[-1].head
            return [link for link in found if link.upto <= wanted[site]]

        changesets: list[bytes] = []
        reaches: dict[Site, Stamp] = {}
        size = 0
        try:
            async with contextlib.aclosing(in_order(chains, next_links)) as links:
                async for site, link in links:
                    changesets.append(link.encoded)
                    reaches[site] = link.upto
                    size += len(link.encoded)
                    if size >= PART_BYTES or len(changesets) >= PART_MAX_COUNT:
                        yield Part(changesets=changesets, reaches=reaches)
                        changesets, reaches, size = [], {}, 0
            if changesets:
                yield Part(changesets=changesets, reaches=reaches)
        finally:
            await reader.close()


def objects_between(there: Sequence[Stretch], head: Head | None, wanted: Stamp) -> list[Stretch]:
    """Of one site's objects those that lead from a head to a stamp, as far as they do. Pure."""
    if not there:
        return []
    at = first_after(there[0].site) if head is None else head.stamp
    if wanted <= at:
        return []
    leading = upto_first(to_read(there, at), lambda one: one.last >= wanted)
    return [one for one in leading if one.first <= wanted]
