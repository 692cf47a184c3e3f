"""The transport without a network: nodes of one process, on one event loop, for tests and simulations.

It keeps the contract of `transport` to the letter: frames arrive in order and later than the call that sent them, a
connection is bounded, a connection that is cut loses what was on it, and an endpoint that was closed answers nobody.
`MemoryNetwork` is where faults are made. By its `weather` frames take their time, and it may even break the contract:
lose a frame, bring it twice, or bring a later one before it.

What a transport tells its listener runs in the context in which the transport was bound, and what the network does by
itself in the context in which that was made: so tasks and timers of two nodes can be told apart by their contexts.
"""

import asyncio
import contextvars
from bisect import insort
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from cluster.address import Address
from cluster.errors import BindError
from cluster.transport import InboxRefusal, Listener, LostReason
from cluster.wire import FRAME_MAX_BYTES

CONNECTION_MAX_FRAMES = 200  # as many as a ZeroMQ socket of ours queues


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What becomes of one frame on its way."""

    delay_s: float = 0.0
    spacing_s: float = 0.0
    """So long after the frame before it, at the earliest: what a narrow link needs for it."""
    copies: int = 1
    """How often it arrives; 0: it is lost."""
    is_overtaken: bool = False
    """What is sent after it may arrive before it."""


AT_ONCE = Passage()

type Weather = Callable[[Address, Address], Passage]
"""Asked for each frame, with where it comes from and where it goes."""


def calm(_source: Address, _target: Address) -> Passage:
    """Everything arrives, at once."""
    return AT_ONCE


class MemoryNetwork:
    """All endpoints that can reach each other, and the faults between them."""

    def __init__(self, weather: Weather = calm) -> None:
        self.weather = weather
        self.context = contextvars.copy_context()
        self._endpoints: dict[Address, MemoryTransport] = {}
        self._cut: set[frozenset[Address]] = set()
        self._held: set[tuple[Address, Address]] = set()  # from, to
        self._frozen: set[Address] = set()
        # Dicts, not sets: their order is the same in every run of a simulation.
        self._connections: dict[MemoryConnection, None] = {}
        self._opening: dict[MemoryConnection, None] = {}
        self._ports = 1000

    def transport(self, address: Address | None = None) -> "MemoryTransport":
        """A new transport that will listen at `address`, or at one that is free."""
        if address is None:
            self._ports += 1
            address = Address("127.0.0.1", self._ports)
        return MemoryTransport(self, address)

    def cut(self, one: Address, other: Address) -> None:
        """End all connections between the two and refuse new ones; what is on its way is lost."""
        self._cut.add(frozenset((one, other)))
        for connection in list(self._connections):
            if {connection.source, connection.address} == {one, other}:
                connection.drop(LostReason.DISCONNECTED)

    def hold(self, one: Address, other: Address) -> None:
        """Let nothing pass between the two and tell nobody, as a network that drops every packet does."""
        self.hold_one_way(one, other)
        self.hold_one_way(other, one)

    def hold_one_way(self, source: Address, target: Address) -> None:
        """Let nothing pass from `source` to `target`; the other way is open, for connections that stand already."""
        self._held.add((source, target))

    def heal(self, one: Address, other: Address) -> None:
        """Let the two connect again; what was held arrives."""
        self._cut.discard(frozenset((one, other)))
        self._held.discard((one, other))
        self._held.discard((other, one))
        self._resume()

    def kill(self, address: Address) -> None:
        """End the endpoint at once, as the death of its process does: it says and hears nothing more."""
        transport = self._endpoints.get(address)
        if transport is not None:
            self.leave(transport)
            transport.listener = None

    def freeze(self, address: Address) -> None:
        """Frames to this endpoint stay on their way, as to a process that is stopped but not dead."""
        self._frozen.add(address)

    def thaw(self, address: Address) -> None:
        """Deliver again, beginning with what has waited."""
        self._frozen.discard(address)
        self._resume()

    def _resume(self) -> None:
        opening, self._opening = self._opening, {}
        for connection in opening:
            connection.open()
        for connection in list(self._connections):
            connection.pump()

    def is_held(self, source: Address, target: Address) -> bool:
        """Whether what `source` sends to `target` stays on its way."""
        return target in self._frozen or (source, target) in self._held

    def is_parted(self, one: Address, other: Address) -> bool:
        """Whether the two cannot connect. A process that is frozen is still connected to, by its kernel."""
        return (one, other) in self._held or (other, one) in self._held

    def wait_to_open(self, connection: "MemoryConnection") -> None:
        """Open it as soon as something may pass."""
        self._opening[connection] = None

    def listen(self, transport: "MemoryTransport") -> None:
        if transport.address in self._endpoints:
            raise BindError(f"the bus cannot listen at {transport.address}: the address is in use")
        self._endpoints[transport.address] = transport

    def leave(self, transport: "MemoryTransport") -> None:
        if self._endpoints.get(transport.address) is transport:
            del self._endpoints[transport.address]
        for connection in list(self._connections):
            if connection.source == transport.address:
                connection.close()
            elif connection.address == transport.address:
                connection.drop(LostReason.DISCONNECTED)

    def reach(self, source: Address, target: Address) -> "MemoryTransport | None":
        """The endpoint at `target`, if `source` can reach it."""
        if frozenset((source, target)) in self._cut:
            return None
        endpoint = self._endpoints.get(target)
        return endpoint if endpoint is not None and endpoint.listener is not None else None

    def opened(self, connection: "MemoryConnection") -> None:
        self._connections[connection] = None

    def ended(self, connection: "MemoryConnection") -> None:
        self._connections.pop(connection, None)


class MemoryTransport:
    """One endpoint of a `MemoryNetwork`."""

    def __init__(self, network: MemoryNetwork, address: Address) -> None:
        self.network = network
        self.address = address
        self.listener: Listener | None = None
        self._context = contextvars.copy_context()
        self._callers: dict[Hashable, MemoryConnection] = {}
        self._callers_count = 0

    async def bind(self) -> Address:
        """Take the address. Raises BindError if somebody listens there already."""
        self._context = contextvars.copy_context()
        self.network.listen(self)
        return self.address

    def open(self, listener: Listener) -> None:
        """Begin to tell the listener."""
        self.listener = listener

    def tell(self, call: Callable[[Listener], None]) -> None:
        """Tell the listener something, if there is one."""
        if self.listener is not None:
            self._context.run(call, self.listener)

    def dial(self, address: Address) -> "MemoryConnection":
        """Begin to connect."""
        connection = MemoryConnection(self, address)
        passage = self.network.weather(self.address, address)
        loop = asyncio.get_running_loop()
        if passage.delay_s:
            loop.call_later(passage.delay_s, connection.open, context=self.network.context)
        else:
            loop.call_soon(connection.open, context=self.network.context)
        return connection

    def reply(self, sender: Hashable, frame: bytes) -> None:
        """Answer a caller, if it is still there."""
        caller = self._callers.get(sender)
        if caller is not None:
            caller.answer(frame)

    async def stop(self) -> None:
        """Leave the network. Frames that were handed over before are delivered."""
        await asyncio.sleep(0)
        self.network.leave(self)
        self.listener = None

    def accept(self, connection: "MemoryConnection") -> Hashable:
        self._callers_count += 1
        self._callers[self._callers_count] = connection
        return self._callers_count

    def hang_up(self, sender: Hashable) -> None:
        self._callers.pop(sender, None)

    def receive(self, sender: Hashable, frame: bytes, source: Address) -> None:
        if len(frame) > FRAME_MAX_BYTES:
            self.tell(lambda listener: listener.refused(InboxRefusal.PARTS, str(source)))
        else:
            self.tell(lambda listener: listener.received(sender, frame, source.host))


class _Way:
    """The frames on one direction of a connection, the next to arrive first."""

    def __init__(self) -> None:
        self._frames: list[tuple[float, bytes]] = []
        self._last_s = 0.0

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: bytes, passage: Passage, now_s: float) -> None:
        for _ in range(passage.copies):
            due_s = max(now_s + passage.delay_s, self._last_s + passage.spacing_s)
            if not passage.is_overtaken:
                self._last_s = due_s
            insort(self._frames, (due_s, frame), key=_due_s)

    def is_due(self, now_s: float) -> bool:
        return bool(self._frames) and self._frames[0][0] <= now_s

    def due_s(self) -> float:
        return self._frames[0][0]

    def take(self) -> bytes:
        return self._frames.pop(0)[1]

    def clear(self) -> None:
        self._frames.clear()


def _due_s(flying: tuple[float, bytes]) -> float:
    return flying[0]


class MemoryConnection:
    """A connection from one endpoint to another."""

    def __init__(self, transport: MemoryTransport, address: Address) -> None:
        self.address = address
        self.source = transport.address
        self._transport = transport
        self._network = transport.network
        self._target: MemoryTransport | None = None
        self._sender: Hashable = None
        self._frames = _Way()
        self._answers = _Way()
        self._turn_s: float | None = None  # when the next frame is looked at
        self._next_turn: asyncio.Handle | None = None
        self._refused = False
        self._closed = False

    def open(self) -> None:
        if self._closed or self._transport.listener is None:
            return
        if self._network.is_parted(self.source, self.address):
            self._network.wait_to_open(self)
            return
        self._target = self._network.reach(self.source, self.address)
        if self._target is None:
            self._closed = True
            self._transport.tell(lambda listener: listener.lost(self, LostReason.UNREACHABLE))
            return
        self._sender = self._target.accept(self)
        self._network.opened(self)
        self._transport.tell(lambda listener: listener.opened(self))

    def send(self, frame: bytes) -> bool:
        """Queue a frame; False if the connection is full or gone."""
        if self._closed or self._target is None:
            return False
        if len(self._frames) >= CONNECTION_MAX_FRAMES:
            self._refused = True
            return False
        now_s = asyncio.get_running_loop().time()
        self._frames.put(frame, self._network.weather(self.source, self.address), now_s)
        self.pump()
        return True

    def answer(self, frame: bytes) -> None:
        """Queue a frame in the other direction; dropped if the connection is full or gone."""
        if not self._closed and len(self._answers) < CONNECTION_MAX_FRAMES:
            now_s = asyncio.get_running_loop().time()
            self._answers.put(frame, self._network.weather(self.address, self.source), now_s)
            self.pump()

    def pump(self) -> None:
        """See to it that the next frame that may arrive does, when it is due."""
        due = [way.due_s() for way in (self._frames, self._answers) if self._may_pass(way)]
        if not due:
            return
        loop = asyncio.get_running_loop()
        due_s = max(min(due), loop.time())
        if self._next_turn is not None and self._turn_s is not None:
            if self._turn_s <= due_s:
                return
            self._next_turn.cancel()
        self._turn_s = due_s
        context = self._network.context
        if due_s <= loop.time():
            self._next_turn = loop.call_soon(self._turn, context=context)
        else:
            self._next_turn = loop.call_at(due_s, self._turn, context=context)

    def _may_pass(self, way: _Way) -> bool:
        source, target = (self.source, self.address) if way is self._frames else (self.address, self.source)
        return len(way) > 0 and not self._network.is_held(source, target)

    def _turn(self) -> None:
        self._next_turn = None
        now_s = asyncio.get_running_loop().time()
        try:
            if self._may_pass(self._frames) and self._frames.is_due(now_s):
                self._deliver(self._frames.take())
            if self._may_pass(self._answers) and self._answers.is_due(now_s):
                self._bring_back(self._answers.take())
        finally:
            self.pump()
            if self._closed and not self._frames:
                self._hang_up()

    def _deliver(self, frame: bytes) -> None:
        if self._target is not None:
            self._target.receive(self._sender, frame, self.source)
        if self._refused and not self._closed:
            self._refused = False
            self._transport.tell(lambda listener: listener.writable(self))

    def _bring_back(self, frame: bytes) -> None:
        if not self._closed:
            self._transport.tell(lambda listener: listener.answered(self, frame))

    def close(self) -> None:
        """End it from our side; what was handed over is still delivered."""
        if not self._closed:
            self._closed = True
            self._answers.clear()
            if not self._frames:
                self._hang_up()

    def drop(self, reason: LostReason) -> None:
        """The network ends it: what was on its way is lost, and our side is told."""
        self._frames.clear()
        self._answers.clear()
        closed, self._closed = self._closed, True
        self._hang_up()
        if not closed:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._tell_lost, reason, context=self._network.context)

    def _tell_lost(self, reason: LostReason) -> None:
        self._transport.tell(lambda listener: listener.lost(self, reason))

    def _hang_up(self) -> None:
        if self._target is not None:
            self._target.hang_up(self._sender)
            self._target = None
        self._network.ended(self)
