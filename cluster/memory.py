"""The transport without a network: nodes of one process, on one event loop, for tests and simulations.

It keeps the contract of `transport` to the letter: frames arrive in order and later than the call that sent them, a
connection is bounded, a connection that is cut loses what was on it, and an endpoint that was closed answers nobody.
`MemoryNetwork` is where faults are made.
"""

import asyncio
from collections import deque
from collections.abc import Hashable

from cluster.address import Address
from cluster.errors import BindError
from cluster.transport import InboxRefusal, Listener, LostReason
from cluster.wire import FRAME_MAX_BYTES

CONNECTION_MAX_FRAMES = 200  # as many as a ZeroMQ socket of ours queues


class MemoryNetwork:
    """All endpoints that can reach each other, and the faults between them."""

    def __init__(self) -> None:
        self._endpoints: dict[Address, MemoryTransport] = {}
        self._cut: set[frozenset[Address]] = set()
        self._held: set[frozenset[Address]] = set()
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
        self._held.add(frozenset((one, other)))

    def heal(self, one: Address, other: Address) -> None:
        """Let the two connect again; what was held arrives."""
        self._cut.discard(frozenset((one, other)))
        self._held.discard(frozenset((one, other)))
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
        return target in self._frozen or self.is_parted(source, target)

    def is_parted(self, source: Address, target: Address) -> bool:
        """Whether nothing passes between the two. A process that is frozen is still connected to, by its kernel."""
        return frozenset((source, target)) in self._held

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
        self._callers: dict[Hashable, MemoryConnection] = {}
        self._callers_count = 0

    async def bind(self) -> Address:
        """Take the address. Raises BindError if somebody listens there already."""
        self.network.listen(self)
        return self.address

    def open(self, listener: Listener) -> None:
        """Begin to tell the listener."""
        self.listener = listener

    def dial(self, address: Address) -> "MemoryConnection":
        """Begin to connect."""
        connection = MemoryConnection(self, address)
        asyncio.get_running_loop().call_soon(connection.open)
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
        if self.listener is None:
            return
        if len(frame) > FRAME_MAX_BYTES:
            self.listener.refused(InboxRefusal.PARTS, str(source))
            return
        self.listener.received(sender, frame, source.host)


class MemoryConnection:
    """A connection from one endpoint to another."""

    def __init__(self, transport: MemoryTransport, address: Address) -> None:
        self.address = address
        self.source = transport.address
        self._transport = transport
        self._network = transport.network
        self._target: MemoryTransport | None = None
        self._sender: Hashable = None
        self._frames: deque[bytes] = deque()
        self._answers: deque[bytes] = deque()
        self._pumping = False
        self._refused = False
        self._closed = False

    def open(self) -> None:
        listener = self._transport.listener
        if self._closed or listener is None:
            return
        if self._network.is_parted(self.source, self.address):
            self._network.wait_to_open(self)
            return
        self._target = self._network.reach(self.source, self.address)
        if self._target is None:
            self._closed = True
            listener.lost(self, LostReason.UNREACHABLE)
            return
        self._sender = self._target.accept(self)
        self._network.opened(self)
        listener.opened(self)

    def send(self, frame: bytes) -> bool:
        """Queue a frame; False if the connection is full or gone."""
        if self._closed or self._target is None:
            return False
        if len(self._frames) >= CONNECTION_MAX_FRAMES:
            self._refused = True
            return False
        self._frames.append(frame)
        self.pump()
        return True

    def answer(self, frame: bytes) -> None:
        """Queue a frame in the other direction; dropped if the connection is full or gone."""
        if not self._closed and len(self._answers) < CONNECTION_MAX_FRAMES:
            self._answers.append(frame)
            self.pump()

    def pump(self) -> None:
        if not self._pumping and (self._can_deliver() or self._can_answer()):
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _can_deliver(self) -> bool:
        return bool(self._frames) and not self._network.is_held(self.source, self.address)

    def _can_answer(self) -> bool:
        return bool(self._answers) and not self._network.is_held(self.address, self.source)

    def _turn(self) -> None:
        self._pumping = False
        try:
            if self._can_deliver():
                self._deliver(self._frames.popleft())
            if self._can_answer():
                self._bring_back(self._answers.popleft())
        finally:
            self.pump()
            if self._closed and not self._frames:
                self._hang_up()

    def _deliver(self, frame: bytes) -> None:
        if self._target is not None:
            self._target.receive(self._sender, frame, self.source)
        listener = self._transport.listener
        if self._refused and not self._closed and listener is not None:
            self._refused = False
            listener.writable(self)

    def _bring_back(self, frame: bytes) -> None:
        if not self._closed and self._transport.listener is not None:
            self._transport.listener.answered(self, frame)

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
        if not closed and self._transport.listener is not None:
            asyncio.get_running_loop().call_soon(self._tell_lost, reason)

    def _tell_lost(self, reason: LostReason) -> None:
        if self._transport.listener is not None:
            self._transport.listener.lost(self, reason)

    def _hang_up(self) -> None:
        if self._target is not None:
            self._target.hang_up(self._sender)
            self._target = None
        self._network.ended(self)
