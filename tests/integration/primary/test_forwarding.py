"""Writes on any node of a cluster with one primary: carried out there, once, and readable where they were asked for."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cluster.counters import Count
from replication.convergent.for_file import connect_to_write
from replication.convergent.messages import parse_heads
from replication.errors import (
    CannotForward,
    CannotTravel,
    ConstraintFailed,
    DatabaseBusy,
    DuplicateRow,
    NoPrimary,
    NoSuchFunction,
    NoSuchRow,
    NoSuchTable,
    NotVisibleYet,
    OutcomeUnknown,
    PrimaryFailed,
)
from replication.positions import Position
from replication.primary.forwarding import Timeouts
from replication.primary.operations import Function
from replication.primary.standing import Role
from replication.transaction import Transaction
from tests.support.eventually import eventually
from tests.support.primary_nodes import PrimaryCluster

SYNCED = 2
"""PRAGMA synchronous = FULL: each commit is."""


async def test_a_write_on_a_replica_is_carried_out_on_the_primary_and_can_be_read_here_at_once(
    cluster: PrimaryCluster,
) -> None:
    a, b, _ = await cluster.trio()
    row = await b.repo.insert("users", {"email": "x@y"})
    assert (row["id"], row["email"], row.table) == (1, "x@y", "users")
    assert b.rows() == [(1, "x@y", 0)]
    assert (await b.repo.update("users", 1, {"visits": 5}))["visits"] == 5
    assert await b.repo.execute("UPDATE users SET visits = visits + :more", {"more": 2}) == 1
    assert await b.repo.insert_many("users", [{"email": "1"}, {"email": "2"}]) == 2
    assert await b.repo.statements([("DELETE FROM users WHERE email = ?", ("1",)), "DELETE FROM users WHERE 0"]) == [
        1,
        0,
    ]
    assert (await b.repo.call("visit", "x@y"))["visits"] == 8
    assert (await b.repo.delete("users", 3))["email"] == "2"
    assert a.rows() == b.rows() == [(1, "x@y", 8)]
    assert await cluster.equal() == [(1, "x@y", 8)]
    assert (await a.repo.call("visit", "x@y"))["visits"] == 9


async def test_a_forwarded_write_is_cast_with_its_own_commit_which_is_durable(
    cluster: PrimaryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _ = await cluster.trio()
    await b.repo.insert("users", {"email": "1"})
    monkeypatch.setattr(a.replication._store, "fold_news", lambda owed: None)  # no other fold helps
    await b.repo.insert("users", {"email": "2"})
    assert [email for _, email, _ in b.rows()] == ["1", "2"]
    with closing(connect_to_write(a.repo.path)) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (SYNCED,)


async def test_an_error_of_the_primarys_is_raised_where_the_write_was_asked_for(cluster: PrimaryCluster) -> None:
    _, b, _ = await cluster.trio()
    await b.repo.insert("users", {"email": "x@y"})
    with pytest.raises(DuplicateRow) as raised:
        await b.repo.insert("users", {"email": "x@y"})
    assert (raised.value.table, raised.value.columns) == ("users", ("email",))
    with pytest.raises(NoSuchRow, match="7"):
        await b.repo.delete("users", 7)
    with pytest.raises(NoSuchFunction, match="'nothing'"):
        await b.repo.call("nothing")


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT 1", "writes nothing"),
        ("WITH x AS (SELECT 'DELETE') SELECT * FROM x", "writes nothing"),
        ("ATTACH 'x' AS y", "only INSERT"),
        ("PRAGMA foreign_keys = 0", "only INSERT"),
        ("CREATE TABLE t (x)", "on each node by itself"),
    ],
)
async def test_what_is_no_write_is_refused_before_anybody_is_asked(sql: str, why: str, cluster: PrimaryCluster) -> None:
    _, b, _ = await cluster.trio()
    with pytest.raises(CannotForward, match=why):
        await b.repo.execute(sql)


async def test_what_cannot_travel_and_a_function_of_this_node_are_refused_at_once(cluster: PrimaryCluster) -> None:
    _, b, _ = await cluster.trio()
    with pytest.raises(CannotTravel, match="a object has no form"):
        await b.repo.insert("users", {"email": object()})
    with pytest.raises(CannotTravel, match="64 bits"):
        await b.repo.insert("users", {"email": 2**70})
    with pytest.raises(CannotForward, match=r"send statements\(\), or register\(\)"):
        await b.repo.transaction(lambda tx: tx.execute("DELETE FROM users"))


async def test_other_processes_on_a_replica_are_told_who_writes(cluster: PrimaryCluster) -> None:
    a, b, _ = await cluster.trio()

    def refused() -> str:
        with pytest.raises(sqlite3.IntegrityError) as raised:
            b.other.execute("INSERT INTO users (email) VALUES ('q')")
        return str(raised.value)

    await eventually(lambda: "written on the primary, which is node a; node b is a replica" in refused())
    a.other.execute("INSERT INTO users (email) VALUES ('q')")
    assert await cluster.equal() == [(1, "q", 0)]
    position = str(Position(a.replication.stamps()))
    told = cluster.folder / "b"
    await eventually(lambda: (told / ".primary").exists() and (told / "app.db-pos").read_text().strip()[:4] == "p000")
    await eventually(lambda: (told / "app.db-pos").read_text().strip() in position)
    assert (told / ".primary").read_text() == "a\n"
    assert not (cluster.folder / "a" / ".primary").exists()


async def test_a_write_is_carried_out_once_however_often_it_is_asked_for(cluster: PrimaryCluster) -> None:
    a, b, _ = await cluster.trio()
    request = [
        "write",
        "000000000001-key",
        "insert",
        ["l", [["v", "users"], ["m", ["email"], [["v", "x@y"]]]]],
        "local",
        5.0,
    ]
    first: list[object] = await b.node.call("a", "Writes", request)  # type: ignore[assignment]
    assert (await b.node.call("a", "Writes", request))[:2] == first[:2]  # type: ignore[index]
    assert a.rows() == [(1, "x@y", 0)]
    del b


@pytest.mark.parametrize(
    "request_",
    [
        None,
        [],
        ["write"],
        ["write", "k" * 1000, "insert", ["l", []], "local", 5.0],
        ["write", "k", "drop", ["l", []], "local", 5.0],
        ["write", "k", "insert", ["l", [["v", 1], ["v", 2]]], "local", 5.0],
        ["write", "k", "execute", ["l", [["v", "ATTACH 'x' AS y"], ["l", []]]], "local", 5.0],
        ["write", "k", "execute", ["l", [["v", "SELECT 1"], ["m", [1], [["v", 2]]]]], "local", 5.0],
        ["write", "k", "statements", ["l", [["l", [["v", 1]]]]], "local", 5.0],
    ],
)
async def test_what_a_peer_sends_that_is_no_write_is_answered_and_harms_nobody(
    request_: object, cluster: PrimaryCluster
) -> None:
    a, b, _ = await cluster.trio()
    answer = await b.node.call("a", "Writes", request_)
    assert isinstance(answer, list)
    assert answer[0] in ("error", "refused")
    b.node.cast("a", "Writes", request_)
    b.node.cast("a", "Primary", request_)
    assert (await b.repo.insert("users", {"email": "x@y"}))["id"] == 1
    assert a.role is Role.PRIMARY


async def test_without_a_primary_a_write_is_held_and_then_refused(cluster: PrimaryCluster) -> None:
    cluster.timeouts = Timeouts(hold_s=0.3)
    cluster.size = 3
    b = await cluster.start("b")  # one of three: no majority
    with pytest.raises(NoPrimary) as raised:
        await b.repo.insert("users", {"email": "x@y"})
    assert raised.value.retry_after_s > 0
    assert "1 of 3 nodes are there, and 2 have to be" in b.mode.leading.status().problem


async def test_a_write_that_is_held_is_carried_out_when_there_is_a_primary(cluster: PrimaryCluster) -> None:
    b = await cluster.start("b")
    writing = asyncio.ensure_future(b.repo.insert("users", {"email": "x@y"}))
    await asyncio.sleep(0.2)
    assert not writing.done()
    await cluster.start("a", candidate=False)
    assert (await writing)["id"] == 1


async def test_a_candidate_is_told_of_all_that_a_forwarded_write_was_acknowledged_for(cluster: PrimaryCluster) -> None:
    """Also of what is not durable yet: else the next primary would begin without it, and it would be a tail."""
    _, b, _ = await cluster.trio()
    for number in range(5):
        position = (await b.repo.insert("users", {"email": f"{number}@y"})).position
        answer = await b.mode.leading.answer(["heads", 1])
        assert isinstance(answer, list)
        told = parse_heads(answer).vector
        assert all(told[site].stamp >= stamp for site, stamp in position.stamps.items())


async def test_what_is_read_here_after_a_candidate_was_told_is_not_acknowledged(cluster: PrimaryCluster) -> None:
    cluster.timeouts = Timeouts(visible_s=0.5)
    _, b, _ = await cluster.trio()
    await b.mode.leading.answer(["heads", 1_000])
    with pytest.raises(OutcomeUnknown, match="may have sent it to nobody"):
        await b.repo.insert("users", {"email": "x@y"})


async def test_it_is_acknowledged_once_the_epoch_of_that_candidate_began_with_it(cluster: PrimaryCluster) -> None:
    cluster.timeouts = Timeouts(visible_s=30.0)
    a, b = await cluster.start("a"), await cluster.start("b", candidate=False)
    c = await cluster.start("c")
    await cluster.is_primary(a)
    await b.mode.leading.answer(["heads", 2])
    writing = asyncio.create_task(b.repo.insert("users", {"email": "x@y"}))
    await eventually(lambda: len(b.rows()) == 1)
    assert not writing.done()
    await a.mode.leading.promote("c")
    assert (await writing)["id"] == 1
    assert (c.role, c.mode.leading.epoch()) == (Role.PRIMARY, 2)


async def test_what_an_epoch_began_without_is_said_to_be_a_tail_at_once(
    cluster: PrimaryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.timeouts = Timeouts(visible_s=60.0)
    a, b = await cluster.start("a"), await cluster.start("b")
    await cluster.start("c", candidate=False)
    await cluster.is_primary(a)
    await eventually(lambda: b.replication.view().epoch == a.replication.view().epoch)
    cluster.network.cut(a.node.address, cluster.members["c"].node.address)
    monkeypatch.setattr(a.replication, "cast", lambda *_: None)  # it tells nobody what it writes,
    monkeypatch.setattr(b.replication._hearing, "hear", lambda *_: None)  # and is not asked
    writing = asyncio.create_task(b.repo.insert("users", {"email": "x@y"}))
    await eventually(lambda: b.mode.forwarding.forwarded == 1)
    await cluster.kill("a")
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(OutcomeUnknown, match="began without it"):
        await writing
    assert asyncio.get_running_loop().time() - began_s < 30.0
    assert b.role is Role.PRIMARY


def _long_reason(transaction: Transaction) -> None:
    transaction.execute(
        "CREATE TRIGGER refuses BEFORE INSERT ON users BEGIN SELECT RAISE(ABORT, '" + "y" * 10**6 + "'); END"
    )
    transaction.insert("users", {"email": "refused"})


def _raises(error: Exception) -> Function:
    def function(transaction: Transaction) -> None:
        transaction.insert("users", {"email": "lost"})
        raise error

    return function


def _returns(value: object) -> Function:
    def function(transaction: Transaction) -> object:
        transaction.insert("users", {"email": "lost"})
        return value

    return function


@pytest.mark.parametrize(
    ("function", "error", "why"),
    [
        (_returns("x" * 5_000_000), CannotTravel, "too large to be sent: 5000"),
        (_returns([[[0]] * 15_000] * 2), CannotTravel, "too large to be sent: more than"),
        (_returns("\udcff"), CannotTravel, "not UTF-8"),
        (_returns(object()), CannotTravel, "no form"),
        (_raises(ValueError("x" * 5_000_000)), PrimaryFailed, "ValueError: xxx"),
        (_raises(ValueError("\udcff")), PrimaryFailed, r"ValueError: \?"),
        (_raises(NoSuchRow("users", 2**70)), NoSuchRow, str(2**70)),
        (_raises(NoSuchRow("u" * 5_000_000, b"x" * 5_000_000)), NoSuchRow, "uuu"),
        (_raises(NoSuchTable("\udcff")), NoSuchTable, r"\?"),
        (_raises(DatabaseBusy(Path("x" * 5_000_000), 1)), PrimaryFailed, "xxx"),
        (_long_reason, ConstraintFailed, "yyy"),
    ],
)
async def test_an_answer_that_cannot_be_sent_is_an_error_and_nothing_is_written(
    cluster: PrimaryCluster, function: Function, error: type[Exception], why: str
) -> None:
    a, b, _ = await cluster.trio()
    a.repo.register("odd", function)
    with pytest.raises(error, match=why):
        await b.repo.call("odd")
    assert a.rows() == []
    assert (await b.repo.insert("users", {"email": "x@y"}))["id"] == 1
    assert a.node.counters.get(Count.CRASHES) == 0


async def test_what_is_too_large_to_be_asked_for_is_refused_where_it_is(cluster: PrimaryCluster) -> None:
    a, b, _ = await cluster.trio()
    for value in ("x" * 5_000_000, b"x" * 3_900_000):
        with pytest.raises(CannotTravel, match="too large to be sent"):
            await b.repo.insert("users", {"email": value})
    assert a.node.counters.get(Count.CRASHES) == 0


@pytest.mark.parametrize(
    "request_", [["heads"], ["heads", 0], ["heads", True], ["heads", 16**12], ["heads", 1, 2], "heads", None]
)
async def test_what_is_no_candidates_request_is_answered_with_an_error(
    cluster: PrimaryCluster, request_: object
) -> None:
    a = await cluster.start("a")
    assert await a.mode.leading.answer(request_) == ["error", "not a request"]


async def test_what_only_a_primary_has_that_is_gone_is_not_said_to_be_written(
    cluster: PrimaryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written there, and nobody will ever see it, unless as a tail."""
    cluster.timeouts = Timeouts(visible_s=0.5)
    a, b, _ = await cluster.trio()
    monkeypatch.setattr(a.replication, "cast", lambda *_: None)  # it tells nobody what it writes
    with pytest.raises(NotVisibleYet):
        await b.repo.insert("users", {"email": "of one that is there"})
    writing = asyncio.create_task(b.repo.insert("users", {"email": "of one that is gone"}))
    await eventually(lambda: b.mode.forwarding.forwarded == 2)
    await cluster.kill("a")
    with pytest.raises(OutcomeUnknown, match="before it was gone"):
        await writing
