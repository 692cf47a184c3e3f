"""Two nodes of one name: a successor is let in at once, a duplicate is told to go, an established node stays."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cluster import bus as bus_module
from cluster.counters import Count
from cluster.errors import NameTaken
from cluster.memory import MemoryNetwork
from cluster.node import Node
from tests.support.clusters import FAST, Harness, Life, Listed
from tests.support.eventually import eventually


async def later() -> None:
    """Which of two nodes is the elder is told from the milliseconds at which they started."""
    since_ms = time.time_ns() // 1_000_000
    await eventually(lambda: time.time_ns() // 1_000_000 > since_ms)


@asynccontextmanager
async def another(harness: Harness, name: str, *dials: str) -> AsyncIterator[Node]:
    """A second node of that name, at an address of its own."""
    node = Node(
        name=name,
        cluster=harness.cluster,
        transport=harness.transport(f"{name}, the other", None),
        discovery=Listed([harness.addresses[other] for other in dials]),
        detector=FAST,
        dialing=harness.dialing,
    )
    await later()
    async with node:
        await later()
        yield node


def incarnation_of(name: str, life: Life) -> str | None:
    return next((peer.incarnation for peer in life.node.peers() if peer.name == name), None)


@pytest.mark.parametrize("asks", [("a",), ("b",), ("b", "a")], ids=str)
async def test_younger_duplicate_ends_with_name_taken_and_the_elder_stays(
    harness: Harness, asks: tuple[str, ...]
) -> None:
    a, b = await harness.pair()
    async with another(harness, "a", *asks) as duplicate:
        error = await asyncio.wait_for(duplicate.failed(), 10)
        assert isinstance(error, NameTaken)
        assert "'a'" in str(error)
        assert "node.name" in str(error)
        assert "\n" not in str(error)
    assert a.node._failed is not None
    assert not a.node._failed.done()
    assert b.news("a") == ["up"]
    assert incarnation_of("a", b) == a.node.incarnation


async def test_established_node_keeps_running_when_an_elder_claims_its_name(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """Two halves of a network that was parted join again, each with a node of that name."""
    async with another(harness, "a") as elder:
        a, b = await harness.pair()
        assert elder.address != a.node.address
        discovery = a.node._discovery
        assert isinstance(discovery, Listed)
        discovery.add(elder.address)
        await eventually(lambda: "another node named 'a'" in caplog.text)
        assert a.node._failed is not None
        assert not a.node._failed.done()
        assert b.news("a") == ["up"]


async def test_duplicate_is_told_even_if_its_name_was_challenged_before(harness: Harness) -> None:
    _, b = await harness.pair()
    for _ in range(2):
        async with another(harness, "a", "b") as duplicate:
            assert isinstance(await asyncio.wait_for(duplicate.failed(), 10), NameTaken)
    assert b.news("a") == ["up"]
    assert b.count(Count.NAME_TAKEN) >= 2


async def test_successor_at_another_address_is_let_in_once_its_predecessor_is_found_dead(harness: Harness) -> None:
    """A machine vanished without a word, and its replacement is quicker than the failure detector."""
    a, b = await harness.pair()
    async with another(harness, "a", "b") as early:
        await asyncio.wait_for(early.failed(), 10)  # b has been asked about this name once before
    harness.isolate("a")
    async with another(harness, "a", "b") as successor:
        await eventually(lambda: incarnation_of("a", b) == successor.incarnation)
        assert successor._failed is not None
        assert not successor._failed.done()
        await eventually(lambda: b.news("a") == ["up", "down", "up"])
        assert successor.incarnation != a.node.incarnation


async def test_fast_restart_at_the_same_address_is_let_in_at_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "ESTABLISHED_AFTER_S", 3600.0)
    a, b = await harness.pair()
    before = a.node.incarnation
    harness.hold("a", "b")  # nobody hears of the death
    await harness.kill("a")
    harness.heal("a", "b")
    again = await harness.restart("a")
    await eventually(lambda: incarnation_of("a", b) == again.node.incarnation, within_s=5)
    assert again.node.incarnation != before
    assert again.count(Count.REFUSED_BY_PEER) == 0


@pytest.mark.parametrize("name", ["", "x" * 256, "two\nlines", "\x1b[31mred"])
async def test_a_name_that_no_peer_would_accept_is_refused_where_the_node_is_made(name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        Node(name=name, cluster="c", transport=MemoryNetwork().transport())
