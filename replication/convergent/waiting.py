"""Who waits for something to be so here: readers that a position is reached, for one."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from replication.engine.stamps import Site, Stamp
from replication.errors import PositionTimeout
from replication.positions import Position


class PositionWaiters:
    """Who waits for what. `reached` says whether a position is reached now; `moved` is called when more is merged."""

    def __init__(self, reached: Callable[[Position], bool]) -> None:
        self._reached = reached
        self._waiting: dict[asyncio.Future[object], Callable[[], object]] = {}

    async def wait_until[T](self, look: Callable[[], T | None], *, timeout_s: float) -> T:
        """The first that `look` gives but None. It is asked now and whenever more is merged. Raises TimeoutError.

        The waiter is entered before it looks, so that no news between the two is missed."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[future] = look
        try:
            found = look()
            if found is not None:
                return found
            async with asyncio.timeout(timeout_s):
                seen: T = await future
                return seen
        finally:
            del self._waiting[future]

    async def wait_for(
        self, position: Position, *, timeout_s: float, behind: Callable[[], Mapping[Site, Stamp]]
    ) -> None:
        """Returns once the position is reached. Raises PositionTimeout, which says what is missing."""
        try:
            await self.wait_until(lambda: self._reached(position) or None, timeout_s=timeout_s)
        except TimeoutError:
            have = behind()
            missing = {site: stamp for site, stamp in position.stamps.items() if have.get(site, -1) < stamp}
            raise PositionTimeout(str(Position(missing)), timeout_s) from None

    def moved(self) -> None:
        """More is merged than before."""
        for future, look in list(self._waiting.items()):
            if not future.done() and (found := look()) is not None:
                future.set_result(found)
