"""Bad weather for the network in memory, from a seed, and the same for what the bus delivers.

There are two levels. Below the bus, on its links, a frame takes its time, and may be lost, come twice, or be overtaken;
the bus sees the hole in the sequence and gives the session up, so that its users see peers that go down and come up.
Above the bus nothing of that can happen to a cast, for a session is gapless. But a worker must not depend on how the
casts come, and so `ShakyCasts` makes them come as on no bus of ours: lost alone, twice, or seconds late.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from cluster.address import Address
from cluster.membership import Member, Peer
from cluster.memory import Passage
from cluster.node import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Climate:
    """How bad it can get. Shares are of frames, or casts, from 0 to 1."""

    latency_max_s: float = 0.05
    """Each direction of each link has a latency of its own, between nothing and this; each frame adds up to as much."""
    frames_lost: float = 0.0
    frames_repeated: float = 0.0
    frames_overtaken: float = 0.0
    casts_lost: float = 0.0
    casts_repeated: float = 0.0
    casts_late: float = 0.0
    late_max_s: float = 3.0


type Note = Callable[[str], None]
"""Called with the name of what happened."""


class SeededWeather:
    """The `weather` of a `MemoryNetwork`. `is_calm` ends everything but the latencies."""

    def __init__(self, climate: Climate, random: Random, note: Note) -> None:
        self.is_calm = False
        self._climate = climate
        self._random = random
        self._note = note
        self._latency_s: dict[tuple[Address, Address], float] = {}
        self._slow: dict[Address, Passage] = {}

    def slow_down(self, address: Address, *, delay_s: float, spacing_s: float) -> None:
        """Whatever comes from or goes to this endpoint takes so much longer, one frame after another."""
        self._slow[address] = Passage(delay_s=delay_s, spacing_s=spacing_s)

    def speed_up(self, address: Address) -> None:
        """Ends that."""
        self._slow.pop(address, None)

    def __call__(self, source: Address, target: Address) -> Passage:
        """What becomes of one frame."""
        random, climate = self._random, self._climate
        latency_s = self._latency_s.get((source, target))
        if latency_s is None:
            latency_s = self._latency_s[source, target] = random.random() ** 3 * climate.latency_max_s
        delay_s, spacing_s = latency_s * (1 + random.random()), 0.0
        slow = self._slow.get(source) or self._slow.get(target)
        if slow is not None:
            delay_s, spacing_s = delay_s + slow.delay_s, slow.spacing_s
        if not self.is_calm:
            roll = random.random()
            if roll < climate.frames_lost:
                self._note("frame lost")
                return Passage(copies=0)
            roll -= climate.frames_lost
            if roll < climate.frames_repeated:
                self._note("frame repeated")
                return Passage(delay_s=delay_s, spacing_s=spacing_s, copies=2)
            roll -= climate.frames_repeated
            if roll < climate.frames_overtaken:
                self._note("frame overtaken")
                late_s = delay_s + climate.latency_max_s * 3 * random.random()
                return Passage(delay_s=late_s, spacing_s=spacing_s, is_overtaken=True)
        return Passage(delay_s=delay_s, spacing_s=spacing_s)


class ShakyCasts:
    """A node's way to its peers, on which casts come as they should not. Calls and news of peers are the node's."""

    def __init__(self, node: Node, weather: SeededWeather, climate: Climate, random: Random, note: Note) -> None:
        self._node = node
        self._weather = weather
        self._climate = climate
        self._random = random
        self._note = note

    @property
    def name(self) -> str:
        """The node's."""
        return self._node.name

    def peers(self) -> Sequence[Peer]:
        """The peers that are up."""
        return self._node.peers()

    def members(self) -> Sequence[Member]:
        """Everybody who is known."""
        return self._node.members()

    async def call(self, node: str, actor: str, message: object, *, timeout_s: float) -> object:
        """See `Node.call`."""
        return await self._node.call(node, actor, message, timeout_s=timeout_s)

    def cast(self, node: str, actor: str, message: object) -> None:
        """Send and forget; perhaps never, twice, or later."""
        climate, roll = self._climate, self._random.random()
        if self._weather.is_calm:
            self._node.cast(node, actor, message)
        elif roll < climate.casts_lost:
            self._note("cast lost")
        elif (roll := roll - climate.casts_lost) < climate.casts_repeated:
            self._note("cast repeated")
            self._node.cast(node, actor, message)
            self._later(node, actor, message)
        elif roll - climate.casts_repeated < climate.casts_late:
            self._note("cast late")
            self._later(node, actor, message)
        else:
            self._node.cast(node, actor, message)

    def _later(self, node: str, actor: str, message: object) -> None:
        late_s = self._random.random() ** 2 * self._climate.late_max_s
        asyncio.get_running_loop().call_later(late_s, self._node.cast, node, actor, message)
