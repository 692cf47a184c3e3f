"""Several looks together: what could be told once is told; what has no clock must differ every time."""

from collections.abc import Mapping

from replication.engine.coverage import Coverage
from replication.engine.digests import Digest, TableDigest
from replication.engine.stamps import Site, Stamp
from replication.measuring.settling import LOOKS_WITHOUT_CLOCKS, known_after, to_look_at_again

A, B = Site("a" * 32), Site("b" * 32)


def table(*sums: int, attached: bool = False, newest: Mapping[Site, Mapping[int, Stamp]] | None = None) -> TableDigest:
    return TableDigest(
        attached=attached,
        key=("id",),
        counters=frozenset(),
        rows=sums,
        keys=sums,
        columns={},
        newest=newest or {},
    )


def digest(
    vector: Mapping[Site, int] | None = None, absent: Mapping[str, str] | None = None, **tables: TableDigest
) -> Digest:
    return Digest(
        coverage=Coverage(vector={site: Stamp(stamp) for site, stamp in (vector or {}).items()}),
        tables=tables,
        absent=absent or {},
    )


def test_without_clocks_a_difference_has_to_show_every_time() -> None:
    first = known_after({}, {"x": digest(t=table(1, 2)), "y": digest(t=table(1, 3))})
    assert to_look_at_again(first, looks=1) == ["t"]
    moved = known_after(first, {"x": digest(t=table(1, 2)), "y": digest(t=table(4, 2))})
    assert not moved["t"].comparison.differing, "each bucket was equal once"
    stays = known_after(first, {"x": digest(t=table(1, 2)), "y": digest(t=table(4, 3))})
    assert list(stays["t"].comparison.differing) == [1]
    assert to_look_at_again(stays, looks=LOOKS_WITHOUT_CLOCKS) == []


def test_without_clocks_another_set_of_nodes_is_another_question() -> None:
    first = known_after({}, {"x": digest(t=table(1)), "y": digest(t=table(1))})
    now = known_after(first, {"x": digest(t=table(1)), "z": digest(t=table(2))})
    assert list(now["t"].comparison.differing) == [0]


def behind(count: int) -> dict[str, Digest]:
    """Two nodes of which one has merged more."""
    ahead = table(1, count, attached=True, newest={A: {1: Stamp(5)}})
    return {"x": digest({A: 5}, t=ahead), "y": digest({A: 4}, t=table(1, 7, attached=True))}


def test_with_clocks_what_is_only_behind_is_looked_at_again_and_told_later() -> None:
    first = known_after({}, behind(2))
    assert not first["t"].comparison.differing
    assert to_look_at_again(first, looks=LOOKS_WITHOUT_CLOCKS + 5) == ["t"]
    caught_up = table(1, 2, attached=True)
    later = known_after(first, {"x": digest({A: 5}, t=caught_up), "y": digest({A: 5}, t=caught_up)})
    assert to_look_at_again(later, looks=2) == []
    again = known_after(later, behind(9))
    assert to_look_at_again(again, looks=3) == [], "it was equal a moment ago"


def test_tables_that_were_not_asked_for_again_stay_as_they_were() -> None:
    first = known_after({}, {"x": digest(t=table(1), u=table(2)), "y": digest(t=table(1), u=table(3))})
    now = known_after(first, {"x": digest(u=table(2)), "y": digest(u=table(2))})
    assert set(now) == {"t", "u"}
    assert not now["u"].comparison.differing


def test_a_table_that_is_nowhere_is_nothing_to_compare() -> None:
    nowhere = digest(absent={"t": "there is no such table"})
    assert known_after({}, {"x": nowhere, "y": nowhere}) == {}
    odd = digest(absent={"t": "the table has no primary key"})
    assert list(known_after({}, {"x": nowhere, "y": odd})) == ["t"]
