"""A node's backup at work: one loop that uploads what the bucket lacks, as soon as the interval is over.

What is in the bucket is asked of the bucket once, at the start; after that nodes tell each other. So an idle cluster
asks for nothing. Whatever the store does, replication and the application go on: the loop says what keeps it, waits a
little longer each time, and tries again."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping
from typing import Final, NoReturn, Protocol

from cluster.seldom import SeldomLog
from cluster.tasks import ended
from replication.backup import batches, snapshotting
from replication.backup.archive import BucketArchive
from replication.backup.batches import BadBatch, Batch, batch_of
from replication.backup.bucket import Bucket, batch_at, claim
from replication.backup.chains import ends
from replication.backup.deciding import (
    ORPHAN_S,
    frontier,
    has_closed,
    is_related,
    orphans,
    safe,
    takes_care,
    to_upload,
)
from replication.backup.errors import BackupDamaged, BackupError, BackupRefused, BackupUnreachable
from replication.backup.keeping import Keeper
from replication.backup.names import CHANGESETS, Stretch, of_stretch, stretches_in
from replication.backup.reading import Lacking, first_lacking, lacking, last_upto
from replication.backup.saying import Said
from replication.backup.snapshotting import Snapshotting
from replication.backup.status import BackupStatus, SiteStatus, Tally
from replication.backup.taking import Snapshots
from replication.backup.telling import Bus, Uploaded
from replication.convergent.archive import Archive
from replication.convergent.store import Done, Store, View
from replication.engine.received import Malformed
from replication.engine.sites import stamps_of
from replication.engine.stamps import Site, Stamp, first_after, ms_of
from replication.engine.trimming import JournalLimits, bytes_since
from replication.errors import ReplicationError
from replication.positions import Position

log = logging.getLogger(__name__)

LONGEST_PAUSE_S: Final = 30.0
UNRELATED_S: Final = 10.0
GATHER_S: Final = 0.05
"""So long others may join who waits until what he wrote is in the bucket. A small object takes a store as long."""
WEIGH_S: Final = 10.0
WEIGH_SHARE: Final = 0.05
"""How often is looked how much of the journal the bucket lacks; and how much of the time that may take."""


class Here(snapshotting.Here, Protocol):
    """What is needed of this node's replication."""

    archive: Archive | None
    """Where it reads what no peer's journal has any more."""

    def durable_view(self) -> View:
        """How it would be at least after a power cut."""
        ...

    @property
    def journal_limits(self) -> JournalLimits:
        """What is left in the journal."""
        ...

    async def joined(self) -> None:
        """Returns once the node has heard what its peers know of it."""
        ...

    async def work(self, step: Callable[[Store], Done]) -> Done:
        """Has the engine do something."""
        ...

    async def read[T](self, question: Callable[[sqlite3.Connection], T]) -> T:
        """What the function finds in the database, on a connection that only reads."""
        ...


