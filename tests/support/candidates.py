"""A discovery method at work in a test: started, listened to, and always stopped."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from cluster.address import Address
from cluster.discovery import Discovery

DEADLINE_S = 10.0


class Candidates:
    """All that `found` was called with, in order."""

    def __init__(self) -> None:
        self.calls: list[Sequence[Address]] = []
        self._changed = asyncio.Event()

    def found(self, addresses: Sequence[Address]) -> None:
        self.calls.append(addresses)
        self._changed.set()

    @property
    def all(self) -> set[Address]:
        return {address for call in self.calls for address in call}

    async def times(self, count: int) -> None:
        """Wait for so many calls in all; TimeoutError after ten seconds."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.calls) < count:
                self._changed.clear()
                await self._changed.wait()

    async def includes(self, *addresses: Address) -> None:
        """Wait until each of these was named; TimeoutError after ten seconds."""
        async with asyncio.timeout(DEADLINE_S):
            while not set(addresses) <= self.all:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def running(discovery: Discovery) -> AsyncIterator[Candidates]:
    """Run it inside the block; what it raises, other than its cancellation, comes out at the end."""
    candidates = Candidates()
    task = asyncio.create_task(discovery.run(candidates.found))
    try:
        yield candidates
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
