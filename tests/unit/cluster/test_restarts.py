"""How many crashes are too many."""

from cluster.restarts import RestartIntensity


def test_three_in_five_seconds_are_allowed_and_the_fourth_is_not() -> None:
    intensity = RestartIntensity()
    assert [intensity.allows(now_s) for now_s in (0.0, 1.0, 2.0, 4.9)] == [True, True, True, False]


def test_crashes_of_more_than_five_seconds_ago_do_not_count() -> None:
    intensity = RestartIntensity()
    assert [intensity.allows(now_s) for now_s in (0.0, 1.0, 2.0, 5.1, 6.1, 6.9)] == [
        True,
        True,
        True,
        True,
        True,
        False,
    ]


def test_one_that_allows_none_allows_none() -> None:
    assert not RestartIntensity(max_restarts=0).allows(0.0)


def test_steady_crashes_below_the_rate_are_allowed_for_ever_and_kept_nowhere() -> None:
    intensity = RestartIntensity()
    assert all(intensity.allows(number * 2.0) for number in range(1_000))
    assert len(intensity._restarts) <= 3
