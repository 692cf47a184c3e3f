"""One simulated machine: a disk, a clock, an application that writes, and on it a whole node, whenever that runs.

The application is another process than the node: it goes on when the node is killed or stopped, and ends when the power
does. Both use the database by connections of their own."""

import asyncio
import logging
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final

from cluster.address import Address
from cluster.errors import ClusterError
from cluster.node import Node
from cluster.supervisor import ActorChild
from replication.backup.keeping import Keeper
from replication.backup.saying import BACKUP
from replication.backup.taking import Snapshots
from replication.backup.uploading import Backup
from replication.backup.worker import BackupWorker
from replication.convergent.asking import REPLICATION
from replication.convergent.broken import Broken
from replication.convergent.copies import Copies
from replication.convergent.replication import Replication, Settings
from replication.convergent.shelf import Shelf
from replication.convergent.sidecar import NONCE_FILE, nonces_in
from replication.convergent.store import Done, Store
from replication.convergent.store_settings import StoreSettings
from replication.convergent.worker import ReplicationWorker
from replication.declared import TableDeclaration
from replication.engine.applying import Merged, Refused
from replication.engine.folding import NOTHING_OWED
from replication.engine.stamps import Site, Stamp
from replication.simulation.application import CLUSTER, DECLARED
from replication.simulation.backed_up import BackedUp
from replication.simulation.disk import OF_THE_DISK, Connection, Disk
from replication.simulation.limits import LARGE_BYTES
from replication.simulation.loop import Life
from replication.simulation.network import ShakyCasts
from replication.simulation.object_store import SimulatedBucket
from replication.simulation.slow_engine import SlowEngine
from replication.simulation.world import World

CLOCK_BOUND_MS: Final = 10_000
"""Less than a real cluster's, so that waiting for time to come does not take long."""
JOIN_TIMEOUT_S: Final = 2.0
NOTICED_AFTER_S: Final = 0.01
_AGAIN_AFTER_S: Final = 1.0
TRIM_INTERVAL_S: Final = 1.5
BACKUP_INTERVAL_S: Final = 1.0
SNAPSHOT_INTERVAL_S: Final = 8.0
RETENTION_S: Final = 10.0
KEEPING_PAUSE_S: Final = 3.0
KEEPING_GRACE_S: Final = 2.0
KEEPER_TTL_S: Final = 6.0
TRIMMED_AFTER_MS: Final = 3_000
"""Where anything is trimmed: so old are the changesets and tombstones that go."""
_NEVER_MS: Final = 7 * 24 * 3_600_000

log = logging.getLogger(__name__)


class NonceOnDisk:
    """The nonce of the last run, beside the database on its disk."""

    def __init__(self, disk: Disk) -> None:
        self._files = disk.files

    def read(self) -> Sequence[bytes]:
        """See `Sidecar`."""
        return nonces_in(self._files.get(NONCE_FILE, b""))

    def write(self, *nonces: bytes) -> None:
        """See `Sidecar`."""
        self._files[NONCE_FILE] = b"".join(nonces)


class TracedStore(Store):
    """A store that tells what it came to."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], settings: StoreSettings, machine: "Machine") -> None:
        super().__init__(connect, settings)
        self._machine = machine

    def fold(self, owed: Stamp = NOTHING_OWED) -> Done | None:
        """See `Store`."""
        done = super().fold(owed)
        if done is not None:
            self._machine.say(f"folded {done.rows} rows, clock {done.view.clock:x}")
        return done

    def begin_copy(self) -> tuple[sqlite3.Connection, Done]:
        """See `Store`. A database in memory has no readers beside a writer, so what they would see is set apart."""
        folded = self.fold()
        self.sync()
        apart = sqlite3.connect(":memory:", isolation_level=None)
        apart.deserialize(self.connection.serialize())
        return apart, folded if folded is not None else self.done()

    def merge(self, changesets: Sequence[bytes]) -> Done:
        """See `Store`."""
        done = super().merge(changesets)
        for encoded, outcome in zip(changesets, done.outcomes, strict=True):
            self._machine.world.note(f"merge: {type(outcome).__name__}")
            if isinstance(outcome, Merged) and len(encoded) > LARGE_BYTES:
                self._machine.world.note("a changeset merged in pieces")
            self._machine.say(f"merge: {outcome}")
            if isinstance(outcome, Broken | Refused):
                self._machine.world.fail(f"{self._machine.name}: a merge came to {outcome}")
        if done.made:
            self._machine.world.note("fold inside a merge")
        return done


class TracedShelf(Shelf):
    """A shelf that tells of changesets that are served in pieces."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], machine: "Machine") -> None:
        super().__init__(connect)
        self._machine = machine

    def piece(self, site: Site, upto: Stamp, at: int, size: int) -> bytes | None:
        """See `Shelf`."""
        self._machine.world.note("a changeset served in pieces")
        return super().piece(site, upto, at, size)


