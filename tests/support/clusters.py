"""Clusters for the contract tests: the same orders to nodes and links, over memory and over ZeroMQ."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cluster.actor import MAILBOX_MAX_MESSAGES, Actor
from cluster.address import Address
from cluster.counters import Count
from cluster.detector import DetectorSettings
from cluster.dialing import DialSettings
from cluster.membership import NodeDown, NodeUp, PeerState
from cluster.memory import MemoryNetwork
from cluster.node import Node
from cluster.security import CurveKeys
from cluster.supervisor import ActorChild, Child
from cluster.transport import Transport
from cluster.zeromq import ZeroMqConnection, ZeroMqTransport
from tests.support.eventually import eventually
from tests.support.tcp_proxy import TcpProxy

FAST = DetectorSettings(
    tick_interval_s=0.02,
    heartbeat_interval_s=0.06,
    suspect_after_s=0.3,
    down_after_s=0.6,
    suspicion_max_s=1.8,
    stall_s=0.1,
)
"""As the defaults, eight times faster."""

# Three times slower than FAST to find anybody down: for tests in which a busy machine must not.
PATIENT = DetectorSettings(tick_interval_s=0.05)

DIALS = DialSettings(first_pause_s=0.01, longest_pause_s=0.1)

type Seen = tuple[str, str, object]
"""What an actor saw: ("cast" or "call", sender, message), or ("up" or "down", node, incarnation)."""


@dataclass(eq=False)
class Life:
    """One run of a node, and what its recorder saw."""

    node: Node
    seen: list[Seen] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def casts(self, sender: str | None = None) -> list[object]:
        """The messages that were cast to it, in the order they came."""
        return [what for kind, who, what in self.seen if kind == "cast" and sender in (None, who)]

    def news(self, node: str) -> list[str]:
        """The ups and downs of a node."""
        return [kind for kind, who, _ in self.seen if kind in ("up", "down") and who == node]

    def count(self, cause: Count) -> int:
        """A counter of the node."""
        return self.node.counters.get(cause)

    def state_of(self, name: str) -> PeerState | None:
        """What the node thinks of another."""
        return next((member.state for member in self.node.members() if member.name == name), None)


class Recorder(Actor):
    """Notes whatever it gets. "wait" makes it wait for the gate of its life, "poison" crashes it."""

    name = "recorder"

    def __init__(self, life: Callable[[], Life]) -> None:
        self._life = life

    async def started(self) -> None:
        self._life().node.monitor_nodes(self.name)

    async def handle_cast(self, message: object, sender: str) -> None:
        self._life().seen.append(("cast", sender, message))
        await self._obey(message)

    async def handle_call(self, message: object, sender: str) -> object:
        self._life().seen.append(("call", sender, message))
        await self._obey(message)
        return message

    async def handle_info(self, info: object) -> None:
        assert isinstance(info, NodeUp | NodeDown)
        kind = "up" if isinstance(info, NodeUp) else "down"
        self._life().seen.append((kind, info.peer.name, info.peer.incarnation))

    async def _obey(self, message: object) -> None:
        if message == "wait":
            await self._life().gate.wait()
        elif message == "poison":
            raise ValueError("poisoned")


class Listed:
    """Discovery by a list that the test gives; it can be told more later."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = list(addresses)
        self._more = asyncio.Event()

    def describe(self) -> str:
        return "listed by the test"

    def add(self, address: Address) -> None:
        self._addresses.append(address)
        self._more.set()

    async def run(self, found: Callable[[Sequence[Address]], None]) -> None:
        while True:
            self._more.clear()
            found(self._addresses)
            await self._more.wait()


