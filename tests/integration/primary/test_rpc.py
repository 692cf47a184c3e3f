"""Functions that nodes run for each other: on the primary, or in a region, once."""

import asyncio
import threading
from typing import Any

import pytest

from replication.errors import (
    CannotTravel,
    NobodyThere,
    NobodyWrites,
    NoPrimary,
    NoSuchFunction,
    NotVisibleYet,
    OutcomeUnknown,
    RpcFailed,
)
from replication.positions import Position
from replication.primary.forwarding import Timeouts
from replication.primary.rpc import Functions
from tests.support.eventually import eventually
from tests.support.primary_nodes import Member, PrimaryCluster


async def _trio(cluster: PrimaryCluster) -> tuple[Member, Member, Member]:
    """`a` writes, `b` and `c` are in region `ord`."""
    cluster.static = "a"
    a = await cluster.start("a", region="ams")
    b, c = await cluster.start("b", region="ord"), await cluster.start("c", region="ord")
    await cluster.is_primary(a)
    for member in (a, b, c):
        _register(member)
    await eventually(lambda: len(b.node.peers()) == len(a.node.peers()) == 2)
    return a, b, c


def _register(member: Member) -> None:
    async def sign_up(email: str, times: int) -> dict[str, Any]:
        row = await member.repo.insert("users", {"email": email})
        for _ in range(times):
            await member.repo.call("visit", email)
        return {"id": row["id"], "on": member.node.name}

    def where(*ignored: object) -> list[str]:
        return [member.node.name, threading.current_thread().name]

    async def slow(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return member.node.name

    def fails() -> None:
        raise ValueError("so it is")

    def unsendable() -> object:
        return object()

    for function in (sign_up, where, slow, fails, unsendable):
        member.functions.register(function)


def on_primary(member: Member, *what: Any, visible_s: float | None = 5.0, timeout_s: float = 5.0) -> Any:
    return member.functions.on_primary(*what, timeout_s=timeout_s, visible_s=visible_s)


async def test_a_function_runs_on_the_primary_and_what_it_wrote_can_be_read_here(cluster: PrimaryCluster) -> None:
    a, b, _ = await _trio(cluster)
    assert await on_primary(b, "sign_up", "x@y", 5) == {"id": 1, "on": "a"}
    assert b.rows() == [(1, "x@y", 5)]
    assert await on_primary(a, "sign_up", "y@y", 0) == {"id": 2, "on": "a"}
    assert (await on_primary(b, "where"))[0] == "a"


async def test_a_function_runs_in_a_region_and_at_home_without_a_step(cluster: PrimaryCluster) -> None:
    a, b, _ = await _trio(cluster)
    assert {(await a.functions.in_region("ord", "where", timeout_s=5))[0] for _ in range(30)} == {"b", "c"}
    assert (await b.functions.in_region("ord", "where", object(), timeout_s=5))[0] == "b"
    name, thread = await b.functions.in_region("ams", "where", timeout_s=5)
    assert name == "a"
    assert thread != threading.current_thread().name
    with pytest.raises(NobodyThere, match="no live node is in region 'syd'; there are nodes in ams, ord"):
        await b.functions.in_region("syd", "where", timeout_s=5)


async def test_functions_that_take_their_time_hold_up_no_other(cluster: PrimaryCluster) -> None:
    _, b, _ = await _trio(cluster)
    slow = asyncio.ensure_future(on_primary(b, "slow", 1.0))
    await asyncio.sleep(0)
    for _ in range(3):
        assert (await on_primary(b, "where"))[0] == "a"
    assert not slow.done()
    assert await slow == "a"


async def test_what_goes_wrong_is_told_apart(cluster: PrimaryCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, _ = await _trio(cluster)
    with pytest.raises(RpcFailed, match="function 'fails' failed on node a: ValueError: so it is"):
        await on_primary(b, "fails")
    with pytest.raises(RpcFailed, match="has no form in which it could be sent"):
        await on_primary(b, "unsendable")
    with pytest.raises(NoSuchFunction, match="no function 'nothing' is registered on the node that was to run it"):
        await on_primary(b, "nothing")
    with pytest.raises(CannotTravel):
        await on_primary(b, "where", object())
    with pytest.raises(OutcomeUnknown):
        await on_primary(b, "slow", 60.0, timeout_s=0.2)
    b.replication.abandon()  # it merges nothing any more
    with pytest.raises(NotVisibleYet) as late:
        await on_primary(b, "sign_up", "x@y", 0, visible_s=0.2)
    assert late.value.result == {"id": 1, "on": "a"}
    assert (await on_primary(b, "sign_up", "y@y", 0, visible_s=None))["id"] == 2
    monkeypatch.setattr(a.mode.leading, "still_holds", lambda: False)
    with pytest.raises(NoPrimary, match="a may not write just now"):
        await on_primary(b, "where", timeout_s=0.5)


async def test_a_function_that_ran_while_the_lease_was_lost_is_unknown(cluster: PrimaryCluster) -> None:
    a, b, _ = await _trio(cluster)
    running = asyncio.ensure_future(on_primary(b, "slow", 0.5))
    here = asyncio.ensure_future(on_primary(a, "slow", 0.5))
    await eventually(lambda: a.functions._running == 1)
    a.mode.leading._lose("for this test")
    for one in (running, here):
        with pytest.raises(OutcomeUnknown, match="lost its lease while the function ran"):
            await one


async def test_a_node_that_goes_away_while_it_runs_something_leaves_it_unknown(cluster: PrimaryCluster) -> None:
    _, b, c = await _trio(cluster)
    running = asyncio.ensure_future(b.functions.in_region("ams", "slow", 60.0, timeout_s=60.0))
    await asyncio.sleep(0.2)
    await cluster.kill("a")
    with pytest.raises(OutcomeUnknown):
        await running
    cluster.timeouts = Timeouts(hold_s=0.3)
    with pytest.raises(NobodyThere):
        await c.functions.in_region("ams", "where", timeout_s=1)


async def test_without_a_primary_nothing_runs(cluster: PrimaryCluster) -> None:
    cluster.static = "a"
    cluster.timeouts = Timeouts(hold_s=0.3)
    b = await cluster.start("b")
    with pytest.raises(NoPrimary):
        await on_primary(b, "where")
    everybody_writes = Functions(None, Position)
    with pytest.raises(NobodyWrites, match="running a function on the primary needs"):
        await everybody_writes.on_primary("where", timeout_s=1, visible_s=None)


async def test_two_functions_of_one_name_are_refused(cluster: PrimaryCluster) -> None:
    _, b, _ = await _trio(cluster)

    @b.functions.register
    def mine() -> int:
        return 1

    b.functions.register(mine)
    with pytest.raises(ValueError, match="another function is registered as 'mine'"):
        _register_another_mine(b)


def _register_another_mine(member: Member) -> None:
    @member.functions.register
    def mine() -> int:
        return 2


@pytest.mark.parametrize(
    "request_",
    [
        None,
        [],
        ["run"],
        ["run", 1, ["l", []]],
        ["run", "where", 5],
        ["run", "where", ["v", 1]],
        ["run", "x" * 999, ["l", []]],
    ],
)
async def test_what_a_peer_sends_that_is_no_request_is_answered(cluster: PrimaryCluster, request_: object) -> None:
    a, b, _ = await _trio(cluster)
    answer = await b.node.call("a", "Functions", request_)
    assert isinstance(answer, list)
    assert answer[0] == "error"
    b.node.cast("a", "Functions", request_)
    assert (await on_primary(b, "where"))[0] == a.node.name
