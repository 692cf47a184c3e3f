"""Drift for who looks on: measured again and again while somebody does, and not at all while nobody does.

Every few seconds the members are asked at a glance whether anything was committed, and only then they are compared;
the larger the tables, the less often. So a cluster at rest pays a message to each peer in five seconds, and one that
nobody looks at pays nothing."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from replication.drift import DriftReport
from replication.engine.comparing import Verdict
from replication.measuring.looking import Looks
from replication.measuring.mending import ClusterRepair
from replication.measuring.meter import QUICK, THOROUGH, WITH_ROWS, Effort
from replication.measuring.questions import Repair
from replication.rounds import Rounds

log = logging.getLogger(__name__)

INTERVAL_S: Final = 5.0
INTEREST_S: Final = 120.0
"""So long after somebody looked it goes on: twice what Prometheus takes between two looks, if it takes a minute."""
COST_SHARE: Final = 10
"""Comparing takes one part in so many of the time."""
LOOK_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A report, without rows, and when it was made (Unix time)."""

    report: DriftReport
    at_s: float


class Meter(Protocol):
    """Compares nodes, as `DriftMeter` does."""

    async def look(self, *, timeout_s: float) -> Looks:
        """What all members say at a glance."""
        ...

    async def measure(self, effort: Effort) -> DriftReport:
        """What is found now."""
        ...

    async def repair(self, how: Repair) -> ClusterRepair:
        """Has every member mend its damaged rows."""
        ...

    async def exchange(self) -> None:
        """Has every member merge all that its peers have."""
        ...


class DriftWatch:
    """See the module. Belongs to one event loop; `close` ends it."""

    def __init__(
        self,
        meter: Meter,
        *,
        interval_s: float = INTERVAL_S,
        interest_s: float = INTEREST_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._meter = meter
        self._interval_s = interval_s
        self._interest_s = interest_s
        self._clock = clock
        self._interested_until_s = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._marks: object = None
        self._repairing = asyncio.Lock()
        self._plain = Rounds(self._measure_thoroughly, name="drift")
        self._with_rows = Rounds(partial(self._meter.measure, WITH_ROWS), name="drift with rows")
        self.latest: Measured | None = None
        """What was found last; None if nothing was measured yet."""

    def looked(self) -> None:
        """Somebody looks on, now. Returns at once."""
        self._interested_until_s = asyncio.get_running_loop().time() + self._interest_s
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="drift watch")

    async def measure(self, *, rows: bool = False) -> DriftReport:
        """What is found from now on, however long that takes; with the rows that differ, if wanted."""
        return await (self._with_rows.result() if rows else self._plain.result())

    async def repair(self, how: Repair) -> tuple[ClusterRepair, DriftReport]:
        """Has every member mend its damaged rows: what became of them, and what is found afterwards.

        If nodes differ then although nothing is damaged, they exchange all that they have, which is much.
        """
        async with self._repairing:
            repaired = await self._meter.repair(how)
            report = await self.measure()
            if report.verdict is not Verdict.DRIFT or repaired.left:
                return repaired, report
            log.warning("nodes differ and no row is damaged: they exchange all that they have (%s)", report.reason)
            await self._meter.exchange()
        return repaired, await self.measure()

    async def close(self) -> None:
        """Ends what is under way; who waits for it is cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._plain.close()
        await self._with_rows.close()

    async def _measure_thoroughly(self) -> DriftReport:
        report = await self._meter.measure(THOROUGH)
        self.latest = Measured(report=report, at_s=self._clock())
        return report

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while (began_s := loop.time()) < self._interested_until_s:
            try:
                await self._look()
            except Exception:
                log.exception("nodes could not be compared; it is tried again")
            took_s = loop.time() - began_s
            await asyncio.sleep(max(self._interval_s, COST_SHARE * took_s))

    async def _look(self) -> None:
        # Before: what is committed while they are compared is looked at the next time.
        marks = (await self._meter.look(timeout_s=LOOK_TIMEOUT_S)).marks
        if self.latest is None or marks != self._marks:
            self.latest = Measured(report=await self._meter.measure(QUICK), at_s=self._clock())
            self._marks = marks
