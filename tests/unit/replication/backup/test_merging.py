"""Small objects become larger ones: what joins, up to what an object holds, and nothing else."""

import pytest

from replication.backup.batches import batch_of, encode
from replication.backup.merging import merge, parts_in
from replication.backup.names import Stretch, of_stretch, stretch_of
from replication.engine.changesets import digest
from replication.engine.stamps import Site, Stamp
from tests.support.buckets import FakeBucket
from tests.support.chains import chain

SITE = Site("1" * 32)
CHAIN = chain(SITE, 12)
LINKS = batch_of("c", SITE, CHAIN).links


def stretch(first: int, last: int) -> Stretch:
    return Stretch(SITE, LINKS[first].upto, LINKS[last].upto)


def bucket_with(*stretches: Stretch) -> FakeBucket:
    bucket = FakeBucket()
    for one in stretches:
        found = [link.encoded for link in LINKS if one.first <= link.upto <= one.last]
        bucket.objects[of_stretch(one)] = encode(batch_of("c", SITE, found))
    return bucket


def there(bucket: FakeBucket) -> set[Stretch | None]:
    return {stretch_of(name) for name in bucket.objects}


async def test_neighbours_become_one_with_the_same_changesets() -> None:
    run = [stretch(number, number) for number in range(12)]
    bucket = bucket_with(*run)
    merged = await merge(bucket, "c", run)
    assert (merged.made, merged.objects, merged.alone) == ([stretch(0, 11)], 12, set())
    assert there(bucket) == {*run, stretch(0, 11)}
    assert bucket.objects[of_stretch(stretch(0, 11))] == encode(batch_of("c", SITE, CHAIN))


async def test_objects_that_overlap_become_one_with_each_changeset_once() -> None:
    run = [stretch(0, 4), stretch(3, 8), stretch(8, 11)]
    bucket = bucket_with(*run)
    assert (await merge(bucket, "c", run)).made == [stretch(0, 11)]
    assert bucket.objects[of_stretch(stretch(0, 11))] == encode(batch_of("c", SITE, CHAIN))


async def test_an_object_gets_no_more_than_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.backup.merging.BATCH_MAX_COUNT", 5)
    run = [stretch(number, number) for number in range(12)]
    merged = await merge(bucket_with(*run), "c", run)
    assert merged.made == [stretch(0, 4), stretch(5, 9), stretch(10, 11)]
    assert merged.alone == {stretch(0, 4), stretch(5, 9)}, "no two of them make one"


async def test_what_does_not_join_or_is_gone_or_damaged_parts_its_neighbours() -> None:
    run = [stretch(number, number) for number in range(12) if number != 5]
    bucket = bucket_with(*run)
    bucket.objects[of_stretch(stretch(2, 2))] = b"?"
    del bucket.objects[of_stretch(stretch(9, 9))]
    merged = await merge(bucket, "c", run)
    assert merged.made == [stretch(0, 1), stretch(3, 4), stretch(6, 8), stretch(10, 11)]
    assert merged.alone == {stretch(0, 1), stretch(2, 2), stretch(3, 4), stretch(6, 8), stretch(9, 9)}
    assert merged.damaged is not None
    assert merged.damaged.place == f"memory/{of_stretch(stretch(2, 2))}"


async def test_two_histories_of_a_site_stay_apart() -> None:
    """The names say that the large one has the small ones; what they hold says otherwise."""
    other = chain(SITE, 12, stamp_of=lambda number: Stamp(LINKS[number].upto + (0 < number < 11)))
    name = of_stretch(stretch(0, 11))
    bucket = bucket_with(stretch(3, 3), stretch(6, 8))
    bucket.objects[name] = encode(batch_of("c", SITE, other))
    assert digest(other[3]) != LINKS[3].digest
    assert await parts_in(bucket, stretch(0, 11), [stretch(3, 3), stretch(6, 8)]) == []
    bucket.objects[name] = encode(batch_of("c", SITE, CHAIN))
    assert await parts_in(bucket, stretch(0, 11), [stretch(3, 3), stretch(6, 8)]) == [stretch(3, 3), stretch(6, 8)]
    del bucket.objects[name]
    assert await parts_in(bucket, stretch(0, 11), [stretch(3, 3)]) == [], "what is not there has nothing"
