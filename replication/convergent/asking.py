"""Asking a peer: a call, and as many more as its answer has pieces."""

from collections.abc import Sequence
from typing import Protocol

from replication.convergent.parcels import Incoming

REPLICATION = "Replication"
"""The actor's name on every node."""

ASK_TIMEOUT_S = 5.0
"""For each piece. A peer whose disk is slower than that is asked again later."""


class Bus(Protocol):
    """What replication needs of a node of the cluster."""

    def cast(self, node: str, actor: str, message: object) -> None:
        """Send and forget."""
        ...

    async def call(self, node: str, actor: str, message: object, *, timeout_s: float) -> object:
        """Ask, and wait for the answer. Raises a CallError."""
        ...


async def ask(bus: Bus, peer: str, request: Sequence[object], *, timeout_s: float = ASK_TIMEOUT_S) -> bytes:
    """The whole answer of a peer's worker. Raises CallError (ours or the network's trouble) and ParcelError."""
    incoming = Incoming()
    content = incoming.take(await bus.call(peer, REPLICATION, list(request), timeout_s=timeout_s))
    while content is None:
        more = ["more", incoming.ref, incoming.have]
        content = incoming.take(await bus.call(peer, REPLICATION, more, timeout_s=timeout_s))
    return content
