"""What is reported of a comparison, and what it says as JSON and as an exit code."""

import json
from collections.abc import Mapping

import pytest

from replication.drift import DriftReport, RowDrift, report, unknown
from replication.engine.comparing import Comparison, TableComparison, Verdict
from replication.engine.differing import Differences
from replication.engine.received import Malformed

NODES = frozenset({"a", "b"})


def table(
    *, differing: int = 0, untold: int = 0, absent: Mapping[str, str] | None = None, uneven: str = ""
) -> TableComparison:
    return TableComparison(
        nodes=NODES,
        absent=absent or {},
        buckets=1_024,
        differing=dict.fromkeys(range(differing), NODES),
        untold=dict.fromkeys(range(differing, differing + untold), NODES),
        uneven=frozenset(uneven),
    )


def comparison(**tables: TableComparison) -> Comparison:
    return Comparison(nodes=NODES, tables=tables)


def test_equal_is_0() -> None:
    found = report(comparison(pages=table(), users=table()))
    assert (found.verdict, found.exit_code, found.reason) == (Verdict.EQUAL, 0, "")
    assert [table.rows_differing for table in found.tables] == [0, 0]


def test_drift_is_1_with_the_number_of_rows_and_how_far_counters_are_apart() -> None:
    found = report(
        comparison(pages=table(differing=3), users=table()),
        differences={"pages": Differences(differing=4, untold=1, spreads={"visits": 13, "likes": 0})},
    )
    assert (found.verdict, found.exit_code) == (Verdict.DRIFT, 1)
    assert found.reason == "pages: 4 rows differ; visits by 13"
    pages, users = found.tables
    assert (pages.rows_differing, pages.rows_untold, pages.counters) == (4, 1, {"visits": 13, "likes": 0})
    assert users.verdict is Verdict.EQUAL


def test_one_row_differs() -> None:
    found = report(comparison(pages=table(differing=1)), differences={"pages": Differences(differing=1)})
    assert found.reason == "pages: 1 row differs"


def test_drift_of_which_the_rows_were_not_counted_is_1_all_the_same() -> None:
    found = report(comparison(pages=table(differing=1)))
    assert (found.exit_code, found.tables[0].rows_differing, found.reason) == (1, None, "pages: rows differ")


def test_what_cannot_be_told_is_2() -> None:
    found = report(comparison(pages=table(untold=1), users=table()))
    assert (found.verdict, found.exit_code) == (Verdict.UNKNOWN, 2)
    assert found.reason == "pages: nodes are still behind each other"


def test_a_node_that_does_not_answer_or_lacks_a_table_makes_it_2_unless_others_have_drifted() -> None:
    found = report(comparison(pages=table()), unreachable={"c": "no answer in 3 s"})
    assert (found.exit_code, found.reason) == (2, "c did not answer (no answer in 3 s)")
    found = report(comparison(pages=table(absent={"b": "there is no such table"})))
    assert (found.exit_code, found.reason) == (2, "pages: b: there is no such table")
    found = report(comparison(pages=table(differing=1)), unreachable={"c": "no answer in 3 s"})
    assert found.exit_code == 1
    assert unknown("this node is alone").exit_code == 2


def test_rows_that_were_made_equal_meanwhile_are_no_drift() -> None:
    differing = comparison(pages=table(differing=2))
    assert report(differing, differences={"pages": Differences()}).verdict is Verdict.EQUAL
    assert report(differing, differences={"pages": Differences(untold=1)}).verdict is Verdict.UNKNOWN
    both = comparison(pages=table(differing=2, untold=1))
    assert report(both, differences={"pages": Differences()}).verdict is Verdict.UNKNOWN


def test_it_comes_back_from_json_as_it_was() -> None:
    rows = [
        RowDrift(key=("a", 1), nodes={"a": {"t": b"\x00\xff", "f": float("-inf"), "n": 2**63 - 1}, "b": None}),
        RowDrift(key=(b"k", 1.5), nodes={"a": {"t": "\udcff", "f": None, "n": 0}}),
    ]
    found = report(
        comparison(pages=table(differing=3, uneven="xy"), users=table(absent={"b": "no"}), none=table(differing=1)),
        differences={"pages": Differences(differing=2, spreads={"n": 2**64})},
        rows={"pages": rows},
        unreachable={"c": "gone"},
    )
    assert DriftReport.from_json(json.loads(json.dumps(found.as_json(), allow_nan=False))) == found
    assert found.as_json()["tables"][0]["rows"][0] == {
        "key": ["a", 1],
        "nodes": {"a": {"t": {"blob": "00ff"}, "f": {"real": "-inf"}, "n": 2**63 - 1}, "b": None},
    }


@pytest.mark.parametrize("value", [None, [], {}, {"verdict": "fine"}])
def test_what_is_no_report_is_malformed(value: object) -> None:
    with pytest.raises(Malformed):
        DriftReport.from_json(value)
