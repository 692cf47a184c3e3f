"""From a bucket to a database: the newest snapshot, and all changesets that came after it, merged by the engine. Or,
where it is to end earlier (see `cuts`), the newest snapshot that has nothing later, and the changesets up to there.

The file is made beside its place, and linked there when it is whole: pieces and rows have the digests that stand with
the backup, SQLite finds it sound, it has a site of its own, and it is on the disk. Whatever goes wrong before that,
there is no file, and one that is there already is never replaced.

Changesets come in the order of their stamps, which is a causal order. What depends on something that never got to
the bucket cannot be merged: a node was uploading for itself when all were lost. It is left out, and said; nobody was
told that it was in the bucket. What is missing in between is damage, and ends it. Of a position nothing may be missing:
who names one wants all that is before it."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from replication.backup.batches import Batch, Link
from replication.backup.bucket import Bucket, check_is_of, missing, whose
from replication.backup.chain_reading import Chain, ChainReader, in_order
from replication.backup.chains import AnotherHistory, Gap, by_site, following, newest_deps, to_read, upto_first
from replication.backup.choosing import snapshot_for
from replication.backup.cuts import EVERYTHING, AtMoment, AtPosition, Cut
from replication.backup.epochs import ends_of_epochs
from replication.backup.errors import BackupDamaged, BackupError, CannotRestore, NothingToRestore, NotInBackup
from replication.backup.fingerprints import fingerprints, is_row_digest, row_digests
from replication.backup.looking import looked_for, seen
from replication.backup.manifests import Manifest
from replication.backup.names import Stretch, of_closing, of_stretch
from replication.backup.pieces import piece
from replication.backup.taking import opened_as_it_is
from replication.backup.what_to_keep import is_in
from replication.convergent.engine import Engine
from replication.engine.applying import (
    Closed,
    Deposed,
    Fork,
    Merged,
    Outcome,
    Over,
    Refused,
    Repeat,
    TooEarly,
    Waits,
    merge_all,
)
from replication.engine.copying import make_own
from replication.engine.known_tables import KnownTables
from replication.engine.sites import Head, vector
from replication.engine.stamps import STAMP_MAX, Site, Stamp, epoch_of, first_after, ms_of
from replication.engine.transacting import keep_ready_to_merge
from replication.positions import Position

ARRIVING: Final = "restoring-"
"""What the name of the file begins with until it is whole: not with the database's, as SQLite's own files do."""
PIECES_UNDER_WAY: Final = 4
CACHE_BYTES: Final = 64 * 1024 * 1024
"""Of pages of the database, while it is merged into."""
MERGE_BYTES: Final = 1024 * 1024
MERGE_MAX_COUNT: Final = 2_000
"""So many changesets are merged in one transaction."""
_TAIL: Final = "another node had become the primary by then"
_ANY_MS: Final = 2**46
"""How far ahead of this machine's clock a stamp may be: what the cluster accepted is accepted."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far it is, for people. `part`: what is being done."""

    part: str = ""
    bytes: int = 0
    bytes_total: int = 0
    objects: int = 0
    objects_total: int = 0
    changesets: int = 0

    def __str__(self) -> str:
        said = f"{self.part}: {self.bytes / 1e6:,.1f} of {self.bytes_total / 1e6:,.1f} MB"
        if self.objects_total:
            said += f", {self.objects:,} of {self.objects_total:,} objects, {self.changesets:,} changesets"
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Changesets of a site that are in the bucket and could not be merged, from a stamp on, and why."""

    site: Site
    after: Stamp
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was restored. `reached_ms`: when the newest change in it was made, by the clock of who made it; None if it
    is empty."""

    snapshot: Manifest
    changesets: int
    vector: Mapping[Site, Head]
    size: int
    left_out: Sequence[LeftOut] = ()

    @property
    def reached_ms(self) -> int | None:
        """See the class."""
        return max((ms_of(head.stamp) for head in self.vector.values()), default=None)


