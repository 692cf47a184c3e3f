"""Where a head is, as a chain sees it."""

import pytest

from replication.engine.runs import RUN_BYTES, RUNS_MAX, UNKNOWN, Began, Place, Runs, following, place_of, run_of
from replication.engine.stamps import Stamp

A, B, C, D = (letter * RUN_BYTES for letter in (b"a", b"b", b"c", b"d"))
CHAIN: Runs = (Began(A, Stamp(0)), Began(B, Stamp(10)), Began(C, Stamp(20)))
END = Stamp(30)


@pytest.mark.parametrize(
    ("stamp", "run", "where"),
    [
        (1, A, Place.WITHIN),
        (10, A, Place.WITHIN),
        (11, A, Place.ELSEWHERE),  # the run went on from there, and the chain did not
        (10, B, Place.ELSEWHERE),
        (11, B, Place.WITHIN),
        (30, C, Place.WITHIN),
        (31, C, Place.AHEAD),
        (31, B, Place.ELSEWHERE),
        (31, D, Place.UNTOLD),
        (30, D, Place.ELSEWHERE),
        (5, UNKNOWN, Place.ELSEWHERE),
        (31, UNKNOWN, Place.UNTOLD),
        (0, A, Place.ELSEWHERE),
    ],
)
def test_a_head_is_of_a_chain_if_its_run_wrote_that_part_of_it(stamp: int, run: bytes, where: Place) -> None:
    assert place_of(CHAIN, END, stamp=Stamp(stamp), run=run) is where


def test_of_what_was_made_before_runs_were_named_nobody_can_tell_more_than_that() -> None:
    chain = (Began(UNKNOWN, Stamp(0)), Began(A, Stamp(10)))
    assert place_of(chain, END, stamp=Stamp(7), run=UNKNOWN) is Place.WITHIN
    assert place_of(chain, END, stamp=Stamp(7), run=A) is Place.ELSEWHERE
    assert place_of((), Stamp(0), stamp=Stamp(7), run=A) is Place.UNTOLD


def test_so_many_runs_are_kept_and_what_is_older_is_taken_for_another_history() -> None:
    runs: Runs = ()
    for number in range(RUNS_MAX + 1):
        runs = following(runs, Began(run_of(bytes([number % 256, number // 256])), Stamp(number)))
    end = Stamp(RUNS_MAX + 1)
    assert len(runs) == RUNS_MAX
    assert place_of(runs, end, stamp=Stamp(1), run=run_of(bytes(2))) is Place.ELSEWHERE
    assert place_of(runs, end, stamp=Stamp(2), run=run_of(b"\1\0")) is Place.WITHIN
