"""Whatever objects there are of a site, all that they hold beyond a place is read, once, and gaps are seen."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.backup.batches import Batch, batch_of
from replication.backup.chains import AnotherHistory, Gap, following, to_read
from replication.backup.names import Stretch
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp, first_after
from tests.support.chains import chain

SITE = Site("1" * 32)
CHAIN = batch_of("c", SITE, chain(SITE, 30))


def stretch(first: int, last: int) -> Stretch:
    return Stretch(SITE, CHAIN.links[first].upto, CHAIN.links[last].upto)


def batch(one: Stretch) -> Batch:
    return batch_of("c", SITE, [link.encoded for link in CHAIN.links if one.first <= link.upto <= one.last])


def read(stretches: list[Stretch], head: Head | None) -> list[int]:
    """The places in the chain of all that is read."""
    found: list[int] = []
    for one in to_read(stretches, first_after(SITE) if head is None else head.stamp):
        links = following(batch(one), head)
        assert links, "an object was read in vain"
        found += [CHAIN.links.index(link) for link in links]
        head = links[-1].head
    return found


def head_at(index: int) -> Head | None:
    return None if index < 0 else Head(stamp=CHAIN.links[index].upto, digest=CHAIN.links[index].digest)


@given(st.integers(0, 2**32), st.integers(-1, 29))
def test_objects_that_overlap_are_read_as_one_chain(seed: int, at: int) -> None:
    rng = random.Random(seed)
    stretches: list[Stretch] = []
    for _ in range(rng.randint(1, 3)):  # several nodes, each of which cuts the whole chain in its own way
        cuts = sorted({0, 30, *rng.sample(range(1, 30), rng.randint(0, 10))})
        stretches += [stretch(one, other - 1) for one, other in pairwise(cuts)]
    rng.shuffle(stretches)
    assert read(stretches, head_at(at)) == list(range(at + 1, 30))


@given(st.integers(0, 27), st.integers(0, 2**32))
def test_an_object_that_is_missing_is_noticed_before_anything_after_it_is_read(missing: int, seed: int) -> None:
    rng = random.Random(seed)
    stretches = [stretch(one, one) for one in range(30) if one != missing]
    rng.shuffle(stretches)
    with pytest.raises(Gap):
        read(stretches, None)


def test_another_history_of_a_site_does_not_join() -> None:
    links = following(batch(stretch(3, 5)), head_at(2))
    assert [CHAIN.links.index(link) for link in links] == [3, 4, 5]
    forged = Head(stamp=CHAIN.links[2].upto, digest=b"\0" * 16)
    with pytest.raises(AnotherHistory):
        following(batch(stretch(3, 5)), forged)
    with pytest.raises(AnotherHistory):
        following(batch(stretch(2, 5)), forged)
    between = Head(stamp=Stamp(CHAIN.links[3].upto - 1), digest=CHAIN.links[2].digest)
    with pytest.raises(AnotherHistory):
        following(batch(stretch(3, 5)), between)
