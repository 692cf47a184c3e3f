"""A restarted node is never mute, and never gets what was sent to its predecessor."""

import asyncio
import itertools
from collections.abc import Iterator

from tests.support.clusters import Harness, Life
from tests.support.eventually import eventually, turns


async def test_restarted_node_hears_and_is_heard(harness: Harness) -> None:
    a, _ = await harness.pair()
    for _ in range(3):
        await harness.kill("b")
        b = await harness.restart("b")
        await met(a, b)
        a.node.cast("b", "recorder", "hello")
        b.node.cast("a", "recorder", b.node.incarnation)
        await got(b, "hello")
        await got(a, b.node.incarnation)
        assert b.casts() == ["hello"]
    assert a.news("b") == ["up", "down"] * 3 + ["up"]


async def met(one: Life, other: Life) -> None:
    """Wait until `one` has this run of the other as its peer, and the other has it."""
    wanted = other.node.incarnation
    await eventually(lambda: [peer.incarnation for peer in one.node.peers()] == [wanted] and other.node.peers())


async def got(life: Life, message: object) -> None:
    """Wait until a cast arrived."""
    await eventually(lambda: message in life.casts())


async def got_many(life: Life) -> None:
    """Wait until casts flow."""
    await eventually(lambda: len(life.casts()) > 20)


async def flood(life: Life, to: str, numbers: Iterator[int], enough: asyncio.Event) -> None:
    """Cast without end. Each message names the run that it is meant for, as far as the sender knows."""
    known: str | None = None
    while not enough.is_set():
        known = next((peer.incarnation for peer in life.node.peers()), known)
        life.node.cast(to, "recorder", [known, next(numbers)])
        await asyncio.sleep(0)


async def test_nothing_sent_to_the_dead_reaches_its_successor(harness: Harness) -> None:
    a, first = await harness.pair()
    numbers = itertools.count()
    for round_number in range(5):
        enough = asyncio.Event()
        flooding = asyncio.ensure_future(flood(a, "b", numbers, enough))
        await got_many(first)
        if round_number % 2:
            harness.hold("a", "b")  # much is under way when it dies
            await turns(50)
        await harness.kill("b")
        harness.heal("a", "b")
        second = await harness.restart("b")
        await got_many(second)
        enough.set()
        await flooding
        last = [second.node.incarnation, next(numbers)]
        a.node.cast("b", "recorder", last)
        await got(second, last)
        assert {message[0] for message in second.casts()} == {second.node.incarnation}  # type: ignore[index]
        first = second


async def test_news_name_the_incarnation_and_stand_around_its_messages(harness: Harness) -> None:
    a, first = await harness.pair()
    first.node.cast("a", "recorder", 1)
    await eventually(a.casts)
    await harness.kill("b")
    second = await harness.restart("b")
    await harness.settled()
    second.node.cast("a", "recorder", 2)
    await eventually(lambda: 2 in a.casts())
    one, two = first.node.incarnation, second.node.incarnation
    assert a.seen == [
        ("up", "b", one),
        ("cast", "b", 1),
        ("down", "b", one),
        ("up", "b", two),
        ("cast", "b", 2),
    ]


async def test_answer_of_the_dead_reaches_no_call_of_its_successors(harness: Harness) -> None:
    a, b = await harness.pair()
    call = asyncio.ensure_future(a.node.call("b", "recorder", "wait", timeout_s=60))
    await eventually(lambda: b.seen and b.seen[-1][0] == "call")
    await harness.kill("a")
    again = await harness.restart("a")
    await harness.settled()
    following = asyncio.ensure_future(again.node.call("b", "recorder", "the next"))
    await turns()
    b.gate.set()
    assert await following == "the next"
    assert (await asyncio.gather(call, return_exceptions=True))[0] != "wait"
