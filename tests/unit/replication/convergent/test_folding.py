"""How long nothing is folded after a fold."""

import pytest

from replication.convergent.folding import BULK_INTERVAL_MAX_S, BULK_ROWS, FOLD_INTERVAL_S, interval_s


@pytest.mark.parametrize("took_s", [0.0, 0.001, 0.05, 5.0])
def test_few_rows_are_followed_by_the_next_fold_at_once_however_long_the_disk_took(took_s: float) -> None:
    assert interval_s(BULK_ROWS - 1, took_s) == FOLD_INTERVAL_S


def test_many_rows_leave_time_for_more_to_come_and_never_more_than_a_moment() -> None:
    assert interval_s(BULK_ROWS, 0.0) == FOLD_INTERVAL_S
    assert interval_s(BULK_ROWS, 0.03) == 0.06
    assert interval_s(1_000_000, 20.0) == BULK_INTERVAL_MAX_S
