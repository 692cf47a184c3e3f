"""What the nodes said is safe in the bucket, and whether a restore brings it, now and ever after.

Whenever a node reports how far a restore would come, that is written down. A restore that begins later has to bring it,
whatever happened to the machines and to the store in between: changesets up to there, and each op that was acknowledged
and is before it. What comes beside it has to be exact: as the reference has it, with counters that add up."""

import logging
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final

from replication.backup.errors import BackupDamaged, BackupError, BackupRefused, BackupUnreachable, NothingToRestore
from replication.backup.restoring import restore
from replication.engine.sites import closed, vector
from replication.engine.stamps import Site, Stamp
from replication.positions import Position
from replication.simulation.application import CLUSTER, hidden, present
from replication.simulation.migrating import version
from replication.simulation.object_store import SPOILS, ObjectStore, SimulatedBucket
from replication.simulation.oracle import Oracle, rows_of
from replication.simulation.reference import differences
from replication.simulation.slow_engine import SlowEngine
from replication.simulation.world import World

RESTORES: Final = "somebody restores"

log = logging.getLogger(__name__)


class BackedUp:
    """See the module. `folder`: for real files."""

    def __init__(self, world: World, oracle: Oracle, folder: Path) -> None:
        self.store = ObjectStore(world)
        self._world = world
        self._oracle = oracle
        self._folder = folder
        self._reported: dict[Site, Stamp] = {}
        self._promised: set[str] = set()
        """Ops that a restore has to bring."""
        self._changesets: set[bytes] = set()
        """What disks held that are gone."""
        self._restores = 0

    # --- what nodes say ---

    def reports(self, position: Position) -> None:
        """A node said how far a restore comes."""
        news = {site: at for site, at in position.stamps.items() if at > self._reported.get(site, -2)}
        if not news:
            return
        self._reported |= news
        if self._world.was_restored:
            return  # what was written into a copy that nobody had seen as one yet is stamped under another site
        for op in self._oracle.ops.values():
            is_safe = all(at <= self._reported.get(site, -2) for site, at in op.position.stamps.items())
            if is_safe and op.name not in self._oracle.may_be_lost:
                self._promised.add(op.name)

    def all_disks_are_lost(self, connections: Iterable[sqlite3.Connection]) -> int:
        """These were all the databases. Gives how many acknowledged ops are lost with them: those of which nobody had
        said that they are safe."""
        for connection in connections:
            self._changesets |= _journal(connection)
        lost = self._oracle.ops.keys() - self._oracle.may_be_lost - self._promised
        self._oracle.may_be_lost |= lost
        self._oracle.may_be_held |= self._oracle.ops.keys()
        return len(lost)

    # --- restores ---

    def begin_restore(self, journals: Callable[[], Iterable[sqlite3.Connection]]) -> None:
        """Somebody restores while all goes on, and looks at what came. `journals`: the databases there are then."""
        world = self._world
        life = world.loop.begin(RESTORES)
        reported, promised = dict(self._reported), set(self._promised)
        lists_late = self.store.lists_after_s > 0
        task = life.create_task(self._restored(self.store), name=RESTORES)

        def ended() -> None:
            life.end()
            if task.cancelled():
                return
            if (error := task.exception()) is None:
                world.note("restored meanwhile")
                if lists_late or self.store.lists_after_s > 0:
                    reported.clear()  # what was uploaded a moment ago cannot be seen to be there
                    promised.clear()
                if world.was_ahead_alone:
                    promised.clear()  # see DESIGN: until all know what is stamped again, a snapshot may lack it
                self._look(task.result(), reported, promised, journals())
            elif isinstance(error, NothingToRestore):
                if reported and not lists_late:
                    world.fail(f"nothing could be restored, and {reported} was reported")
            elif isinstance(error, BackupUnreachable | BackupDamaged | BackupRefused):
                world.note(f"not restored: {type(error).__name__}")
                if not isinstance(error, BackupUnreachable) and not self._may_be_spoiled(lists_late):
                    world.fail(f"a restore says of a sound bucket: {error}")
            else:
                log.error("a restore", exc_info=error)
                world.fail(f"a restore ended with {type(error).__name__}: {error}")

        task.add_done_callback(lambda _: ended())

    def _may_be_spoiled(self, lists_late: bool) -> bool:
        return lists_late or self.store.lists_after_s > 0 or self.store.was_spoiled

    async def check(self, live: sqlite3.Connection, journals: Iterable[sqlite3.Connection]) -> None:
        """In the end: all that was ever reported is there, and what is restored is what the cluster has."""
        world = self._world
        try:
            image = await self._restored(self.store)
        except BackupError as error:
            return world.fail(f"in the end nothing is restored: {error}")
        with closing(_opened(image)) as restored:
            self._look(image, self._reported, self._promised, journals)
            if vector(restored) == vector(live) and closed(restored) == closed(live):
                world.note("restored all that the cluster has")
                # The last snapshot may be of before a migration, or of while rows of who had not migrated were held.
                is_same = version(restored) == version(live) and not hidden(restored)
                if is_same and (wrong := differences(rows_of(live), rows_of(restored))):
                    world.fail(f"what is restored has other rows than the cluster: {wrong[:4]}")
        return await self._check_damaged(world.stream("damage"), journals)

    async def _check_damaged(self, random: Random, journals: Iterable[sqlite3.Connection]) -> None:
        """An object is spoiled for good: a restore names it, or did not need it. One that is gone, and was the last,
        cannot be missed."""
        world = self._world
        name, how = random.choice(sorted(self.store.objects)), random.choice(sorted(SPOILS))
        spoiled = ObjectStore(world)
        spoiled.objects |= self.store.objects
        content = SPOILS[how](spoiled.objects.pop(name), random)
        if content is not None:
            spoiled.objects[name] = content
        world.say("damage", f"{name} is {how}")
        try:
            image = await self._restored(spoiled)
        except BackupError as error:
            world.note(f"damage: {how}, and seen")
            if how != "missing" and name not in str(error) and not isinstance(error, BackupRefused):
                world.fail(f"{name} was {how}, and a restore says: {error}")
        else:
            world.note(f"damage: {how}, and not in the way")
            kept = how != "missing"
            self._look(image, self._reported if kept else {}, self._promised if kept else set(), journals)

    async def _restored(self, store: ObjectStore) -> bytes:
        """The file's bytes. Raises as `restore` does."""
        self._restores += 1
        random = Random(f"{self._world.seed}/restore {self._restores}")
        path = self._folder / f"restore-{self._restores}.db"
        await restore(
            SimulatedBucket(store, RESTORES),
            path,
            engine=SlowEngine(random, stalls=0.0),
            now_ms=self._world.true_ms,
            new_site=lambda: Site(f"{random.getrandbits(128):032x}"),
            new_nonce=lambda: random.randbytes(16),
            cluster=CLUSTER,
        )
        with closing(sqlite3.connect(path)) as found:
            image = found.serialize()
        path.unlink()
        return image

    def _look(
        self,
        image: bytes,
        reported: dict[Site, Stamp],
        promised: set[str],
        journals: Iterable[sqlite3.Connection],
    ) -> None:
        world = self._world
        if world.may_fork:
            reported, promised = {}, set()  # of two histories of a site the bucket may be the only one that has one
        with closing(_opened(image)) as restored:
            heads, is_closed = vector(restored), closed(restored)
            for site, at in reported.items():
                if site not in is_closed and (site not in heads or heads[site].stamp < at):
                    world.fail(f"{at:x} of site {site} was reported as safe, and a restore comes to {heads.get(site)}")
            if missing := promised - present(restored):
                world.fail(f"reported as safe, and not restored: {sorted(missing)}")
            for wrong in self._oracle.observe(restored, may_fork=world.may_fork):
                world.fail(f"restored: {wrong}")
            changesets = self._changesets.union(*map(_journal, journals))
            for wrong in self._oracle.check_restored(restored, changesets):
                world.fail(f"restored: {wrong}")


def _journal(connection: sqlite3.Connection) -> set[bytes]:
    return {encoded for (encoded,) in connection.execute("SELECT bytes FROM _litecast_journal")}


def _opened(image: bytes) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(image)
    return connection
