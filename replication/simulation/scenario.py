"""One simulation, from one seed: a cluster, an application on each machine, and whatever may go wrong.

A seed decides how many machines there are, what they hold to begin with, how bad the network is, and which kinds of
faults there will be: a few kinds in each run, so that none hides what another would show. Then, for some seconds of
virtual time, applications write and faults happen. At last everything is mended, and within a bound everything must
be equal, and as the oracle has it."""

import asyncio
import logging
from collections.abc import Callable
from math import inf
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from replication.attaching_declared import attach_declared
from replication.convergent.status import ReplicationStatus
from replication.engine.folding import is_due
from replication.engine.sites import closed, vector
from replication.engine.stamps import Site, ms_of
from replication.errors import PositionTimeout
from replication.simulation.application import CLUSTER, DECLARED, SCHEMA, Application, Op, hidden, present
from replication.simulation.backed_up import BackedUp
from replication.simulation.bucket_faults import BUCKET_FAULTS, NOT_WITH_TOTAL_LOSS, SHARE, TOTAL_LOSS
from replication.simulation.disk import Disk
from replication.simulation.faults import (
    AHEAD_ALONE,
    AHEAD_MS,
    BACK_UP,
    BY_THEMSELVES,
    FAULTS,
    JOIN_WITH_A_COPY,
    MACHINES_MAX,
    MIGRATE,
    NOT_WITH_AHEAD_ALONE,
    RESTORE_SEVERAL,
    SKEW_MAX_MS,
    Backup,
    Fault,
)
from replication.simulation.fetching import Fetching
from replication.simulation.limits import small
from replication.simulation.loop import VirtualLoop
from replication.simulation.machine import CLOCK_BOUND_MS, Machine
from replication.simulation.migrating import MIGRATIONS, migrate
from replication.simulation.network import Climate
from replication.simulation.oracle import Oracle
from replication.simulation.result import Result, end_all, result_of
from replication.simulation.world import World

CONVERGES_WITHIN_S: Final = 120.0
"""Of virtual time, after everything was mended. Waiting for a stamp from the future to come true takes the longest."""
_UPLOADED_WITHIN_S: Final = 120.0
"""After that. A node that failed for long tries again after half a minute, and then others hear of it."""
_LOOKS_EVERY_S: Final = 0.5
_TO_MERGE_MS: Final = 20_000
"""So long after the time has come for what was stamped ahead, everybody has merged it: heads travel each second."""
_FORGETS_AFTER_S: Final = 60.0
"""Then somebody looks why nodes are not equal, and does what they ask for."""
_POSITIONS: Final = 0.15
"""For so many of the ops somebody waits elsewhere."""
_READER_WAITS_S: Final = 5.0
_NAMES: Final = "ABCDEFGHIJKLMNOP"

log = logging.getLogger(__name__)


def run(seed: int, *, traced: bool = False) -> Result:
    """Runs one seed. Everything it finds is in the result; only a bug of the simulator's is raised."""
    with VirtualLoop() as loop, small():
        return loop.run_until_complete(Scenario(seed, loop, traced=traced).run())


