"""A restarted node is never mute, and never gets what was sent to its predecessor."""

import asyncio
import itertools

from tests.support.clusters import Harness
from tests.support.eventually import eventually, turns


async def test_restarted_node_hears_and_is_heard(harness: Harness) -> None:
    a, _ = await harness.pair()
    for _ in range(3):
        await harness.kill("b")
        b = await harness.restart("b")
        await eventually(
            lambda b=b: a.node.peers() and a.node.peers()[0].incarnation == b.node.incarnation and b.node.peers()
        )
        a.node.cast("b", "recorder", "hello")
        b.node.cast("a", "recorder", b.node.incarnation)
        await eventually(lambda b=b: b.casts() == ["hello"] and b.node.incarnation in a.casts())
    assert a.news("b") == ["up", "down"] * 3 + ["up"]


async def test_nothing_sent_to_the_dead_reaches_its_successor(harness: Harness) -> None:
    a, first = await harness.pair()
    numbers = itertools.count()
    for round_number in range(5):
        current = first.node.incarnation
        enough = asyncio.Event()

        async def flood(incarnation: str = current, enough: asyncio.Event = enough) -> None:
            while not enough.is_set():
                # What is sent names the run it is meant for, as far as the sender knows.
                to = next((peer.incarnation for peer in a.node.peers()), incarnation)
                a.node.cast("b", "recorder", [to, next(numbers)])
                await asyncio.sleep(0)

        flooding = asyncio.ensure_future(flood())
        await eventually(lambda first=first: len(first.casts()) > 20)
        if round_number % 2:
            harness.hold("a", "b")  # much is under way when it dies
            await turns(50)
        await harness.kill("b")
        harness.heal("a", "b")
        second = await harness.restart("b")
        await eventually(lambda second=second: len(second.casts()) > 20)
        enough.set()
        await flooding
        last = [second.node.incarnation, next(numbers)]
        a.node.cast("b", "recorder", last)
        await eventually(lambda second=second, last=last: second.casts()[-1] == last)
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
