"""Whatever lies in a bucket, and wherever keepers are stopped: each moment that must be restorable is, all the time."""

import asyncio
import itertools
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import LeaseError
from replication.backup import manifests
from replication.backup.batches import Batch, batch_of, decode, encode
from replication.backup.bucket import Lying
from replication.backup.chains import by_site, to_read
from replication.backup.deciding import includes
from replication.backup.envelope import seal
from replication.backup.errors import BackupUnreachable
from replication.backup.keeping import Keeper
from replication.backup.lease_in_bucket import LEASE_TTL_S
from replication.backup.manifests import Manifest, Piece
from replication.backup.names import (
    Stretch,
    of_closing,
    of_piece,
    of_stretch,
    piece_of,
    snapshot_id,
    snapshots_in,
    stretches_in,
)
from replication.backup.status import Tally
from replication.backup.taking import COPY_MAX_AGE_S
from replication.backup.what_to_keep import ABANDONED_S, FAN_IN, GRACE_S
from replication.engine.changesets import digest
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp, ms_of, stamp_at
from tests.support.buckets import FakeBucket
from tests.support.chains import chain

COUNT = 60
SITES = (Site("1" * 32), Site("2" * 32))
EVERY_MS = 100_000
"""Between two changesets of a site."""


def stamp_of(number: int, of: int = 0) -> Stamp:
    return Stamp(stamp_at(1_000_000 + EVERY_MS * number) + of)


CHAINS = {
    site: batch_of("c", site, chain(site, COUNT, stamp_of=lambda number, of=of: stamp_of(number, of))).links  # type: ignore[misc]
    for of, site in enumerate(SITES)
}


def stamps_of(copied: Manifest) -> dict[Site, Stamp]:
    return {site: head.stamp for site, head in copied.vector.items()}


class Yielding(FakeBucket):
    """Others have their turn between a request and what it does."""

    async def create(self, name: str, content: bytes) -> bool:
        await asyncio.sleep(0)
        return await super().create(name, content)

    async def get(self, name: str, *, max_bytes: int) -> bytes | None:
        await asyncio.sleep(0)
        return await super().get(name, max_bytes=max_bytes)

    async def listed(self, prefix: str) -> Sequence[Lying]:
        await asyncio.sleep(0)
        return await super().listed(prefix)

    async def delete(self, names: Sequence[str]) -> None:
        for name in names:
            await asyncio.sleep(0)
            await super().delete([name])