class Harness(ABC):
    """Starts and breaks nodes, and the links between them. `lives` has the current run of each node by name."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.detector = FAST
        self.dialing = DIALS
        self.mailbox_max_messages = MAILBOX_MAX_MESSAGES
        self.cluster = "test"
        self._all: list[Node] = []
        self.addresses: dict[str, Address] = {}

    async def start(
        self,
        name: str,
        *,
        dials: Sequence[str | Address] | None = None,
        region: str = "local",
        children: Sequence[Child] = (),
    ) -> Life:
        """Start a node that dials `dials`: names of nodes or addresses, by default every node there is."""
        targets = [other for other in self.lives if other != name] if dials is None else dials
        lives: list[Life] = []
        recorder = ActorChild(
            Recorder.name, lambda: Recorder(lambda: lives[0]), mailbox_max_messages=self.mailbox_max_messages
        )
        node = Node(
            name=name,
            cluster=self.cluster,
            transport=self.transport(name, self.addresses.get(name)),
            region=region,
            discovery=Listed([self.addresses[t] if isinstance(t, str) else t for t in targets]),
            children=[recorder, *children],
            detector=self.detector,
            dialing=self.dialing,
        )
        life = Life(node)
        lives.append(life)
        self._all.append(node)
        await node.start()
        self.lives[name] = life
        self.addresses[name] = node.address
        return life

    async def trio(self) -> tuple[Life, Life, Life]:
        """Three nodes a, b and c that know each other."""
        lives = [await self.start(name) for name in ("a", "b", "c")]
        await self.settled()
        return lives[0], lives[1], lives[2]

    async def pair(self) -> tuple[Life, Life]:
        """Two nodes a and b that know each other."""
        a, b = await self.start("a"), await self.start("b")
        await self.settled()
        return a, b

    async def settled(self) -> None:
        """Wait until every node that runs has every other as peer."""
        await eventually(
            lambda: all(
                {peer.name for peer in life.node.peers()} == set(self.lives) - {name}
                for name, life in self.lives.items()
            ),
            why=lambda: {name: life.node.members() for name, life in self.lives.items()},
        )

    async def stop(self, name: str) -> None:
        """Stop a node in order."""
        await self.lives.pop(name).node.stop()

    async def restart(self, name: str) -> Life:
        """A new run of a node that was killed or stopped, at its old address."""
        return await self.start(name)

    async def close(self) -> None:
        """Stop everything that is left."""
        for life in self.lives.values():
            life.gate.set()
        for node in self._all:
            await node.stop()

    @abstractmethod
    def transport(self, name: str, address: Address | None) -> Transport:
        """A new transport for the node of that name, at the address if it has one already."""

    @abstractmethod
    async def kill(self, name: str) -> None:
        """End a node as a crash of the process does: not one more byte leaves it."""

    @abstractmethod
    def cut(self, one: str, other: str) -> None:
        """Break all connections between the two, and every new one."""

    @abstractmethod
    def hold(self, one: str, other: str) -> None:
        """Let nothing pass between the two, and tell nobody."""

    @abstractmethod
    def heal(self, one: str, other: str) -> None:
        """Undo `cut` and `hold`."""

    def isolate(self, name: str) -> None:
        """Hold everything between the node and all others."""
        for other in self.addresses:
            if other != name:
                self.hold(name, other)


class MemoryHarness(Harness):
    """Nodes on a `MemoryNetwork`."""

    def __init__(self) -> None:
        super().__init__()
        self.network = MemoryNetwork()

    def transport(self, name: str, address: Address | None) -> Transport:
        return self.network.transport(address)

    async def kill(self, name: str) -> None:
        self.network.kill(self.addresses[name])
        await self.stop(name)

    def cut(self, one: str, other: str) -> None:
        self.network.cut(self.addresses[one], self.addresses[other])

    def hold(self, one: str, other: str) -> None:
        self.network.hold(self.addresses[one], self.addresses[other])

    def heal(self, one: str, other: str) -> None:
        self.network.heal(self.addresses[one], self.addresses[other])


class ZeroMqHarness(Harness):
    """Nodes on loopback sockets, with a proxy in each direction between any two of them."""

    def __init__(self, keys: CurveKeys | None = None) -> None:
        super().__init__()
        self.keys = keys
        self._proxies: dict[tuple[str, Address], TcpProxy] = {}

    def transport(self, name: str, address: Address | None) -> Transport:
        return _Routed(address or Address("127.0.0.1", 0), self.keys, lambda target: self._route(name, target))

    def _route(self, name: str, target: Address) -> Address:
        return Address("127.0.0.1", self.proxy(name, target).port)

    def proxy(self, dialler: str, target: str | Address) -> TcpProxy:
        """The proxy that connections from `dialler` to `target` go through."""
        key = (dialler, self.addresses[target] if isinstance(target, str) else target)
        proxy = self._proxies.get(key)
        if proxy is None:
            proxy = self._proxies[key] = TcpProxy((key[1].host, key[1].port))
        return proxy

    def _between(self, one: str, other: str) -> list[TcpProxy]:
        return [self.proxy(one, other), self.proxy(other, one)]

    async def kill(self, name: str) -> None:
        others = [other for other in self.addresses if other != name]
        for other in others:
            self.cut(name, other)
        await self.stop(name)
        for other in others:
            self.heal(name, other)

    def cut(self, one: str, other: str) -> None:
        for proxy in self._between(one, other):
            proxy.cut()

    def hold(self, one: str, other: str) -> None:
        for proxy in self._between(one, other):
            proxy.hold()

    def heal(self, one: str, other: str) -> None:
        for proxy in self._between(one, other):
            proxy.heal()

    async def close(self) -> None:
        await super().close()
        for proxy in self._proxies.values():
            await proxy.close()


class _Routed(ZeroMqTransport):
    def __init__(self, bind: Address, keys: CurveKeys | None, route: Callable[[Address], Address]) -> None:
        super().__init__(bind, keys=keys)
        self._route = route

    def dial(self, address: Address) -> ZeroMqConnection:
        return super().dial(self._route(address))
