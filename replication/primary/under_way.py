"""Writes that were begun on the primary and are not acknowledged yet: a handover waits for them."""

import asyncio
import contextlib
from collections.abc import Iterator


class UnderWay:
    """`one` is around each write, `those_of_now` waits for them."""

    def __init__(self) -> None:
        self._begun: set[asyncio.Future[None]] = set()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """A write, up to its acknowledgement."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._begun.add(over)
        try:
            yield
        finally:
            self._begun.discard(over)
            over.set_result(None)

    async def those_of_now(self, *, timeout_s: float) -> None:
        """Returns once all that are under way now are over, or the time is."""
        if self._begun:
            await asyncio.wait(list(self._begun), timeout=timeout_s)
