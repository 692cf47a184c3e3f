"""What peers and strangers do must not fill a log."""

import logging

import pytest

from cluster.seldom import CAUSES_MAX, SeldomLog


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_one_line_per_cause_and_interval_that_counts_the_others(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    seldom = SeldomLog(logging.getLogger("seldom"), clock, interval_s=30.0)
    for now_s in range(65):
        clock.now_s = float(now_s)
        seldom.warning("cause", "it happened")
    seldom.warning("other", "something else")
    assert [record.getMessage() for record in caplog.records] == [
        "it happened",
        "it happened (29 more like it in between)",
        "it happened (29 more like it in between)",
        "something else",
    ]


def test_what_can_happen_by_chance_is_logged_from_the_second_time_on(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    seldom = SeldomLog(logging.getLogger("seldom"), clock, interval_s=30.0)
    for clock.now_s in (0.0, 31.0, 32.0, 33.0, 100.0):
        seldom.repeated("cause", f"at {clock.now_s:.0f}")
    assert [record.getMessage() for record in caplog.records] == ["at 32"]
    for number in range(10 * CAUSES_MAX):
        seldom.repeated(f"secret {number}", "text")
    assert len(seldom._once) <= CAUSES_MAX


def test_causes_that_a_stranger_can_name_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    seldom = SeldomLog(logging.getLogger("seldom"), Clock())
    for number in range(10 * CAUSES_MAX):
        seldom.warning(f"secret {number}", "text")
    assert len(seldom._last) <= CAUSES_MAX
    assert caplog.records


def test_percent_signs_are_text(caplog: pytest.LogCaptureFixture) -> None:
    SeldomLog(logging.getLogger("seldom"), Clock()).warning("cause", "100 %s")
    assert caplog.records[0].getMessage() == "100 %s"
