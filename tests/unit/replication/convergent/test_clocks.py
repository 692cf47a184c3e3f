"""Whose clock is off: the majority decides, and two clocks never do."""

import pytest

from replication.convergent.clocks import ahead_said, is_ahead_alone, off_ms, off_said, tips_of_all
from replication.convergent.messages import Closed, Heads
from replication.convergent.store import View
from replication.engine.sites import Head
from replication.engine.stamps import Site, latest_ms, stamp_at

BOUND_MS = 60_000


@pytest.mark.parametrize(
    ("offsets_ms", "off"),
    [
        ([], 0),
        ([500_000], 0),
        ([500_000, 500_100], 500_000),
        ([-500_000, -500_100], -500_000),
        ([10, -500_000], 0),
        ([10, 20, -500_000], 0),
        ([500_000, 500_000, 0], 500_000),
        ([59_000, 59_000], 0),
    ],
)
def test_a_clock_is_off_if_the_median_of_the_peers_says_so(offsets_ms: list[int], off: int) -> None:
    assert off_ms(offsets_ms, BOUND_MS) == off


def test_a_person_is_told_which_way_the_clock_is_off_and_what_to_do() -> None:
    assert "500 s behind its peers'" in off_said(500_000)
    assert "ahead of its peers'" in off_said(-500_000)
    assert "set it (NTP)" in off_said(1)


NOW_MS = 1_700_000_000_000
OWN, OTHER = Site("a" * 32), Site("b" * 32)


def head(ms: int) -> Head:
    return Head(stamp=stamp_at(ms), digest=b"d" * 16)


def view(own_ms: int, other_ms: int = NOW_MS, closed: Closed | None = None) -> View:
    return View(
        site=OWN,
        vector={OWN: head(own_ms), OTHER: head(other_ms)},
        closed=closed or {},
        clock=stamp_at(max(own_ms, other_ms)),
    )


def heads(own_ms: int | None = None, closed: Closed | None = None) -> Heads:
    vector = {} if own_ms is None else {OWN: head(own_ms)}
    return Heads(site=OTHER, vector=vector, closed=closed or {}, clock_ms=NOW_MS, ready=True)


def ahead(found: View, peers: dict[str, Heads], offset_ms: int = 0) -> bool:
    return is_ahead_alone(found, peers, dict.fromkeys(peers, offset_ms), now_ms=NOW_MS, bound_ms=BOUND_MS)


FAR_MS = NOW_MS + 10 * BOUND_MS


def test_what_nobody_takes_yet_is_stamped_again() -> None:
    assert ahead(view(FAR_MS), {"b": heads()})
    assert ahead(view(FAR_MS), {"b": heads(NOW_MS), "c": heads(NOW_MS)})


def test_what_somebody_merged_or_will_soon_is_not_stamped_again() -> None:
    assert not ahead(view(NOW_MS), {"b": heads()}), "not ahead"
    assert not ahead(view(FAR_MS), {}), "nobody is there"
    assert not ahead(view(FAR_MS), {"b": heads(), "c": heads(FAR_MS)}), "c merged it"
    assert not ahead(view(FAR_MS), {"b": heads()}, offset_ms=20 * BOUND_MS), "it is this node's clock that is behind"
    assert not ahead(view(FAR_MS, FAR_MS), {"b": heads()}), "what others stamped as far ahead is merged here"


def test_a_site_is_cut_when_each_peer_has_closed_it() -> None:
    tips = frozenset({head(NOW_MS)})
    b, silent, lacking = heads(closed={OWN: tips}), heads(), heads(closed={OWN: frozenset()})
    assert tips_of_all(OWN, {"b": b, "c": silent}) is None
    assert tips_of_all(OWN, {"b": b, "c": lacking}) == tips


def test_a_database_that_was_stamped_far_ahead_says_by_how_much_and_what_it_waits_for() -> None:
    (said,) = ahead_said(view(FAR_MS), ["c"], now_ms=NOW_MS, bound_ms=BOUND_MS)
    assert "600 s ahead" in said
    assert "when c can be heard" in said
    assert "--forget" in said
    assert ahead_said(view(FAR_MS), [], now_ms=NOW_MS, bound_ms=BOUND_MS)
    assert not ahead_said(view(NOW_MS + BOUND_MS), [], now_ms=NOW_MS, bound_ms=BOUND_MS)


def test_a_stamp_near_what_is_merged_of_others_is_taken_and_no_other_beyond_the_bound() -> None:
    def latest(others_ms: int) -> int:
        return latest_ms(now_ms=NOW_MS, bound_ms=BOUND_MS, newest_of_others=stamp_at(others_ms)) - NOW_MS

    assert latest(0) == latest(NOW_MS + BOUND_MS) == BOUND_MS
    assert latest(FAR_MS) == 11 * BOUND_MS
