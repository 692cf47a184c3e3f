"""A node: a name in the cluster, the actors that run under it, and the bus to the other nodes.

Start order: the transport listens first, so that a port in use is found before anything runs; then the actors start;
and last the node joins, so that nobody can cast to an actor that is not there yet. It stops in the reverse order.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from random import Random
from types import TracebackType
from typing import Self

from cluster.actor import Process
from cluster.address import Address
from cluster.bus import Bus
from cluster.counters import Count, Counters
from cluster.detector import DetectorSettings
from cluster.dialing import DialSettings
from cluster.discovery import Discovery
from cluster.errors import CallTimeout, ClusterError, Gone, NoSuchActor
from cluster.membership import Member, NodeDown, NodeUp, Peer
from cluster.supervisor import Child, Running, Supervisor
from cluster.transport import Transport
from cluster.wire import TEXT_MAX_BYTES, Hello, is_short_text

log = logging.getLogger(__name__)

CALL_TIMEOUT_S = 5.0
DISCOVERY_STOP_TIMEOUT_S = 0.5
_INCARNATION_BYTES = 8


class Node:
    """One member of a cluster. Made with everything it needs; `start` runs it, `stop` ends it.

    `failed` is done with an error when the node cannot go on: a supervisor at the top gave up, or another live node has
    its name. Who runs a node waits for that beside its own reasons to stop.
    """

    def __init__(
        self,
        *,
        name: str,
        cluster: str,
        transport: Transport,
        region: str = "local",
        advertise: Address | None = None,
        discovery: Discovery | None = None,
        children: Sequence[Child] = (),
        detector: DetectorSettings | None = None,
        dialing: DialSettings | None = None,
        random: Random | None = None,
        incarnation: str | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """Starts nothing. Raises ValueError for a name, region or cluster that no peer would accept.

        `random`, `incarnation` and `now_s`, the time since 1970, are for who wants runs to be repeatable; by default
        they are the system's, and no two incarnations are the same."""
        for what, text in (("name", name), ("region", region), ("cluster", cluster)):
            if not is_short_text(text):
                raise ValueError(f"a node's {what} is 1 to {TEXT_MAX_BYTES} bytes of printable text, not {text!r:.80}")
        self.name = name
        self.region = region
        self.cluster = cluster
        self.incarnation = os.urandom(_INCARNATION_BYTES).hex() if incarnation is None else incarnation
        self.counters = Counters()
        self.processes: dict[str, Process] = {}
        self._transport = transport
        self._advertise = advertise
        self._discovery = discovery
        self._supervisor = Supervisor(f"node {name}", children)
        self._detector = detector
        self._dialing = dialing
        self._random = random
        self._now_s = now_s
        self._monitors: list[str] = []
        self._bus: Bus | None = None
        self._running: Running | None = None
        self._search: asyncio.Task[None] | None = None
        self._failed: asyncio.Future[ClusterError] | None = None
        self._address: Address | None = None

    # --- life ---

    async def start(self) -> None:
        """Listen, start the actors, join. Raises BindError or SecretError if the bus cannot listen; nothing is left
        running then, nor after a cancellation."""
        self._failed = asyncio.get_running_loop().create_future()
        bound = await self._transport.bind()
        try:
            await self._run_from(bound)
        except BaseException:
            await self.stop()
            raise

    async def _run_from(self, bound: Address) -> None:
        self._address = self._advertise or (Address("*", bound.port) if bound.is_wildcard else bound)
        hello = Hello(
            cluster=self.cluster,
            node=self.name,
            incarnation=self.incarnation,
            region=self.region,
            address=str(self._address),
            started_at_ms=int(self._now_s() * 1000),
        )
        self._bus = Bus(
            hello,
            self._transport,
            self,
            self.counters,
            detector=self._detector,
            dialing=self._dialing,
            random=self._random,
        )
        self._running = self._supervisor.launch(self, self._supervisor_ended)
        await asyncio.sleep(0)  # the actors' tasks begin
        self._transport.open(self._bus)
        self._bus.join()
        if self._discovery is not None:
            self._search = asyncio.create_task(self._discovery.run(self._bus.found), name=f"discovery of {self.name}")

    async def stop(self) -> None:
        """Stop discovery, let the actors finish what they have, say goodbye, close everything."""
        if self._search is not None:
            self._search.cancel()
            await asyncio.wait({self._search}, timeout=DISCOVERY_STOP_TIMEOUT_S)
            self._search = None
        if self._running is not None:
            await self._running.stop()
            self._running = None
        if self._bus is not None:
            self._bus.leave()
        await self._transport.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def failed(self) -> ClusterError:
        """Wait until the node cannot go on, and return why. Cancelling the wait has no effect on the node."""
        assert self._failed is not None, "wait for failed() after start()"
        return await asyncio.shield(self._failed)

    # --- talking ---

    @property
    def joined(self) -> bool:
        """Whether the node talks to others: it listens and its actors were started."""
        return self._running is not None and self._bus is not None

    @property
    def address(self) -> Address:
        """Where others reach this node; a host of "*" means any address of this machine. Known after `start`."""
        assert self._address is not None, "a node has an address after start()"
        return self._address

    def cast(self, node: str, actor: str, message: object) -> None:
        """Send `message` (plain values) to an actor and forget it. Never blocks, never raises; what is dropped is
        counted by cause in `counters`."""
        if node != self.name:
            if self._bus is None:
                self.counters.increment(Count.NO_PEER)
            else:
                self._bus.cast(node, actor, message)
            return
        process = self.processes.get(actor)
        if process is None:
            self.counters.increment(Count.NO_ACTOR)
        elif not process.put(message, node):
            self.counters.increment(Count.MAILBOX_FULL)

    async def call(self, node: str, actor: str, message: object, *, timeout_s: float = CALL_TIMEOUT_S) -> object:
        """Ask an actor and return its answer.

        Raises NoSuchActor, NodeDown or CallTimeout; after a timeout, and after a cancellation, the actor may still
        carry the request out. TypeError or ValueError: the message is not made of plain values, or is too large.
        """
        if node == self.name:
            return await self._call_here(actor, message, timeout_s)
        assert self._bus is not None, "call after start()"
        return await self._bus.call(node, actor, message, timeout_s)

    async def _call_here(self, actor: str, message: object, timeout_s: float) -> object:
        process = self.processes.get(actor)
        if process is None:
            raise NoSuchActor(self.name, actor, Gone.UNKNOWN)
        answer = _LocalAnswer(self.name, actor)
        if not process.put(message, self.name, answer):
            self.counters.increment(Count.MAILBOX_FULL)
        try:
            async with asyncio.timeout(timeout_s):
                return await answer.future
        except TimeoutError:
            raise CallTimeout(self.name, actor, timeout_s) from None

    # --- who is there ---

    @property
    def discovery(self) -> str:
        """How this node looks for others, for people."""
        return "nobody is asked" if self._discovery is None else self._discovery.describe()

    def peers(self) -> tuple[Peer, ...]:
        """The other live nodes, by name: a snapshot, without this node."""
        return () if self._bus is None else self._bus.peers()

    def members(self) -> tuple[Member, ...]:
        """Every other node or address that this node knows of, with its state."""
        return () if self._bus is None else self._bus.members()

    def monitor_nodes(self, actor: str) -> None:
        """Tell the actor of that name `NodeUp` and `NodeDown` from now on, in order with the messages. It ends with
        the actor: one that was restarted asks again."""
        if actor not in self._monitors:
            self._monitors.append(actor)

    # --- supervisor.Registry ---

    def register(self, process: Process) -> None:
        """Make an actor reachable under its name."""
        if process.name in self.processes:
            raise ValueError(f"an actor named {process.name!r} is running on node {self.name!r} already")
        self.processes[process.name] = process

    def unregister(self, process: Process) -> None:
        """The actor ended."""
        if self.processes.get(process.name) is process:
            del self.processes[process.name]
            with contextlib.suppress(ValueError):
                self._monitors.remove(process.name)

    # --- bus.Local ---

    def announce(self, info: NodeUp | NodeDown) -> None:
        """Tell who monitors the nodes."""
        for actor in self._monitors:
            process = self.processes.get(actor)
            if process is not None:  # who asked for an actor that does not run yet is told from when it does
                process.put_info(info)

    def fail(self, error: ClusterError) -> None:
        """This node cannot go on."""
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(error)

    def _supervisor_ended(self, error: BaseException | None) -> None:
        if isinstance(error, ClusterError):
            self.fail(error)


class _LocalAnswer:
    def __init__(self, node: str, actor: str) -> None:
        self._node = node
        self._actor = actor
        self.future: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def answered(self, value: object) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def failed(self, reason: Gone) -> None:
        if not self.future.done():
            self.future.set_exception(NoSuchActor(self._node, self._actor, reason))
