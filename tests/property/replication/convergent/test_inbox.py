"""Whatever order changesets come in, they are merged each after what it depends on, and none is left."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.convergent.inbox import Arrived, Inbox
from replication.engine.changesets import Header
from replication.engine.stamps import Site, Stamp, first_after

OWN = Site("0" * 32)
FAR_MS = 10**9


def site(number: int) -> Site:
    return Site(f"{number + 1:032x}")


def arrived(header: Header, *, peer: str = "peer", size: int = 10) -> Arrived:
    return Arrived(
        peer=peer, header=header, encoded=b"x" * size, digest=f"{header.site}{header.upto}".encode(), at_s=0.0
    )


def history(rng: random.Random, sites: int, count: int) -> list[Header]:
    """Changesets of some sites, each with the heads that its site had seen among its deps, in a causal order."""
    heads: dict[Site, Stamp] = {}
    seen: dict[Site, dict[Site, Stamp]] = {site(number): {} for number in range(sites)}
    found: list[Header] = []
    for stamp in range(1, count + 1):
        origin = site(rng.randrange(sites))
        for other, head in heads.items():
            if other != origin and rng.random() < 0.5:
                seen[origin][other] = head
        found.append(
            Header(
                cluster="c",
                site=origin,
                after=heads.get(origin, first_after(origin)),
                upto=Stamp(stamp),
                previous=b"",
                deps=dict(seen[origin]),
            )
        )
        heads[origin] = Stamp(stamp)
    return found


def batch(inbox: Inbox, vector: dict[Site, Stamp], *, before_ms: int = FAR_MS) -> list[Arrived]:
    return inbox.batch(vector, own=OWN, closed=frozenset(), before_ms=before_ms)


def merge(taken: Sequence[Arrived], vector: dict[Site, Stamp]) -> None:
    """What a merge demands of a batch."""
    for one in taken:
        header = one.header
        if header.upto <= vector.get(header.site, first_after(header.site)):
            continue
        assert header.after == vector.get(header.site, first_after(header.site))
        assert all(vector.get(dep, -2) >= stamp for dep, stamp in header.deps.items())
        vector[header.site] = header.upto


@given(seed=st.integers(0, 2**32), sites=st.integers(1, 5), count=st.integers(1, 40))
def test_in_any_order_and_with_repeats_everything_is_merged_after_what_it_depends_on(
    seed: int, sites: int, count: int
) -> None:
    rng = random.Random(seed)
    headers = history(rng, sites, count)
    coming = rng.sample(headers, len(headers)) + rng.choices(headers, k=5)
    inbox, vector = Inbox(), dict[Site, Stamp]()
    for header in coming:
        assert inbox.put(arrived(header))
        if rng.random() < 0.3:
            while taken := batch(inbox, vector):
                merge(taken, vector)
                for one in taken:
                    inbox.drop(one)
    while taken := batch(inbox, vector):
        merge(taken, vector)
        for one in taken:
            inbox.drop(one)
    assert (inbox.count, inbox.bytes) == (0, 0)
    assert vector == {header.site: header.upto for header in headers}


def first(stamp: int, *, after: int = 0, of: Site | None = None, deps: dict[Site, Stamp] | None = None) -> Header:
    return Header(cluster="c", site=of or site(0), after=Stamp(after), upto=Stamp(stamp), previous=b"", deps=deps or {})


def test_a_gap_is_said_to_be_the_sites_own() -> None:
    inbox = Inbox()
    inbox.put(arrived(first(9, after=5)))
    (lacking,) = inbox.lacking({}, own=OWN, closed=frozenset(), before_ms=FAR_MS)
    assert (lacking.site, lacking.stamp, lacking.own_gap) == (site(0), 5, True)


def test_a_missing_dep_is_not_the_sites_own_gap() -> None:
    inbox = Inbox()
    inbox.put(arrived(first(9, deps={site(1): Stamp(3)})))
    (lacking,) = inbox.lacking({}, own=OWN, closed=frozenset(), before_ms=FAR_MS)
    assert (lacking.site, lacking.stamp, lacking.own_gap) == (site(1), 3, False)


def test_a_dep_on_a_closed_site_keeps_nothing_back() -> None:
    inbox = Inbox()
    inbox.put(arrived(first(9, deps={site(1): Stamp(3)})))
    assert inbox.batch({}, own=OWN, closed=frozenset({site(1)}), before_ms=FAR_MS)


def test_what_is_too_far_ahead_waits_and_is_not_missed() -> None:
    inbox = Inbox()
    inbox.put(arrived(first(100 << 16)))
    assert not batch(inbox, {}, before_ms=100)
    assert not inbox.lacking({}, own=OWN, closed=frozenset(), before_ms=100)
    assert batch(inbox, {}, before_ms=101)


def test_what_follows_on_a_history_that_is_lost_holds_up_no_other_history_of_its_site() -> None:
    """A site was put back to an older state, and a cast of what it wrote before is here, without its beginning."""
    inbox, vector = Inbox(), dict[Site, Stamp]()
    lost, whole = arrived(first(5, after=3)), arrived(first(8, after=0))
    assert inbox.put(lost)
    assert inbox.put(whole)
    assert batch(inbox, vector) == [whole, lost]  # the second is judged by the merge: a fork


def test_a_full_inbox_takes_only_what_was_asked_for() -> None:
    inbox = Inbox(max_count=1)
    assert inbox.put(arrived(first(1)))
    assert not inbox.put(arrived(first(2, after=1)))
    assert inbox.put(arrived(first(2, after=1)), asked_for=True)
    assert inbox.count == 2


def test_one_changeset_larger_than_the_inbox_is_taken_when_it_is_empty() -> None:
    inbox = Inbox(max_bytes=5)
    assert inbox.put(arrived(first(1), size=10))


def test_a_batch_is_bounded_but_never_empty() -> None:
    inbox = Inbox()
    for stamp in (1, 2, 3):
        inbox.put(arrived(first(stamp, after=stamp - 1), size=10))
    for max_bytes, count in ((1, 1), (25, 2), (100, 3)):
        taken = inbox.batch({}, own=OWN, closed=frozenset(), before_ms=FAR_MS, max_bytes=max_bytes)
        assert len(taken) == count


@pytest.mark.parametrize("stamp", [3, 5])
def test_what_is_covered_goes_to_the_merge_which_tells_a_repeat_from_a_fork(stamp: int) -> None:
    inbox = Inbox()
    inbox.put(arrived(first(stamp, after=2)))
    assert batch(inbox, {site(0): Stamp(5)})
