"""The network in memory under weather: what the contract tests of the bus do not try. On virtual time."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from cluster.address import Address
from cluster.memory import AT_ONCE, CONNECTION_MAX_FRAMES, MemoryConnection, MemoryNetwork, Passage, Weather
from cluster.transport import Connection, InboxRefusal, LostReason
from replication.simulation.loop import VirtualLoop

A, B = Address("127.0.0.1", 1), Address("127.0.0.2", 1)
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Ear:
    """A listener that notes what it hears, when, and in whose context."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []
        self.lost_count = 0
        self.contexts: set[str] = set()
        self.senders: list[Hashable] = []

    def _note(self, what: str) -> None:
        self.heard.append((asyncio.get_running_loop().time(), what))
        self.contexts.add(WHO.get())

    def opened(self, connection: Connection) -> None:
        self._note("opened")

    def lost(self, connection: Connection, reason: LostReason) -> None:
        self.lost_count += 1
        self.contexts.add(WHO.get())

    def writable(self, connection: Connection) -> None:
        self._note("writable")

    def answered(self, connection: Connection, frame: bytes) -> None:
        self._note(f"answer {frame.decode()}")

    def received(self, sender: Hashable, frame: bytes, source_host: str | None) -> None:
        self.senders.append(sender)
        self._note(frame.decode())

    def refused(self, cause: InboxRefusal, source: str) -> None:
        self._note("refused")


class Pair:
    """Two endpoints, of which a has dialled b."""

    def __init__(self, weather: Weather) -> None:
        self.network = MemoryNetwork(weather)
        self.a, self.b = self.network.transport(A), self.network.transport(B)
        self.at_a, self.at_b = Ear(), Ear()
        self.connection: MemoryConnection

    async def open(self) -> None:
        for name, transport, ear in (("a", self.a, self.at_a), ("b", self.b, self.at_b)):
            context = contextvars.copy_context()
            context.run(WHO.set, name)
            await asyncio.get_running_loop().create_task(transport.bind(), context=context)
            transport.open(ear)
        self.connection = self.a.dial(B)
        await asyncio.sleep(1)
        self.at_a.heard.clear()

    def send(self, text: str) -> None:
        for frame in text:
            assert self.connection.send(frame.encode())

    def arrived(self) -> str:
        return "".join(what for _, what in self.at_b.heard)


def with_pair(main: Callable[[Pair], Coroutine[Any, Any, None]], weather: Weather) -> None:
    async def run() -> None:
        pair = Pair(weather)
        await pair.open()
        await main(pair)

    with VirtualLoop() as loop:
        loop.run_until_complete(run())
        assert loop.unhandled == []


def one_by_one(*passages: Passage) -> Weather:
    """The first is for dialling."""
    left = [AT_ONCE, *passages]
    return lambda _source, _target: left.pop(0) if left else AT_ONCE


def test_frames_take_their_time_and_keep_their_order() -> None:
    async def main(pair: Pair) -> None:
        pair.send("abc")
        await asyncio.sleep(10)
        assert pair.at_b.heard == [(1.5, "a"), (1.5, "b"), (1.7, "c")]

    with_pair(main, one_by_one(Passage(delay_s=0.5), Passage(delay_s=0.1), Passage(delay_s=0.7)))


def test_a_frame_is_lost_another_comes_twice_and_a_third_is_overtaken() -> None:
    async def main(pair: Pair) -> None:
        pair.send("abcde")
        await asyncio.sleep(10)
        assert pair.arrived() == "bbdec"

    with_pair(
        main,
        one_by_one(
            Passage(copies=0), Passage(copies=2), Passage(delay_s=0.2, is_overtaken=True), AT_ONCE, Passage(delay_s=0.1)
        ),
    )


def test_a_narrow_link_lets_frames_through_one_after_another_and_is_full_at_its_bound() -> None:
    async def main(pair: Pair) -> None:
        for _ in range(CONNECTION_MAX_FRAMES):
            pair.send("x")
        assert not pair.connection.send(b"y")
        await asyncio.sleep(1.05)
        assert [round(at_s, 3) for at_s, _ in pair.at_b.heard] == [round(1 + 0.1 * n, 3) for n in range(11)]
        assert [what for _, what in pair.at_a.heard] == ["writable"]
        pair.send("y")

    with_pair(main, lambda _source, _target: Passage(spacing_s=0.1))


def test_what_is_held_one_way_passes_the_other_and_arrives_when_it_is_healed() -> None:
    async def main(pair: Pair) -> None:
        pair.send("a")
        await asyncio.sleep(1)
        pair.network.hold_one_way(A, B)
        pair.send("b")
        pair.b.reply(pair.at_b.senders[0], b"c")
        await asyncio.sleep(5)
        assert pair.arrived() == "a"
        assert [what for _, what in pair.at_a.heard] == ["answer c"]
        pair.network.heal(A, B)
        await asyncio.sleep(1)
        assert pair.arrived() == "ab"

    with_pair(main, lambda _source, _target: Passage(delay_s=0.01))


def test_nobody_can_connect_over_a_link_that_is_held_one_way() -> None:
    async def main(pair: Pair) -> None:
        pair.network.hold_one_way(B, A)
        pair.a.dial(B)
        await asyncio.sleep(60)
        assert pair.at_a.heard == []
        pair.network.heal(A, B)
        await asyncio.sleep(1)
        assert [what for _, what in pair.at_a.heard] == ["opened"]

    with_pair(main, lambda _source, _target: AT_ONCE)


def test_frames_that_are_on_their_way_when_a_link_is_cut_are_lost() -> None:
    async def main(pair: Pair) -> None:
        pair.send("a")
        await asyncio.sleep(0.1)
        pair.network.cut(A, B)
        await asyncio.sleep(10)
        assert pair.arrived() == ""
        assert pair.at_a.lost_count == 1

    with_pair(main, lambda _source, _target: Passage(delay_s=0.5))


def test_each_endpoint_is_told_in_the_context_in_which_it_was_bound() -> None:
    async def main(pair: Pair) -> None:
        pair.send("a")
        await asyncio.sleep(1)
        pair.b.reply(pair.at_b.senders[0], b"c")
        await asyncio.sleep(1)
        pair.network.cut(A, B)
        await asyncio.sleep(1)
        assert pair.at_a.contexts == {"a"}
        assert pair.at_b.contexts == {"b"}

    with_pair(main, lambda _source, _target: Passage(delay_s=0.01))
