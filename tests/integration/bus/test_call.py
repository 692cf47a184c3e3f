"""A call has a deadline and ends in an answer or in one of three errors; a late reply reaches nobody."""

import asyncio
import time

import pytest

from cluster.bus import Bus
from cluster.counters import Count
from cluster.errors import CallTimeout, Gone, NodeDown, NoSuchActor
from cluster.transport import Sender
from cluster.wire import MESSAGE_MAX_BYTES, Batch, decode
from tests.support.clusters import PATIENT, Harness, Life
from tests.support.eventually import eventually, turns


async def ask(life: Life, node: str, message: object, *, actor: str = "recorder", timeout_s: float = 5.0) -> object:
    return await life.node.call(node, actor, message, timeout_s=timeout_s)


def is_waiting(life: Life, message: str = "wait") -> bool:
    return any(what == message for kind, _, what in life.seen if kind == "call")


async def test_call_is_answered(harness: Harness) -> None:
    a, _ = await harness.pair()
    assert await ask(a, "b", {"question": [1, "two", b"3"]}) == {"question": [1, "two", b"3"]}
    assert await ask(a, "a", "myself") == "myself"
    assert a.count(Count.CALLS_SENT) == 1


@pytest.mark.parametrize("where", ["a", "b"])
async def test_call_to_an_unknown_name_ends_in_no_such_actor(harness: Harness, where: str) -> None:
    a, _ = await harness.pair()
    with pytest.raises(NoSuchActor) as caught:
        await ask(a, where, 1, actor="nobody")
    assert (caught.value.node, caught.value.actor, caught.value.reason) == (where, "nobody", Gone.UNKNOWN)


async def test_call_to_a_node_that_is_not_up_ends_in_node_down(harness: Harness) -> None:
    a = await harness.start("a")
    with pytest.raises(NodeDown):
        await ask(a, "nobody", 1)


async def test_call_ends_in_node_down_as_soon_as_the_node_dies(harness: Harness) -> None:
    a, b = await harness.pair()
    call = asyncio.ensure_future(ask(a, "b", "wait", timeout_s=60))
    await eventually(lambda: is_waiting(b))
    b.gate.set()  # lets the dying node stop; its answer must not come
    await harness.kill("b")
    begun_s = time.perf_counter()
    with pytest.raises(NodeDown):
        await call
    assert time.perf_counter() - begun_s < 5


@pytest.mark.parametrize("where", ["a", "b"])
async def test_call_that_is_not_answered_in_time_ends_in_call_timeout(harness: Harness, where: str) -> None:
    a, b = await harness.pair()
    with pytest.raises(CallTimeout) as caught:
        await ask(a, where, "wait", timeout_s=0.05)
    assert caught.value.timeout_s == 0.05
    assert is_waiting({"a": a, "b": b}[where])  # it was carried out all the same


async def test_late_reply_does_not_reach_the_next_call(harness: Harness) -> None:
    a, b = await harness.pair()
    with pytest.raises(CallTimeout):
        await ask(a, "b", "wait", timeout_s=0.05)
    following = asyncio.ensure_future(ask(a, "b", "the next"))
    await turns()
    b.gate.set()
    assert await following == "the next"
    assert a.count(Count.LATE_REPLY) == 1


async def test_cancelled_call_ends_and_its_reply_is_late(harness: Harness) -> None:
    a, b = await harness.pair()
    call = asyncio.ensure_future(ask(a, "b", "wait"))
    await eventually(lambda: is_waiting(b))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    b.gate.set()
    await eventually(lambda: a.count(Count.LATE_REPLY) == 1)
    assert await ask(a, "b", "the next") == "the next"


async def test_many_calls_at_once_get_each_its_own_answer(harness: Harness) -> None:
    harness.detector = PATIENT
    a, _ = await harness.pair()
    answers = await asyncio.gather(*(ask(a, "b", number) for number in range(500)))
    assert answers == list(range(500))


async def test_calls_of_one_turn_and_their_answers_share_frames(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first leaves at once, since a call that is alone must not wait; the others wait for the end of the turn."""
    frames: list[bytes] = []
    received = Bus.received

    def noted(self: Bus, sender: Sender, frame: bytes, source_host: str | None) -> None:
        if isinstance(decode(frame), Batch):
            frames.append(frame)
        received(self, sender, frame, source_host)

    monkeypatch.setattr(Bus, "received", noted)
    a, _ = await harness.pair()
    await asyncio.gather(*(ask(a, "b", number) for number in range(200)))
    assert len(frames) < 20  # two for the calls, and about as many for the answers


async def test_call_in_the_turn_of_casts_comes_after_them(harness: Harness) -> None:
    a, b = await harness.pair()
    for number in range(5):
        a.node.cast("b", "recorder", number)
    await ask(a, "b", "and then")
    assert [what for _, _, what in b.seen[-6:]] == [0, 1, 2, 3, 4, "and then"]


async def test_call_that_meets_a_full_mailbox_ends_in_call_timeout(harness: Harness) -> None:
    harness.mailbox_max_messages = 1
    a, b = await harness.pair()
    a.node.cast("b", "recorder", "wait")
    await eventually(b.casts)
    a.node.cast("b", "recorder", "fills it")
    with pytest.raises(CallTimeout):
        await ask(a, "b", "no room", timeout_s=0.1)
    assert b.count(Count.MAILBOX_FULL) == 1


@pytest.mark.parametrize(
    "message", [object(), {1: 2}, {3, 4}, b"x" * MESSAGE_MAX_BYTES], ids=["object", "key", "set", "large"]
)
async def test_call_that_cannot_be_sent_raises_at_the_caller(harness: Harness, message: object) -> None:
    a, _ = await harness.pair()
    with pytest.raises((TypeError, ValueError)):
        await ask(a, "b", message)
    assert await ask(a, "b", "the next") == "the next"


async def test_pending_calls_end_when_their_own_node_stops(harness: Harness) -> None:
    a, b = await harness.pair()
    call = asyncio.ensure_future(ask(a, "b", "wait", timeout_s=60))
    here = asyncio.ensure_future(ask(a, "a", "wait", timeout_s=60))
    await eventually(lambda: is_waiting(a) and is_waiting(b))
    await harness.stop("a")
    with pytest.raises(NodeDown):
        await call
    with pytest.raises(NoSuchActor) as caught:
        await here
    assert caught.value.reason is Gone.STOPPED


async def test_pending_calls_end_when_the_asked_actor_stops_in_order(harness: Harness) -> None:
    a, b = await harness.pair()
    call = asyncio.ensure_future(ask(a, "b", "wait", timeout_s=60))
    await eventually(lambda: is_waiting(b))
    await harness.stop("b")
    with pytest.raises((NoSuchActor, NodeDown)):
        await call
