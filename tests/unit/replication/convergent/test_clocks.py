"""Whose clock is off: the majority decides, and two clocks never do."""

import pytest

from replication.convergent.clocks import ahead_said, off_ms, off_said
from replication.engine.stamps import stamp_at

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


def test_a_database_that_was_stamped_far_ahead_says_for_how_long() -> None:
    assert ahead_said(stamp_at(100_000), 0, BOUND_MS)
    assert not ahead_said(stamp_at(60_000), 0, BOUND_MS)
