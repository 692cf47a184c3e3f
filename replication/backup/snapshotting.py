"""When this node makes a snapshot, and which one is the newest that it knows of. Changesets are uploaded meanwhile."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import Final, Protocol

from cluster.tasks import ended
from replication.backup.bucket import Bucket, manifest, newest_snapshot, oldest_snapshot
from replication.backup.deciding import includes, lacks, why_snapshot
from replication.backup.manifests import Manifest
from replication.backup.status import Tally
from replication.backup.taking import Snapshots, Taken
from replication.backup.telling import Uploaded
from replication.convergent.store import View
from replication.engine.sites import stamps_of
from replication.engine.stamps import Site

log = logging.getLogger(__name__)

LOOK_AGAIN_S: Final = 5.0
"""How often is looked for the first snapshot, where another node is to make it."""
LOST_S: Final = 60.0
"""What a node lacks for so long of the newest snapshot, it does not get from its peers: no later one can be made."""


class Here(Protocol):
    """What is needed of this node's replication."""

    def view(self) -> View:
        """How the database is now."""
        ...

    def is_ahead(self) -> bool:
        """Whether what this node stamped far ahead is going to be stamped again."""
        ...

    async def open_copy(self) -> sqlite3.Connection:
        """A connection that sees a moment at which the log was empty."""
        ...


