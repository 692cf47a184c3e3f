"""Which addresses to dial, and when. Pure; times are seconds.

Discovery only ever adds addresses. An address is dialled until it turns out to be this node itself or another address
of a node that is connected already; then it rests, and is looked at again later, since addresses change hands. Failed
attempts are repeated with growing pauses, for ever: a list of peers names each of them once. The book has an upper
bound, so that no answer of a name server can fill the memory; where it is full, the address that leads nowhere and was
mentioned longest ago makes room.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from cluster.address import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class DialSettings:
    """Pauses between attempts."""

    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0
    stale_after_s: float = (
        600.0  # an address that nobody mentioned and that led nowhere for so long is tried less often
    )
    stale_pause_s: float = 60.0
    rest_s: float = 30.0  # before an address that is ourselves or an alias is tried again
    addresses_max: int = 1024
    attempts_max: int = 32  # at once; each takes a few open files until it has led somewhere


@dataclass(slots=True)
class _Entry:
    mentioned_s: float
    next_s: float
    pause_s: float
    dialling: bool = False
    resting: bool = False  # it led to ourselves or was an alias
    node: str | None = None  # whom the connection that is open leads to


class DialBook:
    """All known addresses and when to dial each."""

    def __init__(self, settings: DialSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self._entries: dict[Address, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, addresses: Iterable[Address], now_s: float) -> None:
        """Somebody mentioned these. New ones are due at once."""
        for address in addresses:
            if address.is_wildcard:
                continue
            entry = self._entries.get(address)
            if entry is not None:
                entry.mentioned_s = now_s
            elif len(self._entries) < self._settings.addresses_max or self._make_room():
                self._entries[address] = _Entry(now_s, now_s, self._settings.first_pause_s)

    def _make_room(self) -> bool:
        idle = {address: entry for address, entry in self._entries.items() if not entry.dialling}
        if not idle:
            return False
        del self._entries[min(idle, key=lambda address: idle[address].mentioned_s)]
        return True

    def due(self, now_s: float) -> list[Address]:
        """The addresses to dial now, those first that have waited longest; they count as being dialled from here on."""
        dialling = sum(entry.dialling and entry.node is None for entry in self._entries.values())
        waiting = [(address, entry) for address, entry in self._entries.items() if not entry.dialling]
        due = sorted((pair for pair in waiting if pair[1].next_s <= now_s), key=lambda pair: pair[1].next_s)
        due = due[: max(0, self._settings.attempts_max - dialling)]
        for _, entry in due:
            entry.dialling, entry.resting = True, False
        return [address for address, _ in due]

    def connected(self, address: Address, node: str) -> None:
        """The attempt led to `node` and its connection stays open."""
        entry = self._entries.get(address)
        if entry is not None:
            entry.node = node
            entry.pause_s = self._settings.first_pause_s

    def rest(self, address: Address, now_s: float) -> None:
        """The attempt led to ourselves or to a node that is connected already; its connection was closed."""
        entry = self._entries.get(address)
        if entry is not None:
            entry.dialling, entry.resting = False, True
            entry.node = None
            entry.next_s = now_s + self._settings.rest_s

    def lost(self, address: Address, now_s: float) -> None:
        """The attempt failed, or its connection ended."""
        entry = self._entries.get(address)
        if entry is None:
            return
        entry.dialling = False
        if entry.node is not None:
            # It led somewhere until now, which says more than a mention.
            entry.mentioned_s = now_s
            entry.node = None
        # A random part keeps nodes that lost each other at one moment from dialling at one moment for ever.
        entry.next_s = now_s + entry.pause_s * self._random.uniform(0.5, 1.0)
        stale = now_s - entry.mentioned_s > self._settings.stale_after_s
        longest_s = self._settings.stale_pause_s if stale else self._settings.longest_pause_s
        entry.pause_s = min(entry.pause_s * 2, longest_s)

    def hurry(self, address: Address, now_s: float) -> None:
        """A node just dialled us from there: dial back at once."""
        self.add([address], now_s)
        entry = self._entries.get(address)
        if entry is not None and not entry.dialling:
            entry.next_s = -math.inf  # before all that wait: somebody is there

    def connecting(self) -> list[Address]:
        """Addresses that lead to no node so far, in the order they were first mentioned."""
        return [address for address, entry in self._entries.items() if entry.node is None and not entry.resting]