@dataclass
class World:
    """A bucket of which is looked at each request whether all is there that must be restorable."""

    rng: random.Random
    retention_s: float
    bucket: Yielding = field(default_factory=Yielding)
    snapshots: dict[int, Manifest] = field(default_factory=dict[int, Manifest])
    upto: int = 0
    """So many changesets of each site were uploaded."""
    store_ms: int = 0
    copied: tuple[Manifest, int] = field(init=False)
    """The last copy, and when it was made."""
    copies_are_ahead: bool = False
    """The clocks of some nodes that copied; else those of keepers are."""
    stops_after: int = 10**9
    read: dict[str, Batch] = field(default_factory=dict[str, Batch])

    def __post_init__(self) -> None:
        self.copies_are_ahead = self.rng.random() < 0.5
        self.bucket.now_ms = lambda: self.store_ms
        self.bucket.fails = self.looks

    def looks(self, what: str, name: str) -> str:
        if what == "delete":
            self.check(f"before {what} {name}")
        self.stops_after -= 1
        return self.rng.choice(("before", "after")) if self.stops_after < 0 else ""

    def check(self, when: str) -> None:
        names = self.bucket.objects.keys()
        there = by_site(stretches_in(names))
        complete = [self.snapshots[number] for number in snapshots_in(names)]
        oldest = ms_of(stamp_of(self.upto - 1)) - int(self.retention_s * 1000)
        first = min(one.clock for one in self.snapshots.values())
        reached: dict[tuple[int, Site], Stamp] = {}
        for number in range(self.upto):
            moment = Stamp(stamp_of(number) + 9)
            if ms_of(moment) < oldest or moment < first:
                continue
            base = max((one for one in complete if one.clock <= moment), key=lambda one: one.number, default=None)
            assert base is not None, f"no snapshot for changeset {number} {when}"
            assert {of_piece(base.snapshot, piece) for piece in range(len(base.pieces))} <= names, when
            for site in SITES:
                if (base.number, site) not in reached:
                    reached[base.number, site] = self.reached(there.get(site, []), base.vector[site].stamp)
                assert reached[base.number, site] >= CHAINS[site][number].upto, f"{number} of {site} is lost {when}"

    def reached(self, stretches: list[Stretch], at: Stamp) -> Stamp:
        """Up to where a restore comes from there without a gap."""
        for one in to_read(stretches, at):
            links = self.batch(of_stretch(one)).links
            if links[0].after > at:
                break
            at = links[-1].upto
        return at

    def batch(self, name: str) -> Batch:
        if name not in self.read:
            self.read[name] = decode(self.bucket.objects[name])
        return self.read[name]

    def put(self, name: str, content: bytes) -> None:
        if name not in self.bucket.objects:
            self.bucket.objects[name], self.bucket.written_ms[name] = content, self.store_ms

    def upload(self, first: int, last: int) -> None:
        """Perhaps by several nodes, each of which cuts it in its own way."""
        for site in SITES:
            for _ in range(self.rng.choice((1, 1, 2))):
                often = self.rng.choice((0.2, 1.0))
                cuts = sorted({first, last + 1, *(n for n in range(first, last + 1) if self.rng.random() < often)})
                for one, other in itertools.pairwise(cuts):
                    links = CHAINS[site][one:other]
                    stretch = Stretch(site, links[0].upto, links[-1].upto)
                    self.put(of_stretch(stretch), encode(batch_of("c", site, [link.encoded for link in links])))
        self.upto = last + 1

    def copy(self, upto: int, *, is_ahead: bool = False) -> None:
        """Uploads a copy that has so many changesets of each site, by a node whose clock may be ahead."""
        clock = Stamp(stamp_of(upto - 1 + 7 * is_ahead) + 5)
        content = [bytes([piece]) * 10 for piece in range(2)]
        found = Manifest(
            snapshot=snapshot_id(clock, self.rng.randbytes(8)),
            number=1,
            cluster="c",
            node="n",
            taken_ms=ms_of(clock),
            clock=clock,
            pieces=tuple(Piece(size=10, digest=digest(one)) for one in content),
            vector={
                site: Head(stamp=links[upto - 1].upto, digest=links[upto - 1].digest) for site, links in CHAINS.items()
            },
            closed={},
        )
        for number, one in enumerate(content):
            self.put(of_piece(found.snapshot, number), seal(one))
        self.copied = found, self.store_ms

    def close(self) -> None:
        """Makes the last copy a snapshot, if it is not too old, and has what the one before has."""
        found, copied_ms = self.copied
        before = self.snapshots.get(len(self.snapshots))
        is_old = self.store_ms - copied_ms > COPY_MAX_AGE_S * 1000
        is_closed = before is not None and before.snapshot == found.snapshot
        if not is_old and not is_closed and (before is None or includes(stamps_of(found), set(), before)):
            found = self.snapshots[len(self.snapshots) + 1] = replace(found, number=len(self.snapshots) + 1)
            self.put(of_closing(found.number), manifests.encode(found))

    def goes_on(self) -> None:
        """Some time goes by, in which some is uploaded, and perhaps copied."""
        self.store_ms += self.rng.choice((1_000, int(GRACE_S * 1000) + 1, int(ABANDONED_S * 400)))
        self.upload(max(0, self.upto - self.rng.randint(0, 3)), min(COUNT, self.upto + self.rng.randint(1, 20)) - 1)
        if not self.snapshots or self.rng.random() < 0.6:
            self.copy(
                self.rng.randint(max(1, self.upto - 5), self.upto),
                is_ahead=self.copies_are_ahead and self.rng.random() < 0.3,
            )
        if len(self.snapshots) < 1 or self.rng.random() < 0.6:
            self.close()

    def keeper(self, name: str, clock: list[float], retention_s: float | None = None) -> Keeper:
        count = itertools.count()
        return Keeper(
            self.bucket,
            Tally(),
            cluster="c",
            node=name,
            retention_s=self.retention_s if retention_s is None else retention_s,
            now_ms=lambda: ms_of(stamp_of(self.upto - 1)) if self.copies_are_ahead else 10**12,
            clock=lambda: clock[0],
            nonce=lambda: f"{name} {next(count)}",
        )