class Snapshotting:
    """See the module."""

    def __init__(
        self,
        here: Here,
        bucket: Bucket,
        snapshots: Snapshots,
        uploaded: Uploaded,
        tally: Tally,
        *,
        interval_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self.newest: Manifest | None = None
        self.doing = ""
        """What goes on, for people."""
        self.problem = ""
        """Why none can be made, for people."""
        self.beyond_journal: set[Site] = set()
        """Sites of which the journal here has lost what is not in the bucket."""
        self._here = here
        self._bucket = bucket
        self._snapshots = snapshots
        self._uploaded = uploaded
        self._tally = tally
        self._interval_s = interval_s
        self._now_ms = now_ms
        self._known_since_s = 0.0
        """When this node heard of the newest one."""
        self._look_not_before_s = 0.0
        self._lacks_since_s: float | None = None
        self._taking: asyncio.Task[None] | None = None

    @property
    def number(self) -> int:
        """Of the newest one; 0 if none is complete."""
        return 0 if self.newest is None else self.newest.number

    async def list(self) -> None:
        """Asks the bucket which there are. Raises BackupError.

        What the oldest one has is in no object with changesets. What later ones have is there as well, so that all
        moments after the oldest one can be restored."""
        oldest = await oldest_snapshot(self._bucket)
        if oldest is not None:
            self._uploaded.note(stamps_of(oldest.vector))
            self._take_in(await newest_snapshot(self._bucket))

    async def hear(self) -> None:
        """Takes in what peers spoke of. Raises BackupError."""
        if self._uploaded.newest_snapshot <= self.number:
            return
        if self.newest is None:
            await self.list()
        else:
            self._take_in(await manifest(self._bucket, self._uploaded.newest_snapshot))

    async def see_to_the_first(self, *, is_ours: bool) -> None:
        """Where another node is to make it, is looked for it now and then. Raises what kept it from being made."""
        now_s = _now_s()
        if is_ours:
            await self._go_on("there is none")
        elif now_s >= self._look_not_before_s:
            self._look_not_before_s = now_s + LOOK_AGAIN_S
            await self.list()

    async def see_to_it(self, *, takes_care: bool) -> None:
        """Begins one if one is due, and this node takes care. Raises what kept the last one from being made."""
        assert self.newest is not None, "there is a first one"
        view = self._here.view()
        why = why_snapshot(
            self.newest,
            vector=view.vector,
            closed=view.closed,
            schemas=view.schemas,
            beyond_journal=bool(self.beyond_journal),
            is_due=self._age_s(self.newest) >= self._interval_s,
        )
        self._see_what_is_lost(self.newest, view if why else None)
        if self._taking is not None or (why and (takes_care or self.beyond_journal)):
            await self._go_on(why)

    async def stop(self) -> None:
        """Ends what is under way. The copy stays, and the next run goes on with it."""
        if self._taking is not None:
            await ended({self._taking})

    def abandon(self) -> None:
        """Ends it at once, as a crash would."""
        if self._taking is not None:
            self._taking.cancel()

    async def close(self) -> None:
        """Ends the thread."""
        await self._snapshots.close()

    def _age_s(self, newest: Manifest) -> float:
        """By the clock of its node and by this one's own: one that was taken with a wrong clock ages, too."""
        return max((self._now_ms() - newest.taken_ms) / 1000, _now_s() - self._known_since_s)

    def _take_in(self, found: Manifest | None) -> None:
        if found is not None and found.number > self.number:
            self.newest = found
            self._known_since_s = _now_s()

    async def _go_on(self, why: str) -> None:
        if self._taking is None and self._may_be_copied():
            self._taking = asyncio.create_task(self._take(why), name="snapshot for the backup")
        elif self._taking is not None and self._taking.done():
            taking, self._taking = self._taking, None
            self.doing = ""
            await taking

    async def _take(self, why: str) -> None:
        taken = await self._snapshots.begun(self._now_ms())
        if taken is None or not self._is_later(taken):
            log.info("a snapshot is made for the backup: %s", why)
            self.doing = "copying the database for a snapshot"
            taken = await self._snapshots.copy(await self._here.open_copy(), self._now_ms())
        await self._snapshots.upload(taken, self._is_taking)
        # Of another one that came meanwhile it may lack something; and of one that took long, pieces may be gone.
        if not self._may_follow(taken) or await self._snapshots.is_old():
            log.info("the copy is not made a snapshot: there is a later one, or it took too long")
        elif not await self._snapshots.close_as(taken, self.number + 1):
            log.info("another snapshot was complete before this one")
        if self.newest is None:
            await self.list()
        else:
            self._take_in(await newest_snapshot(self._bucket))
        if self.newest is not None and self.newest.snapshot == taken.snapshot:
            self._tally.snapshots += 1
            log.info("the backup has snapshot %d, of %.1f MB", self.number, self.newest.size / 1e6)
        await self._snapshots.forget()
        self.beyond_journal.clear()
        self._uploaded.tell()

    def _may_follow(self, taken: Manifest) -> bool:
        """Whether a copy has all that the newest snapshot has. Its clock may be before that one's, which a node made
        while it was far ahead, and alone."""
        return includes(stamps_of(taken.vector), taken.closed.keys(), self.newest)

    def _is_later(self, taken: Manifest) -> bool:
        """Whether a copy of a former run has more than the newest snapshot, which it may have become."""
        return (self.newest is None or taken.clock > self.newest.clock) and self._may_follow(taken)

    def _see_what_is_lost(self, newest: Manifest, wanted: View | None) -> None:
        """Of a snapshot that is to be made, if one is."""
        lost = [] if wanted is None else lacks(stamps_of(wanted.vector), wanted.closed.keys(), newest)
        now_s = _now_s()
        self._lacks_since_s = (self._lacks_since_s or now_s) if lost else None
        if self._lacks_since_s is None or now_s - self._lacks_since_s < LOST_S:
            self.problem = ""
        elif not self.problem:
            self.problem = (
                f"no snapshot can be made after snapshot {newest.number}: it has changes of site {lost[0]} that came to"
                " no node here, and were lost with a disk, it seems; restore the backup into a file to look at them, "
                "and name another place in [backup] url"
            )
            log.warning("the backup: %s", self.problem)

    def _is_taking(self, taken: Taken) -> None:
        self.doing = f"uploading a snapshot: {taken.uploaded / 1e6:.1f} of {taken.size / 1e6:.1f} MB"

    def _may_be_copied(self) -> bool:
        """Not while rows are about that do not stay, nor while something is missing that the last snapshot had."""
        view = self._here.view()
        if view.seen or view.parts or view.is_resetting or view.tail:
            return False
        if view.site in view.closed or self._here.is_ahead():
            return False
        return includes(stamps_of(view.vector), view.closed.keys(), self.newest)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
