"""Objects that are read one after the other, some of them before it is their turn: a store answers several questions in
the time that it takes for one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Final

from replication.backup.batches import Batch
from replication.backup.names import Stretch

AHEAD_OF_SITE: Final = 4
"""So many objects of a site are read before their turn."""
AHEAD_MAX: Final = 16
"""So many of all sites. Each is in memory, unpacked: as a rule some MiB at most."""


class ReadAhead:
    """See the module. `read` gives what an object holds, or None if there is none. `close` ends what is under way."""

    def __init__(self, read: Callable[[Stretch], Awaitable[Batch | None]]) -> None:
        self._read = read
        self._begun: dict[Stretch, asyncio.Task[Batch | None]] = {}

    async def batch(self, stretch: Stretch, then: Iterable[Stretch]) -> Batch | None:
        """What an object holds. `then`: which are wanted next, as far as is known. Raises what `read` raises, for this
        object only."""
        self._begin(stretch)
        for one in islice(then, AHEAD_OF_SITE):
            if len(self._begun) > AHEAD_MAX:
                break
            self._begin(one)
        try:
            return await self._begun[stretch]
        finally:
            self._begun.pop(stretch, None)

    def forget(self, stretches: Iterable[Stretch]) -> None:
        """These are not wanted any more."""
        for one in stretches:
            task = self._begun.pop(one, None)
            if task is not None:
                self._drop(task)

    async def close(self) -> None:
        """Ends what is under way."""
        left = list(self._begun.values())
        self.forget(list(self._begun))
        if left:
            await asyncio.wait(left)

    def _begin(self, stretch: Stretch) -> None:
        if stretch not in self._begun:
            self._begun[stretch] = asyncio.ensure_future(self._read(stretch))

    def _drop(self, task: "asyncio.Task[Batch | None]") -> None:
        task.cancel()
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody asks any more what it raised
