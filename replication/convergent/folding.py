"""Folding: when somebody committed here, what was written becomes a changeset, is made durable, and is cast."""

import asyncio
from typing import Final

from replication.convergent.engine_work import EngineWork
from replication.convergent.noticing import Watch
from replication.convergent.own_clock import OwnClock
from replication.convergent.telling import HEADS_INTERVAL_S
from replication.engine.folding import NOTHING_OWED
from replication.engine.stamps import Stamp

FOLD_INTERVAL_S: Final = 0.004
"""Between two folds under load. Folding at once always costs the application more than half of its write rate."""


class Folding:
    """See the module. `noticed` is set when somebody may have committed."""

    def __init__(self, work: EngineWork, clock: OwnClock, watch: Watch) -> None:
        self.noticed = asyncio.Event()
        self._work = work
        self._clock = clock
        self._watch = watch
        self._owed = NOTHING_OWED

    def owe(self, stamp: Stamp) -> None:
        """Somebody was told this stamp as the position of his write: a fold is owed that reaches it."""
        self._owed = max(self._owed, stamp)
        self.noticed.set()

    async def watch(self) -> None:
        """Notices what is committed, without end."""
        await self._watch(self.noticed.set)

    async def step(self) -> None:
        """Waits until somebody may have committed, and folds. Not while this node's clock is off."""
        await self.noticed.wait()
        self.noticed.clear()
        if self._clock.off_ms():
            self.noticed.set()
            await asyncio.sleep(HEADS_INTERVAL_S)
            return
        if await self.fold():
            await asyncio.sleep(FOLD_INTERVAL_S)

    async def fold(self) -> bool:
        """Folds if there is anything to fold. True if a changeset was made. Raises sqlite3.Error, OSError."""
        owed, self._owed = self._owed, NOTHING_OWED
        try:
            done = await self._work.run(lambda store: store.fold_news(owed), rests_on_state=False)
        except BaseException:
            self._owed = max(owed, self._owed)
            raise
        if done is None:
            return False
        self._work.take(done)
        return bool(done.made)
