"""Rows that cannot be shown here came from nodes with another schema: who has migrated has values for them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from replication.convergent.schemas import PeerSchemas, Schemas

FIRST_PAUSE_S: Final = 20.0
LAST_PAUSE_S: Final = 3_600.0
"""At least so far apart are all peers asked for all they have: they may have held the same rows when they were asked.
Longer each time, while it does not help."""


class HeldRows:
    """Has the state of peers fetched, for rows that are held. `mark`: which rows those are, as something to compare, or
    None; `want`: has a peer's state fetched."""

    def __init__(
        self,
        peers: PeerSchemas,
        *,
        mark: Callable[[], Awaitable[object]],
        want: Callable[[str], asyncio.Future[bool]],
    ) -> None:
        self._peers = peers
        self._mark = mark
        self._want = want
        self._marked: object = None
        self._look_at_s = 0.0
        self._again_at_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._fetching: list[asyncio.Future[bool]] = []

    async def look(self, own: Schemas) -> None:
        """To be called each second."""
        agreed, new = self._peers.agreed(own)
        now_s = asyncio.get_running_loop().time()
        if not agreed or (not new and now_s < self._look_at_s):
            return
        mark = await self._mark()
        if mark != self._marked or now_s >= self._again_at_s:
            whom = agreed
            self._pause_s = FIRST_PAUSE_S if mark != self._marked else min(2 * self._pause_s, LAST_PAUSE_S)
            self._again_at_s = now_s + self._pause_s
        else:
            whom = new
        self._look_at_s = now_s + FIRST_PAUSE_S
        self._marked = mark
        if mark is not None:
            self._fetching += [self._want(peer) for peer in whom]
        self._fetching = [one for one in self._fetching if not one.done()]
