"""A node keeps nothing of what has ended, and gives everything back when it stops."""

import asyncio
from pathlib import Path

import pytest

from cluster.address import Address
from cluster.counters import Count
from cluster.node import Node
from cluster.security import Secret, derive_curve_keys
from cluster.zeromq import ZeroMqTransport
from tests.support.clusters import DIALS, FAST, Harness, Listed
from tests.support.eventually import eventually


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_nothing_is_kept_of_links_that_were_lost(harness: Harness) -> None:
    a, _ = await harness.pair()
    for _ in range(8):
        await harness.kill("b")
        await harness.restart("b")
        await harness.settled()
    bus = a.node._bus
    assert bus is not None
    await eventually(lambda: len(bus._by_connection) == len(bus._dials) == len(bus._outboxes) == 1)
    assert len(bus._calls._pending) == 0
    assert len(bus._peering._peers) == 1


async def test_nothing_is_kept_of_calls_that_ended(harness: Harness) -> None:
    a, b = await harness.pair()
    calls = [asyncio.ensure_future(a.node.call("b", "recorder", "wait", timeout_s=0.05)) for _ in range(20)]
    calls += [asyncio.ensure_future(a.node.call("b", "recorder", "wait")) for _ in range(20)]
    await eventually(lambda: b.seen[-1][0] == "call")
    for call in calls[20:]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert a.node._bus is not None
    assert not a.node._bus._calls._pending
    b.gate.set()
    await eventually(lambda: a.count(Count.LATE_REPLY) == 40)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
async def test_a_hundred_starts_and_stops_leave_no_file_open() -> None:
    keys = derive_curve_keys(Secret("a secret of at least 32 characters"), "test")

    async def life(name: str, to: Address | None) -> Node:
        node = Node(
            name=name,
            cluster="test",
            transport=ZeroMqTransport(Address("127.0.0.1", 0), keys=keys),
            discovery=Listed([to] if to else []),
            detector=FAST,
            dialing=DIALS,
        )
        await node.start()
        return node

    async def both() -> None:
        a = await life("a", None)
        b = await life("b", a.address)
        await eventually(lambda: a.peers() and b.peers())
        await asyncio.gather(a.stop(), b.stop())

    await both()
    before = open_files()
    for _ in range(25):
        await both()
    for _ in range(50):
        node = await life("a", Address("127.0.0.1", 1))
        await node.stop()
    await eventually(lambda: open_files() <= before, why=lambda: (before, open_files()))
    assert len(asyncio.all_tasks()) == 1