class ReportedBackup(Backup):
    """A backup of which is written down what it says is safe, whenever it says so."""

    backed_up: BackedUp

    async def _note_restorable(self) -> None:
        await super()._note_restorable()
        self.backed_up.reports(self.status().position)


class Machine:
    """See the module. `boot` starts the node, and `is_on` says whether there is power."""

    declared: Sequence[TableDeclaration] = DECLARED
    fence: str | None = None
    """In mode primary, what tables say before anybody is known to write."""

    def __init__(
        self,
        world: World,
        name: str,
        address: Address,
        disk: Disk,
        *,
        full: bool,
        stalls: float,
        backed_up: BackedUp | None = None,
    ) -> None:
        self.world = world
        self.name = name
        self.address = address
        self.disk = disk
        self.random = world.stream(f"machine {name}")
        self.skew_ms = 0
        self.latest_ms = 0
        """The latest time that its clock has shown."""
        self.is_on = True
        self.is_gone = False
        """It left, for good."""
        self.runs = 0
        self.replication: Replication | None = None
        self.node: Node | None = None
        self.is_notified = True
        """Whether the system tells its node of others' commits; if not, it has to look."""
        self.backup: Backup | None = None
        self.backed_up = backed_up
        """Where it uploads to, if anywhere."""
        self._full = full
        self._stalls = stalls
        self._life: Life | None = None
        self._engine: SlowEngine | None = None
        self._app: Connection | None = None
        self._noticed: Callable[[], None] | None = None
        self._older_since: int | None = None
        """An older copy of its own database was put under the node: how often it had begun with one then."""
        disk.committed = self._committed

    def say(self, what: object) -> None:
        """A line of the trace."""
        self.world.say(self.name, what)

    # --- clock and application ---

    def now_ms(self) -> int:
        """What its clock shows."""
        now_ms = self.world.true_ms() + self.skew_ms
        self.latest_ms = max(self.latest_ms, now_ms)
        return now_ms

    @property
    def app(self) -> Connection:
        """The application's connection."""
        if self._app is None:
            self._app = self.disk.connect(full=self._full)
            self._app.execute("PRAGMA foreign_keys = ON")
        return self._app

    def _committed(self) -> None:
        if self._noticed is not None and self.is_notified:
            late_s = NOTICED_AFTER_S * self.random.random()
            self.world.loop.call_later(late_s, self._notice, context=self.world.network.context)

    def _notice(self) -> None:
        if self._noticed is not None and self._life is not None:
            self._life.call(self._noticed)

    # --- the node ---

    @property
    def is_running(self) -> bool:
        """Whether its node runs, or is starting."""
        return self._life is not None

    @property
    def is_paused(self) -> bool:
        """Whether its node is stopped, as by SIGSTOP."""
        return self._life is not None and self._life.is_paused

    def boot(self) -> None:
        """Starts the node."""
        assert self.is_on
        assert self._life is None
        self.runs += 1
        self.say("boots")
        life = self._life = self.world.loop.begin(self.name)
        task = life.create_task(self._run(), name=f"{self.name} runs")
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        if hasattr(error, OF_THE_DISK):
            self.world.note("could not start")
            self.say(f"could not start: {error}")
            self.kill()
            self.world.loop.call_later(_AGAIN_AFTER_S, self._try_again, context=self.world.network.context)
        else:
            log.error("%s", self.name, exc_info=error)
            self.world.fail(f"{self.name} ended by itself: {type(error).__name__}: {error}")

    def _try_again(self) -> None:
        """As whoever watches over the process would."""
        if self.is_on and self._life is None and not self.is_gone:
            self.boot()

    async def _run(self) -> None:
        random = Random(f"{self.world.seed}/{self.name}/{self.runs}")
        engine = self._engine = SlowEngine(random, stalls=self._stalls)
        replication = self.replication = Replication(
            TracedStore(
                self.disk.connect,
                StoreSettings(
                    cluster=CLUSTER,
                    now_ms=self.now_ms,
                    new_site=lambda: self._new_site(random),
                    barrier=self.disk.barrier,
                    sidecar=NonceOnDisk(self.disk),
                    new_nonce=lambda: random.randbytes(16),
                    declared=self.declared,
                    fence=self.fence,
                    clock_bound_ms=CLOCK_BOUND_MS,
                    journal_max_age_ms=TRIMMED_AFTER_MS if self.world.trims else _NEVER_MS,
                ),
                self,
            ),
            TracedShelf(self.disk.connect, self),
            engine=engine,
            shelf_engine=SlowEngine(random, stalls=self._stalls),
            watch=self._watch,
            copies=None if self.world.folder is None else self._copies(self.world.folder, random),
            settings=Settings(
                now_ms=self.now_ms,
                clock_bound_ms=CLOCK_BOUND_MS,
                join_timeout_s=JOIN_TIMEOUT_S,
                expects_peers=True,
                trim_interval_s=TRIM_INTERVAL_S,
            ),
        )
        await replication.open()
        node = self.node = Node(
            name=self.name,
            cluster=CLUSTER,
            transport=self.world.network.transport(self.address),
            discovery=Everybody(self.world),
            children=[
                ActorChild(REPLICATION, lambda: ReplicationWorker(replication, node)),
                *self._children(replication, lambda: node),
            ],
            random=random,
            incarnation=f"{self.name}.{self.runs}",
            now_s=lambda: self.now_ms() / 1000,
        )
        await node.start()
        bus = ShakyCasts(node, self.world.weather, self.world.climate, random, self.world.note)
        replication.start(bus)
        self._began(bus)
        self.say(f"runs as site {replication.status().site}")
        error: ClusterError = await node.failed()
        raise error

    def _children(self, replication: Replication, node: Callable[[], Node]) -> list[ActorChild]:
        """What a mode, or a backup, adds to a node."""
        world, backed_up = self.world, self.backed_up
        if backed_up is None:
            return []
        assert world.folder is not None, "a seed with a backup has real files"
        bucket = SimulatedBucket(backed_up.store, self.name)
        random = Random(f"{world.seed}/{self.name}/{self.runs}/backup")
        self.backup_folder.mkdir(exist_ok=True)
        snapshots = Snapshots(
            self.backup_folder, SlowEngine(random, stalls=self._stalls), bucket, cluster=CLUSTER, node=self.name
        )
        backup = self.backup = ReportedBackup(
            replication,
            bucket,
            snapshots,
            lambda tally: Keeper(
                bucket,
                tally,
                cluster=CLUSTER,
                node=self.name,
                retention_s=RETENTION_S,
                now_ms=self.now_ms,
                clock=world.loop.time,
                nonce=lambda: f"{random.getrandbits(128):032x}",
                pause_s=KEEPING_PAUSE_S,
                grace_s=KEEPING_GRACE_S,
                lease_ttl_s=KEEPER_TTL_S,
            ),
            cluster=CLUSTER,
            interval_s=BACKUP_INTERVAL_S,
            snapshot_interval_s=SNAPSHOT_INTERVAL_S,
            now_ms=self.now_ms,
        )
        backup.backed_up = backed_up
        return [ActorChild(BACKUP, lambda: BackupWorker(backup, node()))]

    @property
    def backup_folder(self) -> Path:
        """Where copies for snapshots are: the one thing of its disk that is real."""
        assert self.world.folder is not None, "a seed with a backup has real files"
        return self.world.folder / f"{self.name}-backup"

    def _began(self, bus: ShakyCasts) -> None:
        """The node runs, and its replication was started."""
        if self.backup is not None:
            self.backup.start(bus)

    async def _stopping(self) -> None:
        """Before the replication stops."""

    def _copies(self, folder: Path, random: Random) -> Copies:
        own = folder / self.name
        own.mkdir(exist_ok=True)
        return Copies(own, SlowEngine(random, stalls=self._stalls))

    def _new_site(self, random: Random) -> Site:
        self.world.note("new site")
        site = Site(f"{random.getrandbits(128):032x}")
        self.say(f"new site {site}")
        return site

    async def _watch(self, noticed: Callable[[], None], /) -> None:
        self._noticed = noticed
        try:
            while True:
                await asyncio.sleep(0.5)
                noticed()
        finally:
            self._noticed = None

    async def stop(self) -> None:
        """Stops the node in order. If it is killed meanwhile, this never returns."""
        life, node, replication = self._life, self.node, self.replication
        assert life is not None
        if node is not None and replication is not None and node.joined:
            await life.create_task(self._stop(node, replication))
        self._life = None
        self._end(life)
        self.say("stopped")

    async def _stop(self, node: Node, replication: Replication) -> None:
        await self._stopping()
        await replication.stop()
        if self.backup is not None:
            await self.backup.stop()  # after replication, which folds what was written last
        await node.stop()
        await replication.close()

    def forget(self, nodes: Sequence[str]) -> None:
        """Somebody has its node forget these."""
        assert self._life is not None
        assert self.replication is not None
        _ = self._life.create_task(self.replication.forget(nodes), name=f"{self.name} forgets")

    def kill(self) -> None:
        """Ends the node as kill -9 does. The application's connection is made anew as well, and sees no difference."""
        assert self._life is not None
        life, self._life = self._life, None
        self.world.network.kill(self.address)
        self.disk.kill()
        self._app = None
        self._end(life)
        self.say("killed")

    def cut_power(self) -> bool:
        """Ends node and application, and what was not durable. True if something was lost."""
        life, self._life = self._life, None
        self.world.network.kill(self.address)
        lost = self.disk.power_cut(self.random)
        self._app = None
        self.is_on = False
        if life is not None:
            # Not at once: it may be the very commit of the node's that the power is cut at.
            self.world.loop.call_soon(self._end, life, context=self.world.network.context)
        self.say(f"power cut, {'something' if lost else 'nothing'} lost")
        return lost

    def _end(self, life: Life) -> None:
        self.world.network.kill(self.address)
        self.world.network.thaw(self.address)
        life.end()
        self._count()
        if self._older_since is not None and self.begun() == self._older_since:
            self.world.may_fork = True  # it has not noticed; when it boots, only its peers can tell that this is older
        self._older_since = None
        if self._life is None:
            self._noticed = None
            self._engine = None
            self.replication = None
            self.node = None
            self.backup = None

    def _count(self) -> None:
        """What the node counted in this run; and what it should not have had to count."""
        world, replication = self.world, self.replication
        if replication is None:
            return
        if self.backup is not None:
            for name, count in self.backup.tally.as_dict().items():
                world.reached[f"backup: {name}"] += count
        counts = replication.tally.as_dict()
        for name, count in counts.items():
            world.reached[f"status: {name}"] += count
        if counts.get("forks") and not world.may_fork:
            world.fail(f"{self.name} saw a fork, and there was none")
        if counts.get("lost_sites") and not world.was_restored:
            world.fail(f"{self.name} missed what a site wrote, and nobody had lost it")
        if counts.get("new_sites") and not world.was_restored:
            world.fail(f"{self.name} took a new site, and nobody had touched its database")

    def begun(self) -> int:
        """How often its node has begun with a state of the database in this run."""
        return 0 if self.replication is None else self.replication.begun()

    def restore(self, image: bytes, *, is_own: bool) -> None:
        """Puts another database, perhaps an older copy of its own, in place of this one. If the node runs, it is under
        it."""
        if self._life is None:
            self.disk.replace(image)
            self._app = None
        else:
            self._older_since = self.begun() if is_own else None
            self.disk.overwrite(image)

    def lose_disk(self) -> None:
        """Its node ends, and nothing is left of what it had. `is_gone` until it has a database again."""
        if self._life is not None:
            self.resume()
            self.kill()
        self.is_gone = self.is_on = True
        self.disk.trouble = None
        self.disk.files.clear()
        self.disk.replace(Disk().image())
        self._app = None
        shutil.rmtree(self.backup_folder, ignore_errors=True)

    # --- troubles ---

    def pause(self) -> None:
        """Stops the node's process, as SIGSTOP does."""
        assert self._life is not None
        self._life.pause()
        self.world.network.freeze(self.address)

    def resume(self) -> None:
        """And lets it go on."""
        if self._life is not None and self._life.is_paused:
            self._life.resume()
            self.world.network.thaw(self.address)

    def slow_down(self, by_s: float) -> None:
        """Whatever its engine does takes so much longer."""
        if self._engine is not None:
            self._engine.slow_s = by_s


class Everybody:
    """Discovery: everybody there is now, and again in a while."""

    def __init__(self, world: World) -> None:
        self._world = world

    def describe(self) -> str:
        return "everybody"

    async def run(self, found: Callable[[Sequence[Address]], None]) -> None:
        while True:
            found(list(self._world.addresses))
            await asyncio.sleep(5.0)
