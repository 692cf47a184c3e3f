"""Simulated clusters of mode primary. `make sim MODE=primary SEEDS=100` runs a campaign of them."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cluster.lease import object_store
from replication.acknowledging.levels import Ack
from replication.primary import carrying_out
from replication.primary.tenure import Tenure
from replication.simulation.one_writer.faults import FAULTS, SUSPENDED, Fault
from replication.simulation.one_writer.history import Call, End, Row, wrong_with
from replication.simulation.one_writer.linearizable import Operation, is_linearizable
from replication.simulation.one_writer.scenario import run

SEEDS = 3
"""Of the suite: each takes about a second."""
FOUND = {"without_looking_for_the_key": 5}
"""Where a seed was found once: only to be quick."""
LOOKS_FOR = 40


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_simulated_cluster_has_one_writer_and_keeps_what_it_promised(seed: int) -> None:
    result = run(seed)
    assert not result.wrong, f"seed {seed}, see make sim MODE=primary SEED={seed}: {result.wrong}"
    assert result.reached["calls done"] > 20


type TakeOut = Callable[[pytest.MonkeyPatch], None]


def without_asking_after_a_stall(patch: pytest.MonkeyPatch) -> None:
    """Who was not awake trusts its clock."""

    def may_write(self: Any) -> bool:
        return self.grant is not None and self._clock() < self.grant.good_until_s

    patch.setattr(Tenure, "may_write", may_write)


def without_waiting_for_the_lease_to_run_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(object_store, "has_run_out", lambda **_: True)


def without_looking_for_the_key(patch: pytest.MonkeyPatch) -> None:
    """A write that is asked for again is carried out again."""
    patch.setattr(carrying_out, "_FIND", f"{carrying_out._FIND} AND 0")
    patch.setattr(carrying_out, "_NOTE", carrying_out._NOTE.replace("INSERT", "INSERT OR REPLACE"))


@pytest.mark.parametrize(
    ("take_out", "faults"),
    [
        (without_asking_after_a_stall, [SUSPENDED]),
        (without_waiting_for_the_lease_to_run_out, FAULTS),
        (without_looking_for_the_key, FAULTS),
    ],
)
def test_without_it_some_seed_fails_that_does_not_with_it(take_out: TakeOut, faults: Sequence[Fault]) -> None:
    for seed in (FOUND.get(take_out.__name__, 0), *range(LOOKS_FOR)):
        with pytest.MonkeyPatch.context() as patch:
            take_out(patch)
            wrong = run(seed, faults=faults).wrong
        if wrong and not run(seed, faults=faults).wrong:
            print(f"seed {seed}: {wrong[0][:300]}")
            return
    pytest.fail("no seed needs it")


def _at(began_s: float, ended_s: float, saw: str | None, wrote: str | None = None) -> Operation:
    return Operation(began_s=began_s, ended_s=ended_s, saw=saw, wrote=wrote)


def test_a_read_that_does_not_see_what_was_written_before_it_is_not_linearizable() -> None:
    assert is_linearizable([_at(0, 1, None, "x"), _at(2, 3, "x")])
    assert not is_linearizable([_at(0, 1, None, "x"), _at(2, 3, None)])
    assert is_linearizable([_at(0, 5, None, "x"), _at(2, 3, None), _at(3, 4, "x")])
    assert not is_linearizable([_at(0, 5, None, "x"), _at(2, 3, "x"), _at(4, 5, None)])


def test_a_write_of_unknown_outcome_may_take_effect_at_any_time_after_it_began() -> None:
    assert is_linearizable([_at(0, math.inf, "y", "x"), _at(1, 2, None, "y"), _at(5, 6, "x")])
    assert not is_linearizable([_at(4, math.inf, "y", "x"), _at(1, 2, None, "y"), _at(2, 3, "x")])


def _call(op: str, **others: Any) -> Call:
    given: dict[str, Any] = {"session": 1, "node": "A", "key": "a", "kind": "swap", "ack": Ack.LOCAL, "is_done": True}
    return Call(**{"op": op, "began_s": 1.0, "ended_s": 2.0, "version": 1, **given, **others})


def _end(**rows: Row) -> End:
    return End(
        rows={op: [row] for op, row in rows.items()}, size=3, handed_over=frozenset(), last=7, power_was_cut=False
    )


def test_a_lost_write_is_found_where_it_was_promised_and_only_there() -> None:
    assert wrong_with([_call("x")], _end()) == []
    assert len(wrong_with([_call("x", ack=Ack.QUORUM)], _end())) == 1
    assert len(wrong_with([_call("x", was_forwarded=True)], _end())) == 1
    assert wrong_with([_call("x", ack=Ack.QUORUM, is_done=False)], _end()) == []


def test_a_session_that_sees_less_than_it_saw_is_found() -> None:
    end = _end(x=Row("a", None, 1), y=Row("a", "x", 2))
    writes = [_call("x", session=2), _call("y", saw="x", version=2, began_s=3.0, ended_s=4.0)]
    look = {"kind": "look", "saw": "x", "version": 1, "began_s": 5.0, "ended_s": 6.0}
    assert len(wrong_with([*writes, _call("z", **look)], end)) == 1
    assert wrong_with([*writes, _call("z", **look, session=2)], end) == []


def test_a_write_that_was_carried_out_twice_is_found() -> None:
    end = _end(x=Row("a", None, 1))
    end.rows["x"].append(Row("a", "x", 2))
    assert "x was carried out 2 times" in wrong_with([_call("x")], end)
