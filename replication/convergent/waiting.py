"""Readers that wait until a position is reached here."""

import asyncio
from collections.abc import Callable, Mapping

from replication.engine.stamps import Site, Stamp
from replication.errors import PositionTimeout
from replication.positions import Position


class PositionWaiters:
    """Who waits for which position. `covers` says whether one is reached now; `moved` is called when more is."""

    def __init__(self, reached: Callable[[Position], bool]) -> None:
        self._reached = reached
        self._waiting: dict[asyncio.Future[None], Position] = {}

    async def wait_for(
        self, position: Position, *, timeout_s: float, behind: Callable[[], Mapping[Site, Stamp]]
    ) -> None:
        """Returns once the position is reached. Raises PositionTimeout, which says what is missing.

        The waiter is entered before the position is looked at, so that no news between the two is missed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = position
        try:
            if self._reached(position):
                return
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            have = behind()
            missing = {site: stamp for site, stamp in position.stamps.items() if have.get(site, -1) < stamp}
            raise PositionTimeout(str(Position(missing)), timeout_s) from None
        finally:
            del self._waiting[future]

    def moved(self) -> None:
        """More is merged than before."""
        for future, position in list(self._waiting.items()):
            if not future.done() and self._reached(position):
                future.set_result(None)
