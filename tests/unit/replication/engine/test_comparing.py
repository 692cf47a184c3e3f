"""What digests say together: equal, different, or that it cannot be told."""

from collections.abc import Mapping, Sequence

from replication.engine.comparing import Comparison, TableComparison, Verdict, compare, worst
from replication.engine.coverage import Coverage
from replication.engine.digests import Digest, TableDigest
from replication.engine.stamps import Site, Stamp

X, Y = Site("a" * 32), Site("b" * 32)
BASELINE = Site("g" + "1" * 31)


def table(
    *sums: int,
    newest: Mapping[Site, Mapping[int, int]] | None = None,
    pending: Sequence[int] = (),
    attached: bool = True,
    counters: Sequence[str] = (),
    key: str = "k",
    **columns: tuple[int, ...],
) -> TableDigest:
    return TableDigest(
        attached=attached,
        key=(key,),
        counters=frozenset(counters),
        rows=(8 // len(sums),) * len(sums),
        keys=(8 // len(sums),) * len(sums),
        columns={"c": sums, **columns},
        pending=frozenset(pending),
        newest={
            site: {bucket: Stamp(stamp) for bucket, stamp in stamps.items()} for site, stamps in (newest or {}).items()
        },
    )


def node(found: TableDigest | None = None, *, absent: str = "", **vector: int) -> Digest:
    sites = {"x": X, "y": Y, "baseline": BASELINE}
    return Digest(
        coverage=Coverage(vector={sites[name]: Stamp(stamp) for name, stamp in vector.items()}),
        tables={} if found is None else {"t": found},
        absent={"t": absent} if absent else {},
    )


def only(comparison: Comparison) -> TableComparison:
    return comparison.tables["t"]


def test_equal_sums_are_equal_whatever_anybody_has_merged() -> None:
    found = compare({"a": node(table(1, 2, newest={X: {0: 5}}, pending=[1]), x=5), "b": node(table(1, 2))})
    assert found.verdict is Verdict.EQUAL
    assert only(found).nodes == {"a", "b"}


def test_a_bucket_differs_where_each_covers_what_the_other_wrote() -> None:
    mine, theirs = table(1, 2, newest={X: {1: 5}}), table(1, 3, newest={Y: {1: 4}})
    found = compare({"a": node(mine, x=5, y=4), "b": node(theirs, x=5, y=4)})
    assert found.verdict is Verdict.DRIFT
    assert only(found).differing == {1: {"a", "b"}}
    assert not only(found).untold


def test_a_bucket_is_untold_where_one_has_written_what_the_other_lacks() -> None:
    mine, theirs = table(1, 2, newest={X: {1: 5}}), table(1, 3, newest={Y: {1: 4}})
    for behind in (node(theirs, x=4, y=4), node(theirs, y=4)):
        found = compare({"a": node(mine, x=5, y=4), "b": behind})
        assert found.verdict is Verdict.UNKNOWN
        assert only(found).untold == {1: {"a", "b"}}


def test_an_older_write_of_another_site_s_is_lacking_though_the_newest_is_there() -> None:
    mine, theirs = table(7, newest={X: {0: 5}, Y: {0: 9}}), table(8, newest={Y: {0: 9}})
    assert compare({"a": node(mine, x=5, y=9), "b": node(theirs, x=4, y=9)}).verdict is Verdict.UNKNOWN


def test_what_was_written_elsewhere_does_not_matter() -> None:
    mine, theirs = table(1, 2, newest={X: {0: 5}}), table(1, 3)
    assert compare({"a": node(mine, x=5), "b": node(theirs)}).verdict is Verdict.DRIFT


def test_a_pending_bucket_is_untold() -> None:
    found = compare({"a": node(table(1, 2, pending=[1])), "b": node(table(1, 3))})
    assert found.verdict is Verdict.UNKNOWN


def test_where_nothing_is_attached_what_differs_is_different() -> None:
    mine, theirs = table(1, 2, attached=False), table(1, 3, attached=False)
    assert compare({"a": node(mine), "b": node(theirs)}).verdict is Verdict.DRIFT


def test_counters_are_told_between_nodes_that_merged_the_same_baselines() -> None:
    def verdict(*counters: str) -> Verdict:
        mine, theirs = table(1, counters=counters), table(2, counters=counters)
        return compare({"a": node(mine, x=5, baseline=0), "b": node(theirs, x=5)}).verdict

    assert verdict() is Verdict.DRIFT
    assert verdict("c") is Verdict.UNKNOWN


def test_with_three_nodes_those_that_are_unequal_are_named() -> None:
    digests = {"a": node(table(1, 2)), "b": node(table(1, 2)), "c": node(table(1, 3))}
    assert only(compare(digests)).differing == {1: {"a", "b", "c"}}
    digests = {
        "a": node(table(1, 2, newest={X: {1: 5}}), x=5),
        "b": node(table(1, 3, newest={X: {1: 5}}), x=5),
        "c": node(table(1, 4), x=4),
    }
    found = compare(digests)
    assert only(found).differing == {1: {"a", "b"}}
    assert not only(found).untold, "that it differs is told by two of them"


def test_only_columns_that_both_of_two_nodes_have_are_compared() -> None:
    digests = {"a": node(table(1, d=(2,))), "b": node(table(1)), "c": node(table(1, d=(3,)))}
    found = compare(digests)
    assert only(found).differing == {0: {"a", "c"}}
    assert only(found).uneven == {"d"}


def test_a_node_without_the_table_is_named_and_makes_it_unknown() -> None:
    digests = {"a": node(table(1)), "b": node(table(1)), "c": node(absent="there is no such table"), "d": node()}
    found = compare(digests)
    assert found.verdict is Verdict.UNKNOWN
    assert only(found).nodes == {"a", "b"}
    assert only(found).absent == {"c": "there is no such table", "d": "the table was not asked for"}


def test_a_node_that_has_not_attached_it_or_has_another_key_is_not_compared() -> None:
    digests = {"a": node(table(1)), "b": node(table(2, attached=False)), "c": node(table(3, key="other"))}
    assert only(compare(digests)).absent == {
        "b": "the table is not attached",
        "c": "the table has another primary key",
    }


def test_digests_of_different_fineness_are_compared() -> None:
    found = compare({"a": node(table(1, 2, 3, 4)), "b": node(table(4, 6))})
    assert only(found).buckets == 2
    assert found.verdict is Verdict.EQUAL
    found = compare({"a": node(table(1, 2, 3, 4)), "b": node(table(4, 7))})
    assert only(found).differing.keys() == {1}


def test_what_cannot_be_told_now_is_what_it_was_before() -> None:
    def bucket(mine: int, theirs: int, *, told: bool) -> tuple[TableDigest, TableDigest]:
        return table(mine, 1, pending=() if told else [0]), table(theirs, 1)

    def comparison(found: tuple[TableDigest, TableDigest]) -> Comparison:
        return compare({"a": node(found[0]), "b": node(found[1])})

    equal = comparison(bucket(1, 1, told=True))
    differs = comparison(bucket(1, 2, told=True))
    untold = comparison(bucket(1, 2, told=False))
    assert untold.after(equal).verdict is Verdict.EQUAL
    assert untold.after(differs).verdict is Verdict.DRIFT
    assert untold.after(untold).verdict is Verdict.UNKNOWN
    assert equal.after(differs).verdict is Verdict.EQUAL
    assert differs.after(equal).verdict is Verdict.DRIFT
    other_nodes = compare({"a": node(table(1, 1)), "c": node(table(1, 1))})
    assert untold.after(other_nodes).verdict is Verdict.UNKNOWN


def test_no_node_or_one_is_equal_to_itself() -> None:
    assert compare({}).verdict is Verdict.EQUAL
    assert compare({"a": node(table(1))}).verdict is Verdict.EQUAL


def test_drift_is_worse_than_not_knowing() -> None:
    assert worst([Verdict.EQUAL, Verdict.UNKNOWN, Verdict.DRIFT]) is Verdict.DRIFT
    assert worst([Verdict.EQUAL, Verdict.UNKNOWN]) is Verdict.UNKNOWN
    assert worst([]) is Verdict.EQUAL