class Scenario:
    """One run. `faults` work on it."""

    def __init__(self, seed: int, loop: VirtualLoop, *, traced: bool) -> None:
        random = self.random = Random(f"{seed}/scenario")
        self.world: World = World(seed, loop, _climate(random), traced=traced)
        self.oracle = Oracle(trims=self.world.trims)
        self.machines: list[Machine] = []
        self.backups: list[Backup] = []
        self.is_healing = False
        self.has_lost_all: bool = False
        self.backed_up: BackedUp | None = None
        """The bucket, if the seed has one."""
        self._readers: list[asyncio.Task[None]] = []
        self._applications: dict[Machine, Application] = {}
        self._loop = loop
        self._full_share = random.choice((0.0, 0.5, 1.0))
        self._stalls = random.choice((0.0, 0.01, 0.1))
        self._begins_with = random.choice(("nothing", "nothing", "the same", "something like it"))
        drawn = {fault.name: fault for fault in FAULTS if random.random() < fault.share}
        needed = {fault.needs for fault in drawn.values()}
        self._faults: list[Fault] = [fault for fault in FAULTS if fault.name in drawn or fault.name in needed]
        self._faults += [fault for fault in BY_THEMSELVES if self.world.stream(fault.name).random() < fault.share]
        if RESTORE_SEVERAL in self._faults and BACK_UP not in self._faults:
            self._faults.append(BACK_UP)
        if self.world.stream("ahead alone").random() < AHEAD_ALONE.share and not (
            NOT_WITH_AHEAD_ALONE & {fault.name for fault in self._faults}
        ):
            self._faults.append(AHEAD_ALONE)
        self._has_bucket = self.world.stream("has a bucket").random() < SHARE
        if self._has_bucket:
            self._faults += [fault for fault in BUCKET_FAULTS if self.world.stream(fault.name).random() < fault.share]
            if NOT_WITH_TOTAL_LOSS & {fault.name for fault in self._faults}:
                self._faults = [fault for fault in self._faults if fault is not TOTAL_LOSS]
        self._fetching: list[Machine] = []
        """Machines that have no database yet."""
        self._migrates = self.world.stream("migrations").random() < MIGRATE.share
        if self._migrates:
            self._faults.append(MIGRATE)
        self._lasts_s = random.choice((8.0, 12.0, 20.0))
        self._writes = random.choice((20, 40, 60))
        self._machines_at_first = random.choice((3, 3, 3, 3, 4, 4, 5, 5, 6, 7))

    # --- machines ---

    @property
    def members(self) -> list[Machine]:
        """Machines that did not leave."""
        return [machine for machine in self.machines if not machine.is_gone]

    @property
    def running(self) -> list[Machine]:
        """Machines whose node runs, or is starting."""
        return [machine for machine in self.members if machine.is_running]

    @property
    def has_room(self) -> bool:
        """Whether one more machine may join."""
        return len(self.machines) + len(self._fetching) < MACHINES_MAX

    def add_machine(self, disk: Disk | None = None) -> Machine:
        """One more machine, with a database of its own or this one, and its node is started."""
        machine = self._new_machine(self._new_disk() if disk is None else disk)
        self._begin(machine)
        return machine

    def add_machine_without_a_database(self) -> Machine:
        """One more machine: it fetches a copy of a peer's, and then its node is started."""
        machine = self._new_machine(Disk())
        self._fetch(machine)
        return machine

    def _fetch(self, machine: Machine, *, after_s: float = 0.0) -> None:
        folder = self.world.folder
        assert folder is not None, "the seed has such machines"
        self._fetching.append(machine)

        def has_it() -> None:
            self._fetching.remove(machine)
            self._begin(machine)

        fetching = Fetching(machine, folder, has_it)
        if after_s:
            self._loop.call_later(after_s, fetching.begin)
        else:
            fetching.begin()

    def lose_all_disks(self) -> None:
        """Nothing is left but the bucket. The machines come back, each some time later, with whatever they get."""
        assert self.backed_up is not None, "the seed has a bucket"
        self.has_lost_all = self.oracle.may_miss_beginnings = True
        machines = self.members
        lost = self.backed_up.all_disks_are_lost([machine.disk.connect() for machine in self.machines])
        self.world.say("fault", f"all disks are lost, and {lost} ops of which nobody had said that they are safe")
        for machine in machines:
            machine.lose_disk()
            self.machines.remove(machine)
            self._fetch(machine, after_s=2.0 * self.random.random())

    def _new_machine(self, disk: Disk) -> Machine:
        return Machine(
            self.world,
            _NAMES[len(self.machines) + len(self._fetching)],
            self.world.new_address(),
            disk,
            full=self.random.random() < self._full_share,
            stalls=self._stalls,
            backed_up=self.backed_up,
        )

    def _begin(self, machine: Machine) -> None:
        machine.is_gone = False
        self.machines.append(machine)
        if machine not in self._applications:
            self._applications[machine] = Application(self.world.stream(f"application {machine.name}"), machine.name)
        machine.boot()
        if self.is_healing and self._migrates:
            self.migrate(machine)  # its copy came only now, perhaps of a machine that had not

    def _new_disk(self) -> Disk:
        disk, random = Disk(), self.random
        connection = disk.connect(full=True)
        for statement in SCHEMA:
            connection.execute(statement)
        if self._begins_with != "nothing" and (self._begins_with == "the same" or random.random() < 0.7):
            drift = 0 if self._begins_with == "the same" else random.randrange(4)
            connection.execute("INSERT INTO pages (page, n, title) VALUES ('a', ?, 'base')", (30 + drift,))
            connection.execute("INSERT INTO notes (id, low, high, by) VALUES ('u', ?, 50, 'base')", (drift,))
        self.oracle.begins_with(connection)
        site = Site(f"{random.getrandbits(128):032x}")
        attach_declared(connection, DECLARED, cluster=CLUSTER, new_site=lambda: site)
        disk.kill()
        return disk

    # --- what happens ---

    async def run(self) -> Result:
        """The whole of it."""
        if JOIN_WITH_A_COPY not in self._faults and not self._has_bucket:
            return await self._run()
        with TemporaryDirectory(prefix="litecast-simulation-") as folder:
            self.world.folder = Path(folder)
            if self._has_bucket:
                self.backed_up = BackedUp(self.world, self.oracle, self.world.folder)
            return await self._run()

    async def _run(self) -> Result:
        world = self.world
        world.say("seed", f"{world.seed}: {[fault.name for fault in self._faults]}, {world.climate}")
        try:
            for _ in range(self._machines_at_first):
                self.add_machine()
            await self._play()
            converged_s = await self._heal()
        finally:
            end_all((*self.machines, *self._fetching))
        return result_of(world, converged_s=converged_s)

    async def _play(self) -> None:
        random, loop = self.random, self._loop
        until_s = loop.time() + self._lasts_s
        writes_every_s = self._lasts_s / self._writes
        faults_every_s = self._lasts_s / random.choice((4, 8, 14))
        next_write_s = loop.time() + random.random()
        next_fault_s = loop.time() + random.expovariate(1 / faults_every_s)
        while not self.world.wrong:
            now_s = min(next_write_s, next_fault_s)
            if now_s > until_s:
                return
            await asyncio.sleep(now_s - loop.time())
            if now_s == next_write_s:
                self._write()
                next_write_s += random.expovariate(1 / writes_every_s)
            else:
                self._fault()
                next_fault_s += random.expovariate(1 / faults_every_s)

    def _write(self) -> None:
        random = self.random
        if not self.members:
            return  # all have lost their disks
        machine = random.choice(self.members)
        if not machine.is_on:
            return
        for _ in range(random.choice((1, 1, 1, 1, 4))):
            self.write(machine)
            if not machine.is_on:
                return  # the power went with a commit
        if random.random() < 0.3:
            self.observe(random.choice(self.members))

    def write_many(self, machine: Machine) -> None:
        """One transaction of very many rows."""
        ops = self._written(machine, lambda: self._applications[machine].write_many(machine.app))
        if ops:
            self.oracle.together(ops)
            machine.say(f"application: {len(ops)} ops from {ops[0].name} on")
            for op in ops:
                self.oracle.acknowledged(op) if machine.is_on else self.oracle.in_doubt(op)

    def _written(self, machine: Machine, write: Callable[[], list[Op]]) -> list[Op]:
        """What the application wrote; nothing if the disk has its troubles, or the power went."""
        try:
            return write()
        except Exception as error:
            if machine.is_on and machine.disk.trouble is None:
                raise
            machine.say(f"application: {error}")
            return []

    def write(self, machine: Machine) -> None:
        """One transaction of the application's."""
        found = self._written(machine, lambda: [self._applications[machine].write(machine.app)])
        if not found:
            return
        (op,) = found
        machine.say(f"application: {op}")
        if not machine.is_on:
            self.oracle.in_doubt(op)
            return
        self.oracle.acknowledged(op)
        if self.random.random() < _POSITIONS and machine.replication is not None and machine.node is not None:
            machine.replication.committed(op.position)
            reader = self.random.choice(self.members)
            self._readers.append(self._loop.create_task(self._read_at(reader, op)))

    async def _read_at(self, machine: Machine, op: Op) -> None:
        """A reader elsewhere waits until it can see what was written, and then it can."""
        replication, run = machine.replication, machine.runs
        if replication is None or machine.node is None:
            return
        try:
            await replication.wait_for(op.position, timeout_s=_READER_WAITS_S)
        except PositionTimeout:
            self.world.note("a reader waited in vain")
            return
        if machine.runs == run and machine.is_running and not self.world.was_restored:
            self.world.note("a reader waited for a position")
            if op.name not in present(machine.app) | self.oracle.may_be_lost:
                self.world.fail(f"{machine.name} has reached {op.position}, and does not show op {op.name}")

    def migrate(self, machine: Machine, *, most: int = len(MIGRATIONS)) -> None:
        """Runs the next migrations on a machine."""
        try:
            done = migrate(machine.app, most=most)
        except Exception as error:
            if machine.is_on and machine.disk.trouble is None:
                raise
            machine.say(f"migration: {error}")
            return
        machine.say(f"migrated {done} times")

    def observe(self, machine: Machine) -> None:
        """A reader looks."""
        if machine.is_on:
            for wrong in self.oracle.observe(machine.app, may_fork=self.world.may_fork):
                self.world.fail(f"{machine.name}: {wrong}")

    def _fault(self) -> None:
        usable = [fault for fault in self._faults if fault.is_possible(self)]
        if usable:
            fault = self.random.choices(usable, [fault.weight for fault in usable])[0]
            self.world.note(f"fault: {fault.name}")
            self.world.say("fault", fault.name)
            fault.do(self)

    # --- the end ---

    async def _heal(self) -> float:
        """Mends everything, waits until all is equal, and lets the oracle look. Gives how long that took."""
        world, loop = self.world, self._loop
        if world.wrong:
            return 0.0
        self.is_healing = True
        world.say("heal", "")
        self._mend()
        began_s = loop.time()
        forgets_at_s = began_s + _FORGETS_AFTER_S
        while not self._have_converged():
            if loop.time() >= forgets_at_s:
                forgets_at_s = inf
                self._forget_who_left()
            late_s = loop.time() - began_s - CONVERGES_WITHIN_S
            if late_s > 0 and late_s > self._waits_for_s():
                world.fail(f"not equal {CONVERGES_WITHIN_S} s after everything was mended: {self._what_is_not()}")
                return loop.time() - began_s
            if world.wrong:
                return 0.0
            await asyncio.sleep(_LOOKS_EVERY_S)
        for reader in self._readers:
            if reader.done() and not reader.cancelled() and (error := reader.exception()) is not None:
                world.fail(f"a reader failed: {error!r}")
        converged_s = loop.time() - began_s
        world.say("heal", f"equal after {converged_s} s")
        await self._check_backup()
        for wrong in self.oracle.check([machine.app for machine in self.members]):
            world.fail(wrong)
        for machine in self.members:
            (clock,) = machine.app.execute("SELECT clock FROM _litecast_state").fetchone()
            if ms_of(clock) > self._latest_ms():
                world.fail(f"the clock of {machine.name} was driven {ms_of(clock) - world.true_ms()} ms ahead")
        return converged_s

    async def _check_backup(self) -> None:
        """All is uploaded some time after nothing hinders it, and comes back."""
        if self.backed_up is None:
            return
        began_s = self._loop.time()
        while lacking := self._lacking():
            if self.world.was_restored and any("another history" in one or "came to no node" in one for one in lacking):
                # Whose database a snapshot was of has another one's, and nobody else had heard of it.
                self.world.note("the bucket has a history that the cluster has lost")
                return
            if self._loop.time() - began_s > _UPLOADED_WITHIN_S:
                self.world.fail(f"not uploaded {_UPLOADED_WITHIN_S} s after all was equal: {lacking}")
                return
            await asyncio.sleep(_LOOKS_EVERY_S)
        self.world.say("heal", f"uploaded {self._loop.time() - began_s} s later")
        connections = [machine.disk.connect() for machine in self.machines]
        await self.backed_up.check(self.members[0].app, connections)

    def _lacking(self) -> list[str]:
        """What is not in the bucket, or not known to be there."""
        return [
            f"{machine.name}: {'not up' if machine.backup is None else machine.backup.status()}"
            for machine in self.members
            if machine.backup is None or machine.backup.status().problem or machine.backup.status().lacking
        ]

    def _latest_ms(self) -> int:
        """How far stamps may be: one machine's clock alone drives nobody's, but it may what a second one has shown."""
        *_, second, _ = sorted(machine.latest_ms for machine in self.machines)
        return max(self.world.true_ms() + SKEW_MAX_MS, second) + CLOCK_BOUND_MS

    def _mend(self) -> None:
        world = self.world
        world.weather.is_calm = True
        if self.backed_up is not None:
            self.backed_up.store.mend()
        for one in world.addresses:
            world.weather.speed_up(one)
            for other in world.addresses:
                world.network.heal(one, other)
        for machine in (*self.members, *self._fetching):
            machine.disk.trouble = None
            machine.skew_ms = 0
            machine.is_notified = True
            machine.is_on = True
        for machine in self.members:
            if machine.is_running:
                machine.resume()
                machine.slow_down(0.0)
            else:
                machine.boot()
            if self._migrates:
                self.migrate(machine)

    def _waits_for_s(self) -> float:
        """How much longer it may take. A machine that lost its site after a clock far ahead had stamped cannot stamp
        that again: all wait until time has come, and a moment longer."""
        latest_ms = self.world.true_ms() - _TO_MERGE_MS
        for machine in self.members:
            own = None if (status := _status(machine)) is None else status.site
            if any(site != own and ms_of(head.stamp) > latest_ms for site, head in vector(machine.app).items()):
                return AHEAD_MS / 1000
        return 0.0

    def _forget_who_left(self) -> None:
        """What somebody does who reads that a node waits for one that is gone for good."""
        gone = {machine.name for machine in self.machines if machine.is_gone}
        for machine in self.members:
            notes = () if (status := _status(machine)) is None else status.notes
            waited_for = {word for note in notes if "--forget" in note for word in note.replace(",", " ").split()}
            if names := sorted(gone & waited_for):
                self.world.say("heal", f"{machine.name} waits for {names}, who left: they are forgotten")
                machine.forget(names)

    def _have_converged(self) -> bool:
        members = self.members
        if self._fetching or any(machine not in self.machines for machine in self._applications):
            return False
        held = [hidden(machine.app) for machine in members]
        if any(one != held[0] for one in held):
            return False
        if held[0]:
            # Its machine lost it before it migrated, and all others got it after they had.
            self.world.note("no machine has migrated a row that is held")
        for machine in members:
            replication = machine.replication
            if replication is None or machine.node is None or not machine.node.joined:
                return False
            status = replication.status()
            if not status.ready or is_due(machine.app) or replication.is_ahead() or status.site in closed(machine.app):
                return False
        first = _merged(members[0])
        return all(_merged(machine) == first for machine in members[1:]) and not self._is_anything_on_its_way()

    def _is_anything_on_its_way(self) -> bool:
        """Whether something waits that can still be merged: not the tail of a site that died with its beginning."""
        replications = [machine.replication for machine in self.members if machine.replication is not None]
        writing = {replication.status().site for replication in replications}
        waiting = [site for replication in replications for site, _ in replication.waiting()]
        if waiting and writing.isdisjoint(waiting):
            self.world.note("the tail of a dead site waits")
        return not writing.isdisjoint(waiting)

    def _what_is_not(self) -> str:
        return "; ".join(
            f"{machine.name}: {machine.replication.status() if machine.replication else 'not open'},"
            f" log due: {is_due(machine.app)}, {_merged(machine)}"
            for machine in self.members
        )


def _merged(machine: Machine) -> object:
    """What a machine has merged: equal on two of them if nothing is missing on either."""
    branches = closed(machine.app)
    return {site: head for site, head in vector(machine.app).items() if site not in branches}, branches


def _climate(random: Random) -> Climate:
    def share(*of: float) -> float:
        return random.choice((0.0, 0.0, *of))

    return Climate(
        latency_max_s=random.choice((0.001, 0.02, 0.1)),
        frames_lost=share(0.002, 0.02),
        frames_repeated=share(0.01, 0.1),
        frames_overtaken=share(0.01, 0.05),
        casts_lost=share(0.05, 0.3, 1.0),
        casts_repeated=share(0.1, 0.3),
        casts_late=share(0.1, 0.5),
    )


def _status(machine: Machine) -> ReplicationStatus | None:
    """How its node's replication stands; None if it does not run yet."""
    if machine.replication is None or machine.node is None or not machine.node.joined:
        return None
    return machine.replication.status()
