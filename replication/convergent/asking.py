"""Asking a peer: a call, and as many more as its answer has pieces."""

from collections.abc import Callable, Sequence
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


async def ask(
    bus: Bus,
    peer: str,
    request: Sequence[object],
    *,
    timeout_s: float = ASK_TIMEOUT_S,
    came: Callable[[int], None] = lambda _bytes: None,
) -> bytes:
    """The whole answer of a peer's worker; `came` is told of how many bytes each piece was. Raises CallError (ours or
    the network's trouble) and ParcelError."""
    incoming = Incoming()
    content = incoming.take(await bus.call(peer, REPLICATION, list(request), timeout_s=timeout_s))
    came(incoming.have)
    while content is None:
        before = incoming.have
        more = ["more", incoming.ref, before]
        content = incoming.take(await bus.call(peer, REPLICATION, more, timeout_s=timeout_s))
        came(incoming.have - before)
    return content
