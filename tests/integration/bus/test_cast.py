"""A cast always returns at once and never raises; what it drops is counted under its cause."""

import asyncio
import time

import pytest

from cluster import outbox, wire
from cluster.bus import Bus
from cluster.counters import Count
from cluster.transport import Sender
from cluster.wire import MESSAGE_MAX_BYTES
from tests.support.clusters import PATIENT, Harness
from tests.support.eventually import eventually

AT_ONCE_S = 0.5  # far above what a cast takes, far below any deadline of the bus


async def test_cast_arrives_with_its_sender(harness: Harness) -> None:
    a, b = await harness.pair()
    a.node.cast("b", "recorder", {"page": "home", "count": 1, "raw": b"\x00", "none": None, "list": [1.5, True]})
    await eventually(b.casts)
    assert b.seen[-1] == (
        "cast",
        "a",
        {"page": "home", "count": 1, "raw": b"\x00", "none": None, "list": [1.5, True]},
    )
    assert a.count(Count.CASTS_SENT) == 1
    assert b.count(Count.CASTS_RECEIVED) == 1


async def test_cast_to_an_actor_of_the_own_node_arrives(harness: Harness) -> None:
    a = await harness.start("a")
    a.node.cast("a", "recorder", "self")
    await eventually(a.casts)
    assert a.seen == [("cast", "a", "self")]


async def test_cast_to_a_node_that_never_was_is_counted(harness: Harness) -> None:
    a = await harness.start("a")
    a.node.cast("nobody", "recorder", 1)
    assert a.count(Count.NO_PEER) == 1


async def test_cast_to_a_dead_node_is_counted(harness: Harness) -> None:
    a, _ = await harness.pair()
    await harness.kill("b")
    await eventually(lambda: not a.node.peers())
    a.node.cast("b", "recorder", 1)
    assert a.count(Count.NO_PEER) == 1


async def test_cast_before_start_and_after_stop_is_counted(harness: Harness) -> None:
    a, _ = await harness.pair()
    await harness.stop("a")
    a.node.cast("b", "recorder", 1)
    a.node.cast("a", "recorder", 1)
    assert (a.count(Count.NO_PEER), a.count(Count.NO_ACTOR)) == (1, 1)


async def test_cast_to_an_unknown_name_is_counted_where_it_arrives(harness: Harness) -> None:
    a, b = await harness.pair()
    a.node.cast("b", "nobody", 1)
    a.node.cast("a", "nobody", 1)
    await eventually(lambda: b.count(Count.NO_ACTOR) == 1)
    assert a.count(Count.NO_ACTOR) == 1
    assert b.count(Count.CASTS_RECEIVED) == 0


async def test_cast_into_a_full_mailbox_is_counted_where_it_arrives(harness: Harness) -> None:
    harness.mailbox_max_messages = 5
    a, b = await harness.pair()
    a.node.cast("b", "recorder", "wait")
    await eventually(b.casts)
    for number in range(8):
        a.node.cast("b", "recorder", number)
    await eventually(lambda: b.count(Count.MAILBOX_FULL) == 3)
    b.gate.set()
    await eventually(lambda: b.casts() == ["wait", 0, 1, 2, 3, 4])
    a.node.cast("b", "recorder", "later")
    await eventually(lambda: b.casts()[-1] == "later")


async def test_cast_into_a_full_queue_is_counted_and_returns_at_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "QUEUE_MAX_MESSAGES", 50)
    harness.detector = PATIENT
    a, b = await harness.pair()
    begun_s = time.perf_counter()
    for number in range(60):  # in one turn of the loop: nothing can leave in between
        a.node.cast("b", "recorder", number)
    assert time.perf_counter() - begun_s < AT_ONCE_S
    assert a.count(Count.QUEUE_FULL) == 10
    await eventually(lambda: b.casts() == list(range(50)))
    a.node.cast("b", "recorder", "later")
    await eventually(lambda: b.casts()[-1] == "later")
    assert b.count(Count.GAP) == 0


