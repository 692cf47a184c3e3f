"""One simulation of a cluster in mode primary, from one seed: sessions on all nodes, and whatever may go wrong.

At any moment: no epoch is granted twice (`lease_store`), and no node commits a write of Litecast's while another may.
In the end, when everything was mended: all nodes are equal, and `history` finds nothing."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Final

from cluster.errors import LeaseError, LeaseUnusable
from replication.acknowledging.levels import Ack, Sure
from replication.attaching_declared import attach_declared
from replication.engine.sites import closed, vector
from replication.engine.stamps import Site, epoch_of
from replication.errors import CannotPromote, PositionTimeout, ReplicationError
from replication.positions import Position, joined
from replication.primary.operations import Operation
from replication.primary.standing import Role
from replication.simulation.application import CLUSTER
from replication.simulation.disk import Disk
from replication.simulation.limits import small
from replication.simulation.loop import VirtualLoop
from replication.simulation.network import Climate
from replication.simulation.one_writer.faults import FAULTS, Fault
from replication.simulation.one_writer.history import Call, End, Row, lost, wrong_with
from replication.simulation.one_writer.lease_store import LeaseStore
from replication.simulation.one_writer.machine import WriterMachine
from replication.simulation.one_writer.tables import DECLARED, KEYS, NAMES, SCHEMA
from replication.simulation.result import Result, end_all, result_of
from replication.simulation.world import World

CONVERGES_WITHIN_S: Final = 60.0
BEGINS_WITHIN_S: Final = 20.0
_LOOKS_EVERY_S: Final = 0.25
_CLOSE_LOOKS_EVERY_S: Final = 0.01
_GIVES_UP_S: Final = 20.0
"""After so long a session takes a call for lost whose node is gone."""


def run(seed: int, *, traced: bool = False, faults: Sequence[Fault] | None = None) -> Result:
    """Runs one seed, with these faults and no others if there are any given. Everything it finds is in the result; only
    a bug of the simulator's is raised."""
    with VirtualLoop() as loop, small():
        return loop.run_until_complete(Scenario(seed, loop, traced=traced, faults=faults).run())


