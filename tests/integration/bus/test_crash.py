"""A crash loses state and mailbox: the casts are counted, the calls end at once, and the successor starts afresh."""

import asyncio
import time

import pytest

from cluster.actor import Actor
from cluster.counters import Count
from cluster.errors import Gone, NoSuchActor
from cluster.supervisor import ActorChild
from tests.support.clusters import Harness
from tests.support.eventually import eventually


async def test_poison_message_loses_the_mailbox_and_counts_it(harness: Harness) -> None:
    a, b = await harness.pair()
    a.node.cast("b", "recorder", "wait")
    await eventually(b.casts)
    a.node.cast("b", "recorder", "poison")
    for number in range(7):
        a.node.cast("b", "recorder", number)
    await eventually(lambda: b.node.processes["recorder"].waiting == 8)
    b.gate.set()
    await eventually(lambda: b.count(Count.CRASHES) == 1)
    assert b.count(Count.MAILBOX_LOST) == 7
    await eventually(lambda: "recorder" in b.node.processes)
    a.node.cast("b", "recorder", "after")
    await eventually(lambda: b.casts() == ["wait", "poison", "after"])


async def test_pending_calls_end_at_once_when_the_actor_crashes(harness: Harness) -> None:
    a, b = await harness.pair()
    begun_s = time.perf_counter()
    calls = [asyncio.ensure_future(a.node.call("b", "recorder", "wait", timeout_s=60))]
    await eventually(lambda: b.seen[-1][0] == "call")
    a.node.cast("b", "recorder", "poison")
    await eventually(lambda: b.node.processes["recorder"].waiting == 1)
    calls += [asyncio.ensure_future(a.node.call("b", "recorder", n, timeout_s=60)) for n in range(3)]
    calls.append(asyncio.ensure_future(b.node.call("b", "recorder", "from here", timeout_s=60)))
    await eventually(lambda: b.node.processes["recorder"].waiting == 5)
    b.gate.set()
    first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert first == "wait"
    for error in others:
        assert isinstance(error, NoSuchActor)
        assert error.reason is Gone.CRASHED
    assert time.perf_counter() - begun_s < 5


async def test_call_that_crashes_the_actor_ends_at_once(harness: Harness) -> None:
    a, b = await harness.pair()
    for life in (a, b):
        with pytest.raises(NoSuchActor) as caught:
            await life.node.call("b", "recorder", "poison", timeout_s=60)
        assert caught.value.reason is Gone.CRASHED
        await eventually(lambda: "recorder" in b.node.processes)


async def test_restarted_actor_hears_news_again(harness: Harness) -> None:
    a, b = await harness.pair()
    a.node.cast("a", "recorder", "poison")
    await eventually(lambda: a.count(Count.CRASHES) == 1 and "recorder" in a.node.processes)
    await harness.kill("b")
    await eventually(lambda: a.news("b") == ["up", "down"])
    del b


class Odd(Actor):
    """Answers what cannot be sent, or ends in a cancellation that nobody asked of it."""

    name = "odd"

    async def handle_call(self, message: object, sender: str) -> object:
        if message == "unsendable":
            return object()
        if message == "cancelled":
            raise asyncio.CancelledError
        return message


@pytest.mark.parametrize("message", ["unsendable", "cancelled"])
async def test_actor_that_fails_in_an_odd_way_crashes_and_is_restarted(harness: Harness, message: str) -> None:
    a = await harness.start("a")
    b = await harness.start("b", children=[ActorChild("odd", Odd)])
    await harness.settled()
    with pytest.raises(NoSuchActor) as caught:
        await a.node.call("b", "odd", message, timeout_s=60)
    assert caught.value.reason is Gone.CRASHED
    await eventually(lambda: "odd" in b.node.processes)
    assert await a.node.call("b", "odd", "alive") == "alive"
    assert b.count(Count.CRASHES) == 1
