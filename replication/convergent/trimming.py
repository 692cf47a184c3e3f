"""Trimming: what the journal need not keep, and tombstones that nobody needs any more."""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from replication.convergent.copies import Copies
from replication.convergent.engine_work import EngineWork
from replication.convergent.members import Members
from replication.convergent.messages import Vector
from replication.convergent.own_clock import OwnClock
from replication.convergent.serving import Serving
from replication.convergent.status import Tally
from replication.convergent.store import Store
from replication.engine.stamps import Site, Stamp
from replication.engine.trimming import trim_journal, trim_tombstones


def trim(
    store: Store,
    pinned: Mapping[Site, Stamp] | None,
    members: Sequence[Vector] | None,
    settled: Collection[Site] = (),
    *,
    clock_ms: int,
) -> tuple[int, int]:
    """Trims the journal and, with what all members have, tombstones: how many of each. In the engine's thread.

    `settled`: closed sites of which all members merged the same branches. `clock_ms`: what the slowest of all members'
    clocks shows. By that a tombstone has to be old, so that who still has it knows that others may have trimmed it."""
    settings = store.settings
    now_ms = settings.now_ms()
    changesets = trim_journal(
        store.connection,
        now_ms=now_ms,
        max_age_ms=settings.journal_max_age_ms,
        max_bytes=settings.journal_max_bytes,
        pinned=pinned,
    )
    tombstones = 0
    if members is not None and pinned is None:  # no delete may be in a journal whose tombstone is gone
        tombstones = trim_tombstones(
            store.connection,
            members=members,
            settled=settled,
            min_age_ms=settings.journal_max_age_ms,
            now_ms=min(now_ms, clock_ms),
        )
    return changesets, tombstones


class Trimming:
    """Trims now and then. `members` and `clock` say what the members have."""

    def __init__(
        self,
        work: EngineWork,
        members: Members,
        clock: OwnClock,
        serving: Serving,
        copies: Copies | None,
        *,
        tally: Tally,
        interval_s: float,
    ) -> None:
        self._work = work
        self._members = members
        self._clock = clock
        self._serving = serving
        self._copies = copies
        self._tally = tally
        self._interval_s = interval_s

    async def step(self) -> None:
        """Trims when the time has come."""
        await asyncio.sleep(self._interval_s)
        await self.trim()

    async def trim(self) -> None:
        """Trims the journal; and tombstones, if each member has said what it has. Raises sqlite3.Error, OSError."""
        if self._copies is not None:
            await self._copies.forget_old()
        pinned = self._serving.pinned()
        view = self._work.view()
        members, settled = self._members.vectors(view), self._members.settled_sites(view)
        clock_ms = self._members.earliest_clock_ms(self._clock.now_ms())
        changesets, tombstones = await self._work.run(
            lambda store: trim(store, pinned, members, settled, clock_ms=clock_ms), rests_on_state=True
        )
        self._tally.trimmed_changesets += changesets
        self._tally.trimmed_tombstones += tombstones
