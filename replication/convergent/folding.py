"""Folding: when somebody committed here, what was written becomes a changeset, is made durable, and is cast."""

import asyncio
from collections.abc import Mapping
from typing import Final

from replication.convergent.engine_work import EngineWork
from replication.convergent.noticing import Watch
from replication.convergent.own_clock import OwnClock
from replication.convergent.telling import HEADS_INTERVAL_S
from replication.engine.folding import NOTHING_OWED
from replication.engine.stamps import Site, Stamp

FOLD_INTERVAL_S: Final = 0.004
"""Between two folds under load. Folding at once always costs the application more than half of its write rate."""
BULK_ROWS: Final = 500
"""After a fold of so many rows, twice the time that it took passes before the next: rows of several transactions that
are folded, sent and merged together touch many pages only once."""
BULK_INTERVAL_MAX_S: Final = 0.1


class Folding:
    """See the module. `noticed` is set when somebody may have committed."""

    def __init__(self, work: EngineWork, clock: OwnClock, watch: Watch) -> None:
        self.noticed = asyncio.Event()
        self._work = work
        self._clock = clock
        self._watch = watch
        self._owed: dict[Site, Stamp] = {}

    def owe(self, stamps: Mapping[Site, Stamp]) -> None:
        """Somebody was told these stamps as the position of his write: a fold is owed that reaches that of the site
        under which this database is written, if it is still the same then."""
        for site, stamp in stamps.items():
            self._owed[site] = max(stamp, self._owed.get(site, NOTHING_OWED))
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
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        if rows := await self.fold():
            took_s = loop.time() - began_s
            await asyncio.sleep(interval_s(rows, took_s))

    async def fold(self) -> int:
        """Folds if there is anything to fold. Gives how many rows were. Raises sqlite3.Error, OSError."""
        owed, self._owed = self._owed, {}
        try:
            done = await self._work.run(lambda store: store.fold_news(owed), rests_on_state=False)
        except BaseException:
            self.owe(owed)
            raise
        if done is None:
            return 0
        self._work.take(done)
        return done.rows


def interval_s(rows: int, took_s: float) -> float:
    """How long nothing is folded after a fold of so many rows, which took so long."""
    if rows < BULK_ROWS:
        return FOLD_INTERVAL_S
    return max(FOLD_INTERVAL_S, min(BULK_INTERVAL_MAX_S, 2 * took_s))