async def with_stops(world: World) -> None:
    clock = [0.0]
    a = world.keeper("a", clock)
    while world.upto < COUNT:
        world.goes_on()
        world.stops_after = world.rng.choice((10**9, world.rng.randint(0, 40)))
        with suppress(BackupUnreachable, LeaseError):
            await a.keep()
        clock[0] += 2 * LEASE_TTL_S  # one that was not released runs out
        world.check("after a round")


async def two_at_once(world: World) -> None:
    """The clock of one stands still, so that it does not know that the other one was granted the lease."""
    clocks = [0.0], [0.0]
    a, b = world.keeper("a", clocks[0]), world.keeper("b", clocks[1], world.retention_s * 2)
    at_once = 0
    while world.upto < COUNT:
        world.goes_on()
        first = asyncio.create_task(a.keep())
        for _ in range(world.rng.randint(0, 60)):
            await asyncio.sleep(0)
        if not await b.keep():
            clocks[1][0] += 2 * LEASE_TTL_S
            at_once += await b.keep()
        await first
        clocks[0][0] += 2 * LEASE_TTL_S
        world.check("after a round")
        if world.rng.random() < 0.2 and not first.done():
            first.cancel()


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_wherever_a_keeper_is_stopped_each_moment_of_the_retention_can_be_restored(seed: int) -> None:
    rng = random.Random(seed)
    asyncio.run(with_stops(World(rng, retention_s=rng.choice((0, 500, 2_000)))))


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_two_keepers_at_once_do_no_harm(seed: int) -> None:
    rng = random.Random(seed)
    asyncio.run(two_at_once(World(rng, retention_s=rng.choice((0, 500, 2_000)))))


@settings(max_examples=15)
@given(st.integers(0, 2**32))
def test_what_is_not_needed_goes_and_little_is_left(seed: int) -> None:
    """After a few rounds: one base at most, nothing that it has, no piece without a use, few small objects."""
    world = World(random.Random(seed), retention_s=1_000)

    async def play() -> None:
        clock = [0.0]
        keeper = world.keeper("a", clock)
        while world.upto < COUNT:
            world.goes_on()
        world.copy(COUNT)
        world.close()
        for _ in range(6):
            world.store_ms += int(ABANDONED_S * 1000) + 1
            assert await keeper.keep()
            assert keeper.problem == ""

    asyncio.run(play())
    names = world.bucket.objects.keys()
    complete = [world.snapshots[number] for number in snapshots_in(names)]
    assert {piece_of(name) for name in names} - {None} == {one.snapshot for one in complete}
    since = ms_of(stamp_of(COUNT - 1)) - 1_000_000
    assert not any(ms_of(one.clock) < since for one in complete[1:]), "one base is enough"
    left = stretches_in(names)
    assert all(one.last > complete[0].vector[one.site].stamp for one in left)
    assert len(left) <= 2 * FAN_IN * len(SITES)
    assert sorted(name for name in names if name.startswith("inventory/")) == [
        "inventory/00000005",
        "inventory/00000006",
    ]
