"""For how long the primary has written what nobody else has."""

from replication.engine.stamps import Stamp
from replication.primary.ahead import Ahead


def note(ahead: Ahead, here: int, elsewhere: int, now_s: float) -> float:
    ahead.note(Stamp(here), Stamp(elsewhere), now_s)
    return ahead.for_s(now_s)


def test_a_primary_that_others_keep_up_with_is_not_ahead() -> None:
    ahead = Ahead()
    assert note(ahead, 5, 5, 1.0) == 0
    assert note(ahead, 9, 5, 2.0) == 0
    assert note(ahead, 9, 9, 3.0) == 0
    assert ahead.for_s(100.0) == 0


def test_it_counts_from_the_first_write_that_is_nowhere_else() -> None:
    ahead = Ahead()
    note(ahead, 5, 0, 10.0)
    note(ahead, 7, 0, 12.0)
    assert ahead.for_s(15.0) == 5
    assert note(ahead, 7, 5, 16.0) == 4


def test_what_a_node_has_that_went_away_counts_on() -> None:
    ahead = Ahead()
    note(ahead, 5, 5, 1.0)
    assert note(ahead, 5, 0, 60.0) == 0


def test_a_long_time_alone_is_told_from_its_beginning_with_bounded_memory() -> None:
    ahead = Ahead()
    for number in range(1, 10_000):
        note(ahead, number, 0, float(number))
    assert ahead.for_s(10_000.0) == 9_999
    assert len(ahead._notes) <= 1_001
    assert note(ahead, 10_000, 10_000, 10_000.0) == 0