class Scenario:
    """One run. Faults work on it; None: some are drawn."""

    def __init__(
        self, seed: int, loop: VirtualLoop, *, traced: bool = False, faults: Sequence[Fault] | None = None
    ) -> None:
        random = self.random = Random(f"{seed}/one writer")
        latency_s = random.choice((0.001, 0.02, 0.1))
        share = random.choice((0.0, 0.0, 0.002, 0.01))
        climate = Climate(latency_max_s=latency_s, frames_lost=share, casts_lost=random.choice((0.0, 0.0, 0.1, 0.3)))
        self.world = World(seed, loop, climate, traced=traced)
        self.world.trims = False
        self.store = LeaseStore(self.world)
        self.machines: list[WriterMachine] = []
        self.is_healing = False
        self.power_was_cut = False
        self.handed_over: set[int] = set()
        self._size = random.choice((3, 3, 3, 4, 5))
        drawn = [fault for fault in FAULTS if random.random() < fault.share]
        self._faults = drawn if faults is None else faults
        self._lasts_s = random.choice((15.0, 25.0))
        self._every_s = self._lasts_s / random.choice((3, 6, 10))
        self._calls: list[Call] = []
        self._newest_epoch = 0
        self._loop = loop

    @property
    def running(self) -> list[WriterMachine]:
        """Machines whose node runs, or is starting."""
        return [machine for machine in self.machines if machine.is_running]

    @property
    def primary(self) -> WriterMachine | None:
        """The one that takes itself for the primary; if several do, one of these."""
        for machine in self.running:
            if machine.leading is not None and machine.leading.role is Role.PRIMARY:
                return machine
        return None

    async def run(self) -> Result:
        """The whole of it."""
        world = self.world
        world.say(
            "seed", f"{world.seed}: {self._size} nodes, {[fault.name for fault in self._faults]}, {world.climate}"
        )
        converged_s = 0.0
        try:
            for number in range(self._size):
                machine = WriterMachine(
                    world,
                    "ABCDE"[number],
                    world.new_address(),
                    self._new_disk(),
                    size=self._size,
                    store=self.store,
                    told=self._committed,
                )
                self.machines.append(machine)
                machine.boot()
            sessions = [self._loop.create_task(self._session(number)) for number in range(4)]
            await self._play()
            self._mend()
            await asyncio.gather(*sessions)
            converged_s = await self._converge()
            if not world.wrong:
                self._judge()
        finally:
            end_all(self.machines)
        return result_of(world, converged_s=converged_s)

    def _new_disk(self) -> Disk:
        disk, random = Disk(), self.random
        connection = disk.connect(full=True)
        for statement in SCHEMA:
            connection.execute(statement)
        site = Site(f"{random.getrandbits(128):032x}")
        attach_declared(connection, DECLARED, cluster=CLUSTER, new_site=lambda: site, one_writer=True)
        disk.kill()
        return disk

    # --- what happens ---

    def _committed(self, machine: WriterMachine, epoch: int) -> None:
        """At the moment of a commit of Litecast's."""
        self.world.note("a commit at the primary")
        machine.say(f"commits in epoch {epoch}")
        if epoch < self._newest_epoch or not epoch:
            self.world.fail(f"{machine.name} commits in epoch {epoch}, after one in epoch {self._newest_epoch}")
        self._newest_epoch = max(epoch, self._newest_epoch)
        for other in self.running:
            if other is not machine and not other.is_paused and other.leading is not None and other.leading.may_write():
                self.world.fail(f"{machine.name} commits in epoch {epoch}, and {other.name} may write too")

    async def _play(self) -> None:
        random, loop = self.random, self._loop
        began_s = loop.time()
        await self._until(lambda: self.primary is not None, began_s + BEGINS_WITHIN_S)
        until_s = loop.time() + self._lasts_s
        while not self.world.wrong:
            after_s = random.expovariate(1 / self._every_s)
            await asyncio.sleep(max(0.0, min(after_s, until_s - loop.time())))
            if loop.time() >= until_s:
                return
            usable = [fault for fault in self._faults if fault.is_possible(self)]
            if usable:
                fault = random.choice(usable)
                self.world.note(f"fault: {fault.name}")
                self.world.say("fault", fault.name)
                fault.do(self)

    async def _until(self, is_so: Callable[[], bool], until_s: float) -> None:
        for _ in iter(lambda: is_so() or self._loop.time() >= until_s, True):
            await asyncio.sleep(_CLOSE_LOOKS_EVERY_S)

    async def hand_over(self, machine: WriterMachine) -> None:
        """As `litecast promote` asks for it."""
        assert machine.leading is not None
        epoch = machine.leading.epoch()
        try:
            await machine.leading.hand_over()
        except (CannotPromote, LeaseError, LeaseUnusable, ReplicationError) as error:
            machine.say(f"hands over nothing: {error}")
        else:
            self.world.note("handed over")
            self.handed_over.add(epoch)

    # --- sessions ---

    async def _session(self, number: int) -> None:
        random = self.world.stream(f"session {number}")
        position, done = Position(), 0
        while not self.is_healing and not self.world.wrong:
            await asyncio.sleep(random.expovariate(4))
            machines = [one for one in self.running if not one.is_paused and one.node is not None and one.node.joined]
            if not machines:
                continue
            machine = random.choice(machines)
            done += 1
            kind = random.choice(("swap", "swap", "swap", "name", "read", "look", "look", "look"))
            call = Call(
                op=f"{number}.{done}",
                session=number,
                node=machine.name,
                key=random.choice(NAMES if kind == "name" else KEYS),
                kind=kind,
                ack=random.choice((Ack.LOCAL, Ack.LOCAL, Ack.LOCAL, Ack.ONE, Ack.QUORUM)),
                began_s=self._loop.time(),
            )
            self._calls.append(call)
            machine.begin_call(self._call(machine, call, position))
            run, until_s = machine.runs, self._loop.time() + _GIVES_UP_S
            await self._until(partial(_is_over, call, machine, run), until_s)
            position = joined([position, call.position])

    async def _call(self, machine: WriterMachine, call: Call, position: Position) -> None:
        try:
            await self._do(machine, call, position)
        except PositionTimeout:
            self.world.note("a session waited in vain")
        except ReplicationError as error:
            self.world.note(f"refused: {type(error).__name__}")
            machine.say(f"{call.op} on {call.key}: {type(error).__name__}: {error}")
        else:
            call.is_done, call.ended_s = True, self._loop.time()
            machine.say(f"{call.op}: {call.kind} of {call.key} is done, saw {call.saw}, version {call.version}")
        call.is_over = True

    async def _do(self, machine: WriterMachine, call: Call, position: Position) -> None:
        replication, leading, forwarding = machine.replication, machine.leading, machine.forwarding
        assert replication is not None
        assert leading is not None
        assert forwarding is not None
        if call.kind in ("swap", "name"):
            call.was_forwarded = not leading.may_write()
            operation = (
                Operation("function", ("swap", [call.op, call.key]))
                if call.kind == "swap"
                else Operation("insert", ("names", {"name": call.key, "op": call.op}))
            )
            row = await machine.write(operation, Sure(level=call.ack, timeout_s=2.0))
            call.position = row.position
            if call.kind == "swap":
                call.saw, call.version = row["saw"], row["version"]
            return
        if call.kind == "read":
            position = joined([position, await forwarding.latest()])
        await replication.wait_for(position, timeout_s=3.0)
        found = machine.app.execute("SELECT op, version FROM registers WHERE key = ?", (call.key,)).fetchone()
        call.saw, call.version = found or (None, 0)
        call.position = machine.position()

    # --- the end ---

    def later(self, most_s: float, do: Callable[[], None]) -> None:
        """Does it some time later, if it is not mended by then."""
        self._loop.call_later(self.random.random() * most_s, lambda: None if self.is_healing else do())

    def _mend(self) -> None:
        world = self.world
        self.is_healing = True
        world.say("heal", "")
        world.weather.is_calm = True
        self.store.is_down, self.store.slow_s, self.store.loses_answers = False, 0.0, 0.0
        for one in world.addresses:
            world.weather.speed_up(one)
            for other in world.addresses:
                world.network.heal(one, other)
        for machine in self.machines:
            machine.skew_ms = 0
            machine.is_on = True
            if machine.is_running:
                machine.resume()
                machine.slow_down(0.0)
            else:
                machine.boot()

    async def _converge(self) -> float:
        began_s = self._loop.time()
        while not self.world.wrong and not self._is_equal():
            if self._loop.time() - began_s > CONVERGES_WITHIN_S:
                self.world.fail(f"not equal {CONVERGES_WITHIN_S} s after everything was mended: {self._what_is_not()}")
            await asyncio.sleep(_LOOKS_EVERY_S)
        self.world.say("heal", "equal")
        return self._loop.time() - began_s

    def _is_equal(self) -> bool:
        for machine in self.machines:
            replication, leading = machine.replication, machine.leading
            if replication is None or leading is None or machine.node is None or not machine.node.joined:
                return False
            if not replication.status().ready or machine.has_pending() or replication.view().tail:
                return False
        writing = [machine for machine in self.machines if machine.leading is not None and machine.leading.may_write()]
        first, *others = [_content(machine) for machine in self.machines]
        return len(writing) == 1 and all(one == first for one in others)

    def _what_is_not(self) -> str:
        return "; ".join(
            f"{machine.name}: {machine.leading.status() if machine.leading else None},"
            f" {machine.replication.status() if machine.replication else None}, {_content(machine)}"
            for machine in self.machines
        )

    def _judge(self) -> None:
        app = self.machines[0].app
        rows: dict[str, list[Row]] = {}
        for op, key, saw, version in app.execute("SELECT op, key, saw, version FROM ops"):
            rows.setdefault(op, []).append(Row(key, saw, version))
        for op, name in app.execute("SELECT op, name FROM names"):
            rows.setdefault(op, []).append(Row(name, None, 0))
        names = [name for (name,) in app.execute("SELECT name FROM names")]
        if len(names) != len(set(names)):
            self.world.fail(f"names that are not unique: {names}")
        end = End(
            rows=rows,
            size=self._size,
            handed_over=frozenset(self.handed_over),
            last=max(map(epoch_of, vector(app)), default=0),
            power_was_cut=self.power_was_cut,
        )
        self.world.reached["acknowledged, and lost as it may be"] += lost(self._calls, end)
        self.world.reached["calls done"] += sum(call.is_done for call in self._calls)
        for wrong in wrong_with(self._calls, end):
            self.world.fail(wrong)


def _is_over(call: Call, machine: WriterMachine, run: int) -> bool:
    return call.is_over or machine.runs != run or not machine.is_running


def _content(machine: WriterMachine) -> object:
    app, branches = machine.app, closed(machine.app)
    merged = {site: head for site, head in vector(app).items() if site not in branches}
    tables = [app.execute(f"SELECT * FROM {table.name} ORDER BY 1").fetchall() for table in DECLARED]
    return merged, tables