async def restore(
    bucket: Bucket,
    target: Path,
    *,
    engine: Engine,
    now_ms: Callable[[], int],
    new_site: Callable[[], Site],
    new_nonce: Callable[[], bytes],
    cut: Cut = EVERYTHING,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Makes the database at `target`, where nothing is. `cut`: up to where. `cluster`: whose it has to be; None if that
    does not matter.

    Raises a BackupError, OSError or sqlite3.Error (the disk); nothing is at `target` then that was not there before.
    """
    progress = progress or Progress()
    if await engine.run(target.exists):
        raise CannotRestore(target, "is there already", "name another file, or move that one away")
    found = await whose(bucket)
    if found is not None and cluster is not None:
        check_is_of(bucket, cluster, found=found)
    if found is None:
        raise NothingToRestore(bucket.place())
    snapshot = await snapshot_for(bucket, cut, now_ms=now_ms())
    arriving = target.with_name(f"{ARRIVING}{target.name}")
    restoring = _Restoring(bucket, snapshot, cut, arriving, engine, progress, now_ms)
    try:
        return await restoring.run(target, new_site, new_nonce)
    finally:
        await restoring.reader.close()
        await engine.run(lambda: _remove(arriving))


@dataclass(slots=True)
class _Restoring:
    bucket: Bucket
    snapshot: Manifest
    cut: Cut
    arriving: Path
    engine: Engine
    progress: Progress
    now_ms: Callable[[], int]
    chains: dict[Site, Chain] = field(default_factory=dict[Site, Chain])
    ends: dict[Site, Stamp] = field(default_factory=dict[Site, Stamp])
    """Up to where a site is merged, of which more may be there."""
    tails: dict[Site, LeftOut] = field(default_factory=dict[Site, LeftOut])
    left_out: dict[Site, LeftOut] = field(default_factory=dict[Site, LeftOut])
    """Of these sites nothing more is merged."""
    merged: int = 0
    known: KnownTables = field(default_factory=KnownTables)
    connection: sqlite3.Connection | None = None
    reader: ChainReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = ChainReader(self.bucket, cluster=self.snapshot.cluster, ends_in=self._ends_in)

    def _ends_in(self, stretch: Stretch) -> bool:
        return self.cut.ends_in(stretch)  # of the cut as it is by then: reading may have made it another one

    async def run(self, target: Path, new_site: Callable[[], Site], new_nonce: Callable[[], bytes]) -> Restored:
        await self._plan()
        await self._fetch(target)
        is_all = not self.chains  # nothing is to be merged: then the rows are checked in the end, beside the file
        if not is_all:
            await self.engine.run(self._check_rows)
        # First: of the site that was copied more is to be merged, and nobody merges what its own site wrote.
        await self.engine.run(lambda: make_own(self.arriving, new_site=new_site, new_nonce=new_nonce()))
        await self.engine.run(self._open)
        try:
            await self._merge_all()
            heads = await self.engine.run(lambda: vector(self._opened))
            self._check_reached(heads)
            await self.engine.run(self._write_back)
        finally:
            await self.engine.run(self._close)
        self.progress.part = "checking"
        await self._check(rows=is_all)
        size = await self.engine.run(lambda: self._finish(target))
        return Restored(
            snapshot=self.snapshot,
            changesets=self.merged,
            vector=heads,
            size=size,
            left_out=(*self.tails.values(), *self.left_out.values()),
        )

    # --- the snapshot ---

    async def _fetch(self, target: Path) -> None:
        """Its pieces, some at a time, each checked."""
        self.progress.part, self.progress.bytes_total = "fetching the snapshot", self.snapshot.size
        await self.engine.run(lambda: self.arriving.parent.mkdir(parents=True, exist_ok=True))
        await self.engine.run(lambda: _remove(self.arriving))
        free = await self.engine.run(lambda: shutil.disk_usage(self.arriving.parent).free)
        if free < self.snapshot.size:
            problem = f"takes {self.snapshot.size / 1e6:,.1f} MB or more, and {free / 1e6:,.1f} MB are free there"
            raise CannotRestore(target, problem, "make room, or name a file on another disk")
        file = await self.engine.run(lambda: self.arriving.open("xb"))
        offset = 0
        places: list[tuple[int, int]] = []
        for number, one in enumerate(self.snapshot.pieces):
            places.append((number, offset))
            offset += one.size
        left = iter(places)

        async def fetch() -> None:
            for number, at in left:
                content = await piece(self.bucket, self.snapshot, number)
                await self.engine.run(lambda content=content, at=at: os.pwrite(file.fileno(), content, at))  # type: ignore[misc]
                self.progress.bytes += len(content)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(PIECES_UNDER_WAY):
                    group.create_task(fetch())
        except* (BackupError, OSError) as errors:
            raise _first(errors) from None
        finally:
            await self.engine.run(file.close)

    def _check_rows(self) -> None:
        of_rows = all(map(is_row_digest, self.snapshot.content.values()))
        with contextlib.closing(opened_as_it_is(self.arriving)) as connection:
            found = row_digests(connection) if of_rows else fingerprints(connection)
        for table, digits in self.snapshot.content.items():
            if found.get(table) != digits:
                place = self.bucket.place(of_closing(self.snapshot.number))
                raise BackupDamaged(place, f"has other rows of table {table} than when it was taken")

    # --- changesets ---

    async def _plan(self) -> None:
        """Which objects are to be read."""
        for site, stretches in (await self._all_there()).items():
            if site in self.snapshot.closed:
                continue
            head = self.snapshot.vector.get(site)
            found = to_read(stretches, first_after(site) if head is None else head.stamp)
            if found:
                self.chains[site] = Chain(left=deque(found), head=head)
        begun = {
            site: await self._next_batch(site, chain)
            for site, chain in self.chains.items()
            if epoch_of(site) and chain.head is None
        }
        self.ends = ends_of_epochs({site: batch.links[0].encoded for site, batch in begun.items()}, self.chains)
        if isinstance(self.cut, AtPosition):
            self.cut = await self._whole(self.cut)
            wanted = self.cut.position.stamps
            self.chains = {site: chain for site, chain in self.chains.items() if site in wanted}
        for chain in self.chains.values():
            chain.left = deque(upto_first(chain.left, self.cut.ends_in))
        self.progress.objects_total = sum(len(chain.left) for chain in self.chains.values())

    async def _whole(self, cut: AtPosition) -> AtPosition:
        """The position with the sites that it does not name, as far as what it names had seen of them. Raises
        NotInBackup if not even the objects that are there go so far."""
        for site, stamp in cut.position.stamps.items():
            chain, head = self.chains.get(site), self.snapshot.vector.get(site)
            if stamp > (chain.left[-1].last if chain else first_after(site) if head is None else head.stamp):
                raise self._lacks(site, stamp)
        if self.chains.keys() <= cut.position.stamps.keys():
            return cut
        seen: dict[Site, Stamp] = {}
        for site in self.chains.keys() & cut.position.stamps.keys():
            chain = Chain(left=self.chains[site].left.copy(), head=self.chains[site].head)
            is_last = False
            while chain.left and not is_last:
                links = (await self._next_batch(site, chain)).links
                is_last = cut.ends_in(chain.left.popleft())
                chain.head = links[-1].head
                wanted = [link.encoded for link in links if cut.takes(site, link)]
                for dep, stamp in (await asyncio.to_thread(newest_deps, wanted)).items():
                    seen[dep] = max(stamp, seen.get(dep, stamp))
        return cut.with_what_it_saw(seen)

    def _lacks(self, site: Site, stamp: Stamp) -> NotInBackup:
        problem = f"does not have what site {site} wrote up to {stamp:x}"
        remedy = "see in `litecast backup status` whether it is still to be uploaded, or name an earlier position"
        return NotInBackup(self.bucket.place(), problem, remedy)

    def _check_reached(self, heads: Mapping[Site, Head]) -> None:
        """Raises NotInBackup if the file is not as far as a position that was asked for."""
        if isinstance(self.cut, AtMoment):
            return
        for site, stamp in self.cut.position.stamps.items():
            if site not in heads or heads[site].stamp < stamp:
                left = self.left_out.get(site) or self.tails.get(site)
                if left is None:
                    raise self._lacks(site, stamp)
                problem = f"does not bring back what site {site} wrote up to {stamp:x}, since {left.reason}"
                raise NotInBackup(self.bucket.place(), problem, "name another position, or a moment: --at")

    async def _all_there(self) -> dict[Site, list[Stretch]]:
        """All that there should be. Raises BackupDamaged if something that is needed is missing."""
        found = await seen(self.bucket)
        needed = [one for one in found.unlisted if self.cut.begins_before(one) and not is_in(one, self.snapshot)]
        late, lost = await looked_for(self.bucket, replace(found, unlisted=needed))
        if lost:
            raise missing(self.bucket, lost[0])
        return by_site([*found.listed, *late])

    async def _merge_all(self) -> None:
        """In the order of stamps."""
        self.progress.part = "merging changesets"
        batch: list[tuple[Site, Link]] = []
        size = 0
        async with contextlib.aclosing(in_order(self.chains, self._next_links)) as changesets:
            async for site, link in changesets:
                if site in self.left_out:
                    continue
                batch.append((site, link))
                size += len(link.encoded)
                if size >= MERGE_BYTES or len(batch) >= MERGE_MAX_COUNT:
                    await self._merge(batch)
                    batch, size = [], 0
        if batch:
            await self._merge(batch)

    async def _next_links(self, site: Site) -> Sequence[Link]:
        """What the next object has of the site beyond what is read. Raises BackupDamaged if something is missing."""
        chain = self.chains[site]
        batch = await self._next_batch(site, chain)
        stretch = chain.left.popleft()
        self.progress.objects += 1
        try:
            found = following(batch, chain.head)
        except Gap as error:
            raise BackupDamaged(self.bucket.place(of_stretch(stretch)), str(error)) from None
        except AnotherHistory as error:
            self._leave_out(site, f"{of_stretch(stretch)} {error}")
            return ()
        wanted = tuple(link for link in found if self.cut.takes(site, link))
        end = self.ends.get(site, STAMP_MAX)
        counts = tuple(link for link in wanted if link.upto <= end)
        if len(counts) < len(found):
            self.reader.forget(chain.left)
            chain.left.clear()
        if len(counts) < len(wanted):
            self.tails[site] = LeftOut(site=site, after=end, reason=_TAIL)
        if found:
            chain.head = found[-1].head
        return counts

    async def _next_batch(self, site: Site, chain: Chain) -> Batch:
        """What the next object of a site holds."""
        before = len(chain.left)
        batch = await self.reader.next_batch(site, chain)
        self.progress.objects_total += len(chain.left) - before
        return batch

    async def _merge(self, batch: Sequence[tuple[Site, Link]]) -> None:
        outcomes = await self.engine.run(
            lambda: merge_all(
                self._opened,
                [link.encoded for _, link in batch],
                now_ms=self.now_ms(),
                clock_bound_ms=_ANY_MS,
                known=self.known,
            )
        )
        for (site, link), outcome in zip(batch, outcomes, strict=True):
            self._take(site, link, outcome)

    def _take(self, site: Site, link: Link, outcome: Outcome) -> None:
        match outcome:
            case Merged() | Repeat():
                self.merged += 1
                self.progress.changesets += 1
            case Waits(missing=missing):
                self._check_is_whole(site, link, missing)
                which = ", ".join(sorted(missing)[:3])
                self._leave_out(site, f"it depends on what is not in the bucket, of site {which}", link.after)
            case Fork(reason=reason):
                self._leave_out(site, reason, link.after)
            case Closed():
                self._leave_out(site, "its site is closed", link.after)
            case Over():
                self._leave_out(site, _TAIL, link.after)
            case Refused(reason=reason):
                raise BackupDamaged(f"a changeset of site {site} in {self.bucket.place()}", f"is refused: {reason}")
            case Deposed():
                place = self.bucket.place(of_closing(self.snapshot.number))
                raise BackupDamaged(place, "has what a node wrote after another one had become the primary")
            case TooEarly():
                raise AssertionError("no stamp is too far ahead")

    def _check_is_whole(self, site: Site, link: Link, missing: Mapping[Site, Stamp]) -> None:
        """Raises NotInBackup if what a changeset waits for is beyond what was asked for."""
        if isinstance(self.cut, AtMoment):
            return
        for dep, stamp in missing.items():
            if stamp > self.cut.position.stamps.get(dep, stamp):
                problem = f"cannot bring back that position: what site {site} wrote up to {link.upto:x} depends on more"
                raise NotInBackup(self.bucket.place(), problem, f"add {Position({dep: stamp})} to it")
            raise self._lacks(dep, stamp)

    def _leave_out(self, site: Site, reason: str, after: Stamp | None = None) -> None:
        if site in self.left_out:
            return
        chain = self.chains[site]
        self.reader.forget(chain.left)
        chain.left.clear()
        head = chain.head
        end = first_after(site) if head is None else head.stamp
        self.left_out[site] = LeftOut(site=site, after=end if after is None else after, reason=reason)

    # --- the file ---

    @property
    def _opened(self) -> sqlite3.Connection:
        assert self.connection is not None, "the copy is open"
        return self.connection

    def _open(self) -> None:
        self.connection = sqlite3.connect(self.arriving, isolation_level=None, check_same_thread=False)
        self.connection.execute("PRAGMA synchronous = OFF")  # it is synced when it is whole
        self.connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        self.connection.execute("PRAGMA temp_store = MEMORY")
        self.connection.execute(f"PRAGMA cache_size = -{CACHE_BYTES // 1024}")
        keep_ready_to_merge(self.connection)

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _write_back(self) -> None:
        """All that was merged stands in the file itself then: closing would not say that it did not get there."""
        self._opened.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    async def _check(self, *, rows: bool) -> None:
        """The file as it is put in place. SQLite looks through it without holding up Python: so the rows, if they are
        to be checked, are read at the same time."""
        checks = [asyncio.to_thread(self._check_file)]
        if rows:
            checks.append(self.engine.run(self._check_rows))
        for wrong in await asyncio.gather(*checks, return_exceptions=True):
            if wrong is not None:
                raise wrong

    def _check_file(self) -> None:
        with contextlib.closing(sqlite3.connect(self.arriving, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA cache_size = -{CACHE_BYTES // 1024}")  # each row is looked up in each index
            found = [text for (text,) in connection.execute("PRAGMA integrity_check(1)")]
        if found != ["ok"]:
            fault = found[0].splitlines()[-1]  # the first may say which database it is of
            raise BackupDamaged(self.bucket.place(), f"makes a database in which SQLite finds a fault ({fault})")

    def _finish(self, target: Path) -> int:
        with self.arriving.open("rb+") as file:
            os.fsync(file.fileno())
        try:
            os.link(self.arriving, target)
        except FileExistsError:
            remedy = "it stays; name another file"
            raise CannotRestore(target, "has come to be there meanwhile", remedy) from None
        folder = os.open(target.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return target.stat().st_size


def _remove(arriving: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        arriving.with_name(arriving.name + suffix).unlink(missing_ok=True)


def _first(errors: BaseExceptionGroup) -> BaseException:
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
