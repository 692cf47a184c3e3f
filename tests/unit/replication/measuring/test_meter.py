"""Nodes are compared by asking them all; what cannot be known is never taken for equal, nor for drift."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replication.drift import DriftReport
from replication.engine.comparable import DigestTable
from replication.engine.comparing import Verdict
from replication.measuring.meter import QUICK, WITH_ROWS
from replication.measuring.settling import LOOKS_WITHOUT_CLOCKS
from tests.support.comparing import NO_ACTOR, TRUTH, ComparedNodes, KnownMember

HURRY = replace(WITH_ROWS, deadline_s=10.0, patience_s=2.0)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[ComparedNodes]:
    made = ComparedNodes(tmp_path, "alpha", "beta", "gamma")
    for number in range(200):
        made.write("INSERT INTO pages VALUES (?, 'x', ?, NULL)", (f"page {number}", number))
    yield made
    await made.close()


async def measured(nodes: ComparedNodes, **changes: Any) -> DriftReport:
    return await nodes.meter().measure(replace(HURRY, **changes))


async def test_nodes_that_hold_the_same_are_equal(nodes: ComparedNodes) -> None:
    found = await measured(nodes)
    assert (found.verdict, found.reason, found.exit_code) == (Verdict.EQUAL, "", 0)
    assert found.nodes == ("alpha", "beta", "gamma")
    (table,) = found.tables
    assert (table.rows_differing, table.counters) == (0, {"count": 0})


async def test_drift_is_counted_in_rows_and_in_what_counters_are_apart(nodes: ComparedNodes) -> None:
    nodes["beta"].write("UPDATE pages SET count = count + 10 WHERE page = 'page 7'")
    nodes["gamma"].write("UPDATE pages SET count = count - 5 WHERE page = 'page 7'")
    nodes["gamma"].write("DELETE FROM pages WHERE page = 'page 100'")
    nodes["alpha"].write("UPDATE pages SET title = 'y' WHERE page = 'page 3'")
    found = await measured(nodes)
    (table,) = found.tables
    assert (found.verdict, found.exit_code, table.rows_differing) == (Verdict.DRIFT, 1, 3)
    assert table.counters == {"count": 15 + 100}
    rows = {row.key: row.nodes for row in table.rows}
    assert set(rows) == {("page 7",), ("page 100",), ("page 3",)}
    assert rows["page 100",] == {
        "alpha": {"count": 100, "title": "x"},
        "beta": {"count": 100, "title": "x"},
        "gamma": None,
    }
    assert found.reason == "pages: 3 rows differ; count by 115"


async def test_columns_that_are_left_out_are(nodes: ComparedNodes) -> None:
    nodes["beta"].write("UPDATE pages SET seen = 'yesterday'")
    assert (await measured(nodes)).verdict is Verdict.EQUAL


async def test_a_row_is_not_shown_unless_it_is_asked_for(nodes: ComparedNodes) -> None:
    nodes["beta"].write("DELETE FROM pages WHERE page = 'page 1'")
    found = await measured(nodes, rows_shown_max=0)
    assert (found.tables[0].rows_differing, found.tables[0].rows) == (1, ())


async def test_where_too_much_differs_it_is_said_without_a_number(nodes: ComparedNodes) -> None:
    nodes["beta"].write("UPDATE pages SET title = 'y'")
    found = await measured(nodes, rows_listed_max=50)
    assert (found.verdict, found.tables[0].rows_differing) == (Verdict.DRIFT, None)
    assert "rows" not in nodes["beta"].asked


@pytest.mark.parametrize(("state", "why"), [("down", "it is down"), ("connecting", "it is not up yet")])
async def test_a_member_that_is_away_keeps_it_from_being_told(nodes: ComparedNodes, state: str, why: str) -> None:
    nodes["gamma"].member.state = state
    found = await measured(nodes)
    assert (found.verdict, found.exit_code) == (Verdict.UNKNOWN, 2)
    assert found.unreachable == {"gamma": why}
    assert found.reason == f"gamma did not answer ({why})"
    nodes["beta"].write("DELETE FROM pages")
    assert (await measured(nodes)).verdict is Verdict.DRIFT, "certain, whatever the third one has"


async def test_an_address_where_nobody_answered_yet_keeps_it_from_being_told(nodes: ComparedNodes) -> None:
    nodes.strangers.append(KnownMember(name=None, address="tcp://10.0.0.9:7400", state="connecting"))
    found = await measured(nodes)
    assert found.verdict is Verdict.UNKNOWN
    assert found.unreachable == {"tcp://10.0.0.9:7400": "nobody has answered there yet"}


@pytest.mark.parametrize(
    "answer",
    [
        None,
        5,
        [],
        ["part", 1, 0, 1, {}],
        ["part", 1, 0, 1, {"mark": 1, "vector": {}, "tables": []}],
        ["part", 1, 3, 9, {"mark": "", "vector": {}, "tables": []}],
        ["part", 1, 0, 0, None],
        ["error", "the disk is on fire"],
        NO_ACTOR,
    ],
)
async def test_whatever_a_peer_answers_the_others_are_compared(nodes: ComparedNodes, answer: object) -> None:
    nodes["gamma"].says = lambda _message: answer
    found = await measured(nodes)
    assert (found.verdict, found.nodes, set(found.unreachable)) == (Verdict.UNKNOWN, ("alpha", "beta"), {"gamma"})


async def test_a_peer_that_hangs_in_the_middle_is_left_out(nodes: ComparedNodes) -> None:
    gamma = nodes["gamma"]

    def says(message: object) -> object:
        gamma.hangs = isinstance(message, list) and message[0] == "look"
        return TRUTH

    gamma.says = says
    found = await measured(nodes)
    assert found.unreachable == {"gamma": "it did not answer in time"}
    assert found.nodes == ("alpha", "beta")


async def test_a_peer_that_works_for_ever_is_given_up_at_the_deadline(nodes: ComparedNodes) -> None:
    nodes["gamma"].says = lambda _message: ["working", 1]
    found = await measured(nodes, deadline_s=1.5)
    assert set(found.unreachable) == {"gamma"}


async def test_what_is_on_its_way_is_not_called_drift(nodes: ComparedNodes) -> None:
    nodes["alpha"].write("INSERT INTO pages VALUES ('new', 'x', 1, NULL)")

    def arrives(message: object) -> None:
        if nodes["beta"].asked.count("digest") == 2:
            for name in ("beta", "gamma"):
                nodes[name].write("INSERT OR IGNORE INTO pages VALUES ('new', 'x', 1, NULL)")

    nodes["beta"].before = arrives
    nodes["gamma"].before = arrives
    found = await measured(nodes)
    assert found.verdict is Verdict.EQUAL
    assert nodes["beta"].asked.count("digest") == 2


async def test_what_differs_in_every_look_is_drift(nodes: ComparedNodes) -> None:
    nodes["beta"].write("DELETE FROM pages WHERE page = 'page 1'")
    assert (await measured(nodes)).verdict is Verdict.DRIFT
    assert nodes["beta"].asked.count("digest") == LOOKS_WITHOUT_CLOCKS


async def test_while_nothing_changes_a_table_is_read_once(
    nodes: ComparedNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await measured(nodes)
    (before,) = nodes["alpha"].reader._digests.values()
    await nodes.meter().measure(QUICK)
    (after,) = nodes["alpha"].reader._digests.values()
    assert after is before
    nodes["alpha"].write("INSERT INTO pages VALUES ('new', 'x', 1, NULL)")
    assert (await measured(nodes)).verdict is Verdict.DRIFT


async def test_marks_are_the_same_until_somebody_writes(nodes: ComparedNodes) -> None:
    meter = nodes.meter()
    first, second = [(await meter.look(timeout_s=5)).marks for _ in range(2)]
    assert first == second
    nodes["gamma"].write("UPDATE pages SET seen = 1")
    third = (await meter.look(timeout_s=5)).marks
    assert third != first
    nodes["gamma"].member.state = "down"
    assert (await meter.look(timeout_s=5)).marks != third


async def test_a_table_that_only_some_have_is_not_equal(nodes: ComparedNodes) -> None:
    nodes["beta"].write("CREATE TABLE notes (id PRIMARY KEY NOT NULL)")
    found = await nodes.meter((DigestTable(name="pages"), DigestTable(name="notes"))).measure(HURRY)
    assert found.verdict is Verdict.UNKNOWN
    assert {table.name: set(table.absent) for table in found.tables} == {"pages": set(), "notes": {"alpha", "gamma"}}


async def test_a_table_that_is_declared_and_nowhere_is_not_spoken_of(nodes: ComparedNodes) -> None:
    found = await nodes.meter((DigestTable(name="pages"), DigestTable(name="later"))).measure(HURRY)
    assert (found.verdict, [table.name for table in found.tables]) == (Verdict.EQUAL, ["pages"])


async def test_capitals_in_a_name_make_no_other_table(nodes: ComparedNodes) -> None:
    found = await nodes.meter((DigestTable(name="PAGES", ignore=("SEEN",)),)).measure(HURRY)
    nodes["beta"].write("UPDATE pages SET seen = 1")
    assert (found.verdict, len(found.tables)) == (Verdict.EQUAL, 1)


async def test_a_node_alone_is_equal(tmp_path: Path) -> None:
    nodes = ComparedNodes(tmp_path, "alone")
    assert (await measured(nodes)).verdict is Verdict.EQUAL
    await nodes.close()


async def test_a_report_of_many_rows_comes_in_pages(nodes: ComparedNodes) -> None:
    nodes.write("CREATE TABLE long (id INTEGER PRIMARY KEY, text)")
    for name, node in nodes.nodes.items():
        node.writer.execute("BEGIN")
        node.writer.executemany(
            "INSERT INTO long VALUES (?, ?)", ((number, f"{name} {'x' * 30_000}") for number in range(100))
        )
        node.writer.execute("COMMIT")
    found = await nodes.meter((DigestTable(name="long"),)).measure(HURRY)
    (table,) = found.tables
    assert (table.rows_differing, len(table.rows)) == (100, 100)
    for row in table.rows:
        for name, shown in row.nodes.items():
            assert shown is not None
            assert str(shown["text"]).startswith(name)
    assert nodes["beta"].asked.count("values") > 1
