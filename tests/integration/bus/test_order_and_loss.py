"""Messages of a pair arrive in the order sent; a broken link loses a tail, and the rest comes only after `nodeup`."""

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.counters import Count
from tests.support.clusters import FAST, PATIENT, Harness, Life, MemoryHarness, ZeroMqHarness
from tests.support.eventually import eventually, turns

# What a node does: so many casts, then a call, then a pause of so many turns of the event loop.
steps = st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.integers(0, 3)), max_size=12)
loads = st.sampled_from([0, 1, 1_000, 70_000])


async def send(life: Life, to: str, orders: list[tuple[int, bool, int]], load_bytes: int) -> list[object]:
    sent: list[object] = []
    calls: list[asyncio.Task[object]] = []
    load = b"x" * load_bytes
    numbers = itertools.count()
    for casts, call, pause in orders:
        for _ in range(casts):
            message = [next(numbers), load]
            life.node.cast(to, "recorder", message)
            sent.append(message)
        if call:
            message = [next(numbers), load]
            calls.append(asyncio.ensure_future(life.node.call(to, "recorder", message, timeout_s=20)))
            sent.append(message)
            await asyncio.sleep(0)  # a task begins to run; only then is it sent
        await turns(pause)
    for call_made in calls:
        await call_made
    return sent


async def exchange(harness: Harness, orders: list[tuple[int, bool, int]], load_bytes: int) -> None:
    harness.detector = PATIENT
    try:
        a, b = await harness.pair()
        sent_by_a, sent_by_b = await asyncio.gather(send(a, "b", orders, load_bytes), send(b, "a", orders[::-1], 10))
        for life, sender, sent in ((b, "a", sent_by_a), (a, "b", sent_by_b)):

            def arrived(life: Life = life, sender: str = sender) -> list[object]:
                return [what for kind, who, what in life.seen if kind in ("cast", "call") and who == sender]

            await eventually(lambda: len(arrived()) >= len(sent))  # noqa: B023 (it is waited for here)
            assert arrived() == sent
    finally:
        await harness.close()


@given(orders=steps, load_bytes=loads)
@settings(max_examples=30)
def test_order_is_kept_between_two_nodes_in_memory(orders: list[tuple[int, bool, int]], load_bytes: int) -> None:
    async def run() -> None:
        await exchange(MemoryHarness(), orders, load_bytes)

    asyncio.run(run())


@given(orders=steps, load_bytes=loads)
@settings(max_examples=10)
def test_order_is_kept_between_two_nodes_over_zeromq(orders: list[tuple[int, bool, int]], load_bytes: int) -> None:
    async def run() -> None:
        await exchange(ZeroMqHarness(), orders, load_bytes)

    asyncio.run(run())


def sessions(life: Life, sender: str) -> list[list[object]]:
    """What arrived from the sender, in one list for each `up`; none before the first."""
    found: list[list[object]] = []
    is_up = False
    for kind, who, what in life.seen:
        if who != sender:
            continue
        if kind == "up":
            assert not is_up, "an up without a down before it"
            is_up = True
            found.append([])
        elif kind == "down":
            assert is_up, "a down without an up before it"
            is_up = False
        else:
            assert is_up, f"{what!r} came outside of a session"
            found[-1].append(what)
    return found


def assert_runs(found: list[list[object]]) -> None:
    """Within a session numbers follow each other without a hole, and later sessions have later numbers."""
    last = -1
    for position, numbers in enumerate(found):
        for before, number in itertools.pairwise(numbers):
            assert number == before + 1, f"a hole in session {position}"  # type: ignore[operator]
        if numbers:
            assert numbers[0] > last  # type: ignore[operator]
            last = numbers[-1]  # type: ignore[assignment]


async def test_cut_link_loses_a_tail_and_goes_on_only_after_nodeup(harness: Harness) -> None:
    a, b = await harness.pair()
    numbers = itertools.count()
    for _ in range(4):
        for _ in range(300):
            a.node.cast("b", "recorder", next(numbers))
        await turns(3)
        harness.cut("a", "b")
        for _ in range(50):
            a.node.cast("b", "recorder", next(numbers))
        await eventually(lambda: not a.node.peers() and not b.node.peers())
        harness.heal("a", "b")
        await harness.settled()
    last = next(numbers)
    a.node.cast("b", "recorder", last)
    await eventually(lambda: last in b.casts("a"))
    found = sessions(b, "a")
    assert len(found) >= 5
    assert_runs(found)
    assert b.count(Count.GAP) == 0


@pytest.mark.parametrize("size_bytes", [1_500, 40_000, 123_457])
async def test_stream_cut_in_the_middle_of_a_frame_is_a_prefix(sockets: ZeroMqHarness, size_bytes: int) -> None:
    sockets.detector = PATIENT
    a, b = await sockets.pair()
    sockets.proxy("a", "b").cut_after(size_bytes)
    load = "x" * 100
    for number in range(20_000):
        a.node.cast("b", "recorder", [number, load])
        if number % 20 == 0:
            await asyncio.sleep(0)
        if not a.node.peers():
            break
    await eventually(lambda: "down" in b.news("a"))
    arrived = b.casts("a")
    assert arrived == [[number, load] for number in range(len(arrived))]
    assert 0 < len(arrived) < 20_000
    sockets.heal("a", "b")
    await sockets.settled()
    a.node.cast("b", "recorder", "the rest")
    await eventually(lambda: b.casts("a")[-1] == "the rest")
    assert b.news("a") == ["up", "down", "up"]


async def test_messages_that_waited_for_a_lost_link_are_counted(harness: Harness) -> None:
    harness.detector = PATIENT
    a, _ = await harness.pair()
    harness.hold("a", "b")
    for _ in range(400):  # more than the connection takes, each in a frame of its own
        a.node.cast("b", "recorder", b"x" * 60_000)
        await turns(1)
    harness.cut("a", "b")
    await eventually(lambda: not a.node.peers())
    assert a.count(Count.LINK_LOST) > 0
    harness.heal("a", "b")


async def test_slow_link_delays_and_loses_nothing(sockets: ZeroMqHarness) -> None:
    sockets.detector = PATIENT
    a, b = await sockets.pair()
    sockets.proxy("a", "b").delay_s = 0.02
    for number in range(200):
        a.node.cast("b", "recorder", number)
        await turns(1)
    await eventually(lambda: len(b.casts("a")) == 200)
    assert sessions(b, "a") == [list(range(200))]
    assert sockets.detector is not FAST
