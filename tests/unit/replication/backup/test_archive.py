"""What the bucket offers to who is beyond the journals: what leads on from there, up to what is wanted."""

from collections.abc import Mapping

import pytest

from replication.backup.archive import BucketArchive, objects_between
from replication.backup.batches import Batch, Link, batch_of, encode
from replication.backup.errors import BackupDamaged
from replication.backup.marker import Marker
from replication.backup.marker import encode as encode_marker
from replication.backup.names import MARKER, Stretch, of_stretch
from replication.convergent.archive import Offer
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp
from tests.support.buckets import FakeBucket
from tests.support.chains import chain

A, B, C = (Site(digit * 32) for digit in "123")


def links_of(site: Site, count: int = 12) -> tuple[Link, ...]:
    """Stamps of two sites alternate."""
    odd = site == B
    return batch_of("c", site, chain(site, count, stamp_of=lambda number: Stamp(2 * number + 1 + odd))).links


def bucket_with(*batches: tuple[Site, int, int], cluster: str = "c") -> FakeBucket:
    """With an object for each: the changesets of a site from one to another."""
    bucket = FakeBucket()
    bucket.objects[MARKER] = encode_marker(Marker(cluster))
    for site, first, last in batches:
        links = links_of(site)[first : last + 1]
        batch = Batch(cluster="c", site=site, links=links)
        bucket.objects[of_stretch(batch.stretch)] = encode(batch)
    return bucket


async def offered(bucket: FakeBucket, have: Mapping[Site, Head], wanted: Mapping[Site, Stamp]) -> Offer | None:
    return await BucketArchive(bucket, cluster="c").offer(have, wanted)


async def read(offer: Offer) -> list[bytes]:
    return [one async for part in offer.parts() for one in part.changesets]


async def test_it_gives_what_is_between_in_the_order_of_stamps_and_reads_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("replication.backup.archive.PART_MAX_COUNT", 3)
    a, b = links_of(A), links_of(B)
    bucket = bucket_with((A, 0, 2), (A, 3, 5), (A, 6, 8), (A, 9, 11), (B, 0, 11), (C, 0, 3))
    offer = await offered(bucket, {A: a[3].head}, {A: a[7].upto, B: b[1].upto})
    assert offer is not None
    assert offer.reaches == {A: a[7].upto, B: b[1].upto}
    needed = [Stretch(A, a[3].upto, a[5].upto), Stretch(A, a[6].upto, a[8].upto), Stretch(B, b[0].upto, b[11].upto)]
    assert offer.size == sum(len(bucket.objects[of_stretch(one)]) for one in needed)
    expected = sorted([*a[4:8], *b[:2]], key=lambda link: link.upto)
    assert await read(offer) == [link.encoded for link in expected]
    assert {name for what, name in bucket.requests if what == "get"} == {MARKER, *map(of_stretch, needed)}
    parts = [part.reaches async for part in offer.parts()]
    assert parts == [{B: b[1].upto, A: a[4].upto}, {A: a[7].upto}]


async def test_it_offers_nothing_that_is_not_there_or_is_anothers() -> None:
    a = links_of(A)
    assert await offered(bucket_with((A, 0, 5)), {A: a[5].head}, {A: a[9].upto, B: Stamp(4)}) is None
    assert await offered(bucket_with((A, 0, 5), cluster="another"), {}, {A: a[3].upto}) is None
    assert await offered(FakeBucket(), {}, {A: a[3].upto}) is None
    ends_early = await offered(bucket_with((A, 0, 5)), {}, {A: a[9].upto})
    assert ends_early is not None
    assert ends_early.reaches == {A: a[5].upto}


@pytest.mark.parametrize("how", ["a gap", "another history", "damaged", "another name"])
async def test_it_gives_nothing_from_where_it_does_not_join(how: str) -> None:
    a = links_of(A)
    bucket = bucket_with((A, 0, 2), *([(A, 4, 6)] if how == "a gap" else [(A, 3, 6)]))
    name = of_stretch(Stretch(A, a[3].upto, a[6].upto))
    head: Head | None = None
    match how:
        case "another history":
            head = Head(stamp=a[1].upto, digest=bytes(len(a[1].digest)))
        case "damaged":
            bucket.objects[name] = bucket.objects[name][:-1]
        case "another name":
            bucket.objects[name] = bucket.objects[of_stretch(Stretch(A, a[0].upto, a[2].upto))]
        case _:
            pass
    offer = await offered(bucket, {} if head is None else {A: head}, {A: a[6].upto})
    assert offer is not None
    with pytest.raises(BackupDamaged):
        await read(offer)


async def test_an_object_that_was_made_part_of_a_larger_one_is_read_there() -> None:
    bucket = bucket_with(*((A, number, number) for number in range(12)))
    offer = await offered(bucket, {}, {A: links_of(A)[11].upto})
    assert offer is not None
    large = bucket_with((A, 0, 11)).objects
    bucket.objects = large
    assert await read(offer) == [link.encoded for link in links_of(A)]


def test_of_objects_that_overlap_none_is_read_in_vain() -> None:
    stretches = [Stretch(A, Stamp(first), Stamp(last)) for first, last in ((1, 4), (1, 9), (5, 9), (10, 12), (13, 14))]
    head = Head(stamp=Stamp(4), digest=b"")
    assert objects_between(stretches, head, Stamp(11)) == [stretches[1], stretches[3]]
    assert objects_between(stretches, head, Stamp(4)) == []