async def test_peer_that_does_not_read_fills_the_queue_and_blocks_nobody(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "QUEUE_MAX_BYTES", 4_000_000)
    harness.detector = PATIENT
    a, _, c = await harness.trio()
    harness.hold("a", "b")
    load = b"x" * 100_000
    begun_s = time.perf_counter()
    for _ in range(10_000):
        a.node.cast("b", "recorder", load)
        if a.count(Count.QUEUE_FULL) > 10:
            break
        await asyncio.sleep(0)
    assert a.count(Count.QUEUE_FULL) > 10
    a.node.cast("c", "recorder", "not held up")
    await eventually(lambda: c.casts() == ["not held up"])
    assert time.perf_counter() - begun_s < 10
    harness.heal("a", "b")


@pytest.mark.parametrize(
    "message",
    [
        object(),
        {"when": asyncio},
        {1: "a key that is no text"},
        {b"bytes": "a key that is no text"},
        {"set": {1, 2}},
        2**64,
        -(2**63) - 1,
        "\ud800",
    ],
    ids=["object", "module", "number key", "bytes key", "set", "too large", "too small", "half a character"],
)
async def test_cast_that_is_no_plain_value_is_counted_and_harms_nobody(harness: Harness, message: object) -> None:
    a, b = await harness.pair()
    a.node.cast("b", "recorder", "before")
    a.node.cast("b", "recorder", message)
    a.node.cast("b", "recorder", "after")
    assert a.count(Count.UNENCODABLE) == 1
    await eventually(lambda: b.casts() == ["before", "after"])
    assert b.count(Count.BAD_FRAME) == 0


def _nested(depth: int) -> object:
    value: object = 0
    for _ in range(depth):
        value = [value]
    return value


class _Dict(dict[str, object]):
    pass


def _itself() -> object:
    value: list[object] = []
    value.extend([value, value])
    return value


def _nested_subclass(depth: int) -> object:
    value: object = 0
    for _ in range(depth):
        value = _Dict(a=value)
    return value


@pytest.mark.parametrize(
    "message",
    [
        _nested(33),
        _nested_subclass(33),
        _itself(),
        [[] for _ in range(60_000)],
        [0] * 200_000,
        {str(number): 0 for number in range(150_000)},
    ],
    ids=["deep", "deep subclass", "itself", "many", "long", "wide"],
)
async def test_what_a_peer_would_refuse_is_refused_by_the_sender(harness: Harness, message: object) -> None:
    """Else one careless cast of ours would make the peer drop the frame, and with it the link."""
    harness.detector = PATIENT
    a, b = await harness.pair()
    a.node.cast("b", "recorder", message)
    a.node.cast("b", "recorder", "after")
    await eventually(lambda: b.casts() == ["after"])
    assert a.count(Count.UNENCODABLE) + a.count(Count.TOO_LARGE) == 1
    assert b.count(Count.BAD_FRAME) == b.count(Count.GAP) == 0


@pytest.mark.parametrize("message", [{}, {"a": 1}, [[]], None])
async def test_burst_of_the_smallest_messages_arrives(harness: Harness, message: object) -> None:
    """A batch closes before it holds more containers than the receiver decodes."""
    harness.detector = PATIENT
    a, b = await harness.pair()
    for _ in range(80_000):
        a.node.cast("b", "s", message)
    await eventually(lambda: b.count(Count.NO_ACTOR) == 80_000, why=b.node.counters.snapshot)
    assert b.count(Count.BAD_FRAME) == 0


async def test_cast_that_is_too_large_is_counted_and_the_largest_arrives(harness: Harness) -> None:
    harness.detector = PATIENT
    a, b = await harness.pair()
    a.node.cast("b", "recorder", b"x" * MESSAGE_MAX_BYTES)
    assert a.count(Count.TOO_LARGE) == 1
    a.node.cast("b", "recorder", b"x" * (MESSAGE_MAX_BYTES - 100))
    await eventually(b.casts)
    assert b.count(Count.BAD_FRAME) == 0


async def test_casts_of_one_turn_share_a_frame(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    received = Bus.received

    def counted(self: Bus, sender: Sender, frame: bytes, source_host: str | None) -> None:
        decoded = wire.decode(frame)
        if isinstance(decoded, wire.Batch):
            sizes.append(decoded.count)
        received(self, sender, frame, source_host)

    monkeypatch.setattr(Bus, "received", counted)
    a, b = await harness.pair()
    for number in range(100):
        a.node.cast("b", "recorder", number)
    await eventually(lambda: b.casts() == list(range(100)))
    assert sizes == [100]