class Backup:
    """See the module. `start` once the node runs, `stop` before it stops, `close` at last."""

    def __init__(
        self,
        here: Here,
        bucket: Bucket,
        snapshots: Snapshots,
        keeper: Callable[[Tally], Keeper],
        *,
        cluster: str,
        interval_s: float,
        snapshot_interval_s: float,
        now_ms: Callable[[], int],
    ) -> None:
        self.tally = Tally()
        self._here = here
        self._bucket = bucket
        self._cluster = cluster
        self._interval_s = interval_s
        self._now_ms = now_ms
        self._bus: Bus | None = None
        self._uploaded = Uploaded(self._said)
        self._snapshots = Snapshotting(
            here, bucket, snapshots, self._uploaded, self.tally, interval_s=snapshot_interval_s, now_ms=now_ms
        )
        self._keeper = keeper(self.tally)
        self._restorable: dict[Site, Stamp] = {}
        self._waiting: dict[asyncio.Future[None], Position] = {}
        self._new_wait = asyncio.Event()
        self._oldest_lacking: Stamp | None = None
        self._lacking_bytes = 0
        """What the journal has from there on, when it was weighed last."""
        self._weigh_not_before_s = 0.0
        self._is_listed = False
        self._listed_s = 0.0
        self._orphaned_since_s: dict[Site, float] = {}
        self._unrelated_since_s: float | None = None
        self._problem = ""
        self._seldom: SeldomLog | None = None
        self._task: asyncio.Task[None] | None = None

    # --- life ---

    def start(self, bus: Bus) -> None:
        """Begins to work."""
        self._bus = bus
        self._here.archive = BucketArchive(self._bucket, cluster=self._cluster)
        self._uploaded.start(bus)
        self._seldom = SeldomLog(log, asyncio.get_running_loop().time)
        self._task = asyncio.create_task(self._run(), name="backup")

    async def stop(self) -> None:
        """Ends the work, after one last try to upload what is written by now."""
        task, self._task = self._task, None
        if task is None:
            return
        await ended({task})
        await self._snapshots.stop()
        await self._keeper.stop()
        if self._snapshots.newest is not None and not self._problem:
            try:
                async with asyncio.timeout(self._interval_s + 1.0):
                    await self._upload()
            except (TimeoutError, BackupError, sqlite3.Error, OSError):
                log.info("what was written last is not in the backup yet")

    def abandon(self) -> None:
        """Ends the work at once, as a crash would: nothing more is uploaded."""
        if self._task is not None:
            self._task.cancel()
        self._snapshots.abandon()
        self._keeper.abandon()
        self._task = None

    async def close(self) -> None:
        """Ends the thread of the snapshots."""
        await self._snapshots.close()

    async def _run(self) -> None:
        await self._here.joined()
        pause_s = self._interval_s
        while True:
            await self._pause(pause_s)
            try:
                try:
                    await self._step()
                finally:
                    await self._note_restorable()
            except (BackupError, ReplicationError, sqlite3.Error, OSError) as error:
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                self._fails(error)
            else:
                pause_s = self._interval_s
                self._works()
            self._uploaded.tell()
            self._uploaded.ask(lacks=self._oldest_lacking is not None and not self._problem)

    async def _pause(self, pause_s: float) -> None:
        """Until the interval is over. Where somebody waits only a moment, unless the store fails: then it is left in
        peace by all."""
        if self._problem or pause_s <= GATHER_S:
            await asyncio.sleep(pause_s)
            return
        if not self._waiting:
            self._new_wait.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s - GATHER_S):
                    await self._new_wait.wait()
        await asyncio.sleep(GATHER_S)

    def _fails(self, error: Exception) -> None:
        self.tally.failures += 1
        self._problem = f"{type(error).__name__}: {error}" if not isinstance(error, BackupError) else str(error)
        if self._seldom is not None:
            self._seldom.warning("backup", f"the backup stands still, and is tried again: {self._problem}")

    def _works(self) -> None:
        if self._problem:
            log.info("the backup goes on")
            self._problem = ""

    # --- what the actor hands over; never raises, never waits ---

    def came_up(self, peer: str) -> None:
        """A peer is there: it hears all that is known here."""
        self._uploaded.came_up(peer)

    def went_down(self, peer: str) -> None:
        """A peer is gone: what it has not uploaded is nobody's now."""
        self._uploaded.went_down(peer)

    def heard(self, peer: str, message: object) -> None:
        """A peer said what is in the bucket."""
        try:
            self._uploaded.heard(peer, message)
        except Malformed as error:
            self.tally.not_messages += 1
            if self._seldom is not None:
                self._seldom.warning(f"bad {peer}", f"dropped what {peer} said of the backup: {error}")

    # --- who waits for what he wrote ---

    async def kept(self, position: Position) -> None:
        """Returns once a restore brings back all up to the position. Until then it is not waited for the interval to be
        over; all who wait share an upload."""
        if self._keeps(position):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = position
        self._new_wait.set()
        try:
            await future
        finally:
            del self._waiting[future]

    def _keeps(self, position: Position) -> bool:
        return all(self._restorable.get(site, -1) >= stamp for site, stamp in position.stamps.items())

    @property
    def problem(self) -> str:
        """Why nothing is uploaded; "" if all is well."""
        return self._problem

    def _said(self, uploaded: Mapping[Site, Stamp]) -> Said:
        return Said(
            site=self._here.view().site,
            works=self._is_listed and not self._problem,
            snapshot=self._snapshots.number,
            uploaded=uploaded,
        )

    # --- a step ---

    async def _step(self) -> None:
        view = self._here.durable_view()
        if not self._is_listed:
            await self._list()
        await self._snapshots.hear()
        if not view.vector and not view.closed:
            return  # nothing was ever written
        if self._snapshots.newest is None:
            await self._snapshots.see_to_the_first(is_ours=self._makes_the_first)
        elif self._is_related(view):
            await self._upload()
            await self._snapshots.see_to_it(takes_care=self._takes_care)
            self._keeper.see_to_it(
                is_ours=self._takes_care, objects=self._uploaded.advances, snapshot=self._snapshots.number
            )

    async def _list(self) -> None:
        """Asks the bucket what it has: once."""
        await claim(self._bucket, self._cluster)
        names = await self._bucket.names(CHANGESETS)
        self._uploaded.note(ends(stretches_in(names)))
        await self._snapshots.list()
        self._is_listed = True
        self._listed_s = _now_s()
        view = self._here.view()
        own = view.vector.get(view.site)
        there = self._uploaded.has(view.site)
        if there > (first_after(view.site) if own is None else own.stamp):
            await self._leave_site("the backup has more of it than this database has written")

    @property
    def _makes_the_first(self) -> bool:
        """Until there is a snapshot, nothing else is uploaded: it could not be restored."""
        assert self._bus is not None, "the backup was started"
        # Those who have just started say that they work in a moment.
        is_early = _now_s() - self._listed_s < ORPHAN_S
        return self._takes_care and not (is_early and any(peer.name < self._bus.name for peer in self._bus.peers()))

    def _is_related(self, view: View) -> bool:
        """Whether what is in the bucket and what is here are of one history. Raises BackupRefused if they are not, but
        not at once: a node that has just begun gets its peers' changes in a moment."""
        if is_related(self._snapshots.newest, {*view.vector, *view.closed}):
            self._unrelated_since_s = None
            return True
        now_s = _now_s()
        self._unrelated_since_s = self._unrelated_since_s or now_s
        if now_s - self._unrelated_since_s >= UNRELATED_S:
            remedy = "name another place in [backup] url, or begin with an empty disk to restore what is there"
            raise BackupRefused(self._bucket.place(), "holds another history than this database's", remedy)
        return False

    # --- uploading ---

    async def _upload(self) -> None:
        for _ in range(1_000):  # a bound, that others have their turn; what is left comes with the next step
            view = self._here.durable_view()
            heads = stamps_of(view.vector)
            sites = to_upload(heads, self._uploaded.stamps, own=view.site, adopted=self._adopted(heads, view.site))
            sites = [site for site in sites if site not in self._snapshots.beyond_journal]
            if not sites:
                return
            for site in sites:
                await self._upload_some(site, heads[site])
            self._uploaded.tell()

    async def _upload_some(self, site: Site, upto: Stamp) -> None:
        """The next object of a site."""
        at = self._uploaded.has(site)
        found: Lacking = await self._here.read(lambda connection: lacking(connection, site, beyond=at, upto=upto))
        if found.is_another:
            await self._is_another_history(site, self._bucket.place())
        if not found.changesets:
            covered = None if self._snapshots.newest is None else self._snapshots.newest.vector.get(site)
            if covered is not None and covered.stamp > at:
                self._uploaded.note({site: covered.stamp})  # the journal has lost it, and a snapshot has it
            elif not found.joins:
                self._snapshots.beyond_journal.add(site)
            return
        try:
            batch = batch_of(self._cluster, site, found.changesets)
        except BadBatch as error:
            raise BackupDamaged(f"the journal of site {site}", str(error)) from None
        stretch = batch.stretch
        sealed = await asyncio.to_thread(batches.encode, batch)
        if await self._bucket.create(of_stretch(stretch), sealed):
            self.tally.objects += 1
            self.tally.changesets += len(batch.links)
            self.tally.bytes += len(sealed)
        else:
            await self._compare(batch, stretch)
        self._uploaded.note({site: stretch.last})

    async def _compare(self, batch: Batch, stretch: Stretch) -> None:
        """It is there already: by whom, and when, does not matter, if it is the same."""
        name = of_stretch(stretch)
        other = await batch_at(self._bucket, stretch)
        if other is None:
            raise BackupUnreachable(self._bucket.place(name), "it is said to be there, and cannot be read")
        if [link.digest for link in other.links] == [link.digest for link in batch.links]:
            self.tally.repeats += 1
            return
        await self._is_another_history(batch.site, self._bucket.place(name))

    async def _is_another_history(self, site: Site, place: str) -> NoReturn:
        """Of the own site this database is an older state, which went on. Of others that is for their nodes to see."""
        if site == self._here.view().site:
            await self._leave_site("the backup has another history of it")
        raise BackupDamaged(place, f"has another history of site {site} than this database")

    async def _leave_site(self, why: str) -> None:
        """This database is an older state of itself: nobody has to take its site's word any more."""
        site = self._here.view().site
        log.warning("site %s is closed, and this node goes on under a new one: %s", site, why)
        await self._here.work(lambda store: store.close_site(site))

    def _adopted(self, heads: Mapping[Site, Stamp], own: Site) -> set[Site]:
        """Sites of nobody, for a while now, if they fall to this node."""
        now_s = _now_s()
        found = orphans(heads, own, self._uploaded.peers)
        self._orphaned_since_s = {site: self._orphaned_since_s.get(site, now_s) for site in found}
        if not self._takes_care:
            return set()
        return {site for site, since_s in self._orphaned_since_s.items() if now_s - since_s >= ORPHAN_S}

    @property
    def _takes_care(self) -> bool:
        assert self._bus is not None, "the backup was started"
        return takes_care(self._bus.name, self._uploaded.peers)

    async def _note_restorable(self) -> None:
        """Also while nothing can be uploaded: then it says for how long."""
        view = self._here.view()
        heads = stamps_of(view.vector)
        uploaded = dict(self._uploaded.stamps)
        missing: Mapping[Site, Stamp] = {}
        last: Mapping[Site, Stamp] = {}
        limit = frontier(missing)
        if any(head > uploaded.get(site, first_after(site)) for site, head in heads.items()):
            missing, last = await self._here.read(lambda connection: _lacking_and_last(connection, heads, uploaded))
            limit = frontier(missing)
        self._oldest_lacking = min(missing.values(), default=None)
        await self._weigh()
        if has_closed(self._snapshots.newest, view.closed):
            self._restorable = safe(self._restorable, heads, limit, last)
            for future, position in self._waiting.items():
                if not future.done() and self._keeps(position):
                    future.set_result(None)

    async def _weigh(self) -> None:
        """How much the journal has from the oldest change on that is not in the bucket: said before it is too much."""
        oldest, now_s = self._oldest_lacking, _now_s()
        if oldest is None:
            self._lacking_bytes = 0
        elif now_s >= self._weigh_not_before_s:
            self._lacking_bytes = await self._here.read(lambda connection: bytes_since(connection, oldest))
            self._weigh_not_before_s = _now_s() + max(WEIGH_S, (_now_s() - now_s) / WEIGH_SHARE)
        note = self.status().journal_note
        if note and self._seldom is not None:
            self._seldom.warning("journal", note)

    # --- for people ---

    def status(self) -> BackupStatus:
        """How the backup stands, now."""
        view = self._here.durable_view()
        age_s = 0.0
        if self._oldest_lacking is not None:
            age_s = max(0.0, (self._now_ms() - ms_of(self._oldest_lacking)) / 1000)
        return BackupStatus(
            url=self._bucket.place(),
            problem=self._problem or self._snapshots.problem,
            doing=self._snapshots.doing,
            snapshot=self._snapshots.number,
            age_s=age_s,
            journal_used=self._here.journal_limits.used(age_ms=age_s * 1000, size=self._lacking_bytes),
            site=view.site,
            sites={
                site: SiteStatus(
                    durable=view.vector[site].stamp if site in view.vector else None,
                    uploaded=self._uploaded.stamps.get(site),
                    restorable=self._restorable.get(site),
                )
                for site in {*view.vector, *self._restorable}
            },
            counts=self.tally.as_dict(),
            keeping_problem=self._keeper.problem,
            kept=self._keeper.kept,
        )


def _lacking_and_last(
    connection: sqlite3.Connection, heads: Mapping[Site, Stamp], uploaded: Mapping[Site, Stamp]
) -> tuple[Mapping[Site, Stamp], Mapping[Site, Stamp]]:
    """What of each site is first to be uploaded; and of those that go beyond the first of all, what ends before it."""
    missing = first_lacking(connection, heads, uploaded)
    limit = frontier(missing)
    return missing, last_upto(connection, [site for site, head in heads.items() if head > limit], limit)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
