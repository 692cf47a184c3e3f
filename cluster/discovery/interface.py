"""What every discovery method is: something that runs and now and then names addresses where peers may be."""

from collections.abc import Callable, Sequence
from typing import Protocol

from cluster.address import Address

type Found = Callable[[Sequence[Address]], None]
"""Takes candidates, on the event loop. It must be cheap, and must not mind what it has heard before."""


class Discovery(Protocol):
    """Finds addresses to dial. It only ever *adds*: that a peer is gone is not for discovery to say.

    What it finds are candidates: they may be dead, be this node itself, or be one node under several addresses. Who is
    there is known from the `HELLO` that follows.
    """

    def describe(self) -> str:
        """One line for the log: by which method whom it asks."""
        ...

    async def run(self, found: Found) -> None:
        """Search until cancelled, calling `found` with one or more candidates whenever there are some.

        An empty or failed answer is no news: it is logged with its reason, at a bounded rate, and the search goes on.
        Nothing but the cancellation comes out of here; it is heeded within half a second.
        """
        ...
