"""Which rows differ, what is only behind, and how far counters are apart."""

from collections.abc import Mapping

from replication.engine.coverage import Coverage
from replication.engine.differing import Differences, RowDifference, differing
from replication.engine.listings import ListedRow, RowListing
from replication.engine.stamps import Site, Stamp

X, Y = Site("a" * 32), Site("b" * 32)
BASELINE = Site("g" + "1" * 31)
NOTHING = ListedRow(hashes=None, counts=(0,))


def row(title: int, count: int, *, pending: bool = False, **newest: int) -> ListedRow:
    sites = {"x": X, "y": Y}
    return ListedRow(
        hashes=(title, count),
        counts=(count,),
        newest={sites[name]: Stamp(stamp) for name, stamp in newest.items()},
        pending=pending,
    )


def listing(
    rows: Mapping[str, ListedRow], vector: Mapping[Site, int] | None = None, *, unsettled: bool = False
) -> RowListing:
    return RowListing(
        columns=("title", "visits"),
        counters=("visits",),
        coverage=Coverage(vector={site: Stamp(stamp) for site, stamp in (vector or {}).items()}),
        unsettled=unsettled,
        rows={(key,): value for key, value in rows.items()},
    )


def test_rows_that_are_shown_alike_do_not_differ_whoever_wrote_them() -> None:
    found = differing({"1": listing({"a": row(1, 2, x=9)}), "2": listing({"a": row(1, 2, pending=True)})})
    assert found == Differences(spreads={"visits": 0})


def test_a_row_that_differs_is_named_with_what_each_node_counts() -> None:
    both = listing({"a": row(1, 5), "b": row(1, 1)})
    found = differing({"1": both, "2": listing({"a": row(1, 3), "b": row(1, 1)}), "3": both})
    assert found.rows == {("a",): RowDifference(nodes=frozenset("123"), counts={"visits": {"1": 5, "2": 3, "3": 5}})}
    assert (found.differing, found.untold, found.spreads) == (1, 0, {"visits": 2})


def test_a_missing_row_differs_and_counts_0() -> None:
    found = differing({"1": listing({"a": row(1, 5), "b": row(1, -4)}), "2": listing({})})
    assert (found.differing, found.spreads) == (2, {"visits": 9})


def test_a_deleted_row_is_as_good_as_none() -> None:
    assert differing({"1": listing({"a": NOTHING}), "2": listing({})}).differing == 0


def test_a_row_is_untold_where_one_may_be_behind() -> None:
    behind = {
        "newer here": (listing({"a": row(1, 1, x=5)}, {X: 5}), listing({"a": row(2, 1, x=4)}, {X: 4})),
        "newer there": (listing({"a": row(1, 1, x=4)}, {X: 4}), listing({"a": row(2, 1, x=5)}, {X: 5})),
        "unknown there": (listing({"a": row(1, 1, x=5)}, {X: 5}), listing({}, {X: 4})),
        "deleted there": (
            listing({"a": row(1, 1, x=5)}, {X: 5}),
            listing({"a": ListedRow(hashes=None, counts=(0,), newest={Y: Stamp(6)})}, {X: 5, Y: 6}),
        ),
        "older, of another site": (
            listing({"a": row(1, 1, x=4, y=9)}, {X: 4, Y: 9}),
            listing({"a": row(2, 1, x=3, y=9)}, {X: 3, Y: 9}),
        ),
        "pending": (listing({"a": row(1, 1, pending=True)}), listing({"a": row(2, 1)})),
        "unsettled": (listing({"a": row(1, 1)}, unsettled=True), listing({"a": row(2, 1)})),
        "another baseline": (listing({"a": row(1, 1)}, {BASELINE: 0}), listing({"a": row(2, 1)})),
    }
    for why, (one, other) in behind.items():
        found = differing({"1": one, "2": other})
        assert (found.differing, found.untold, found.spreads) == (0, 1, {"visits": 0}), why
        assert differing({"2": other, "1": one}) == found, why


def test_a_row_differs_where_each_covers_what_the_other_has() -> None:
    one, other = listing({"a": row(1, 1, x=5)}, {X: 5, Y: 6}), listing({"a": row(2, 1, x=5, y=6)}, {X: 5, Y: 6})
    assert differing({"1": one, "2": other}).differing == 1


def test_who_is_only_behind_does_not_count_to_the_spread() -> None:
    vector = {X: 5}
    found = differing(
        {
            "1": listing({"a": row(1, 5, x=5)}, vector),
            "2": listing({"a": row(1, 7, x=5)}, vector),
            "3": listing({"a": row(1, 0, x=4)}, {X: 4}),
        }
    )
    assert found.rows[("a",)].nodes == {"1", "2"}
    assert (found.differing, found.untold, found.spreads) == (1, 0, {"visits": 2})


def test_only_columns_that_both_have_are_compared() -> None:
    fewer = RowListing(
        columns=("visits",),
        counters=("visits",),
        coverage=Coverage(),
        unsettled=False,
        rows={("a",): ListedRow(hashes=(3,), counts=(3,)), ("b",): ListedRow(hashes=(3,), counts=(3,))},
    )
    found = differing({"1": listing({"a": row(1, 3), "b": row(1, 4)}), "2": fewer})
    assert found.rows.keys() == {("b",)}


def test_a_counter_that_one_node_has_has_no_spread() -> None:
    none = RowListing(columns=(), counters=(), coverage=Coverage(), unsettled=False, rows={})
    found = differing({"1": listing({"a": row(1, 3)}), "2": none})
    assert (found.differing, found.spreads) == (1, {})


def test_no_more_rows_are_named_than_asked_for_but_all_are_counted() -> None:
    one, other = listing({key: row(1, 1) for key in "abc"}), listing({key: row(1, 3) for key in "abc"})
    found = differing({"1": one, "2": other}, rows_max=2)
    assert (len(found.rows), found.differing, found.spreads) == (2, 3, {"visits": 6})
    joined = found.joined(differing({"1": listing({"d": row(1, 1)}), "2": listing({})}), rows_max=3)
    assert (len(joined.rows), joined.differing, joined.spreads) == (3, 4, {"visits": 7})
    assert found.joined(found, rows_max=2).rows == found.rows
