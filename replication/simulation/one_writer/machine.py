"""A simulated machine whose node is in mode primary: its lease, its roles, and its way to where writes go."""

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any, Final

from cluster.address import Address
from cluster.lease.deciding import MAX_DRIFT
from cluster.lease.object_store import ObjectStoreLease
from cluster.node import Node
from cluster.seldom import SeldomLog
from cluster.supervisor import ActorChild
from replication.acknowledging.confirming import CONFIRMING, Confirming
from replication.acknowledging.levels import Ack, Sure
from replication.acknowledging.worker import ConfirmingWorker
from replication.convergent.replication import Replication
from replication.engine.logs import last_logged
from replication.engine.sites import vector
from replication.engine.stamps import Site
from replication.positions import Position, of_next_fold
from replication.primary.carrying_out import CarryingOut
from replication.primary.folded_writes import FoldedWrites
from replication.primary.forwarding import WRITES, Forwarding, Timeouts
from replication.primary.leading import Leading, Settings
from replication.primary.operations import Operation
from replication.primary.standing import PRIMARY, fence_message
from replication.primary.together import Together
from replication.primary.workers import PrimaryWorker, WritesWorker, log
from replication.simulation.application import CLUSTER
from replication.simulation.disk import Disk
from replication.simulation.machine import Machine
from replication.simulation.network import ShakyCasts
from replication.simulation.one_writer.lease_store import LeaseStore
from replication.simulation.one_writer.tables import DECLARED, FUNCTIONS
from replication.simulation.slow_engine import SlowEngine
from replication.simulation.world import World
from replication.tables import Tables
from replication.transaction import Surroundings, Transaction, Written, in_transaction

TTL_S: Final = 3.0
TIMEOUTS: Final = Timeouts(hold_s=4.0, call_s=3.0, visible_s=3.0)

type Committed = Callable[["WriterMachine", int], None]
"""Told of each commit at the moment at which it is one, with the epoch of its node."""


class WriterMachine(Machine):
    """See the module."""

    declared = DECLARED

    def __init__(
        self, world: World, name: str, address: Address, disk: Disk, *, size: int, store: LeaseStore, told: Committed
    ) -> None:
        super().__init__(world, name, address, disk, full=True, stalls=0.01)
        self.fence = fence_message(None, name)
        self.leading: Leading | None = None
        self.forwarding: Forwarding | None = None
        self.lost_s = 0.0
        """For so long did its monotonic clock stand still, which no clock that keeps its promise does."""
        self._confirming: Confirming | None = None
        self._size = size
        self._store = store
        self._told = told
        random = world.stream(f"boot clock {name}")
        self._began_s = random.uniform(0, 1e5)
        self._rate = 1 + random.choice((-1.0, 1.0, random.uniform(-1, 1))) * MAX_DRIFT
        self._writes: SlowEngine | None = None
        self._tables = Tables()

    def boot_clock_s(self) -> float:
        """The clock of its lease: at its own rate, and set by nobody."""
        return self._began_s + self.world.loop.time() * self._rate - self.lost_s

    # --- what an application does on it ---

    def begin_call(self, call: Awaitable[None]) -> None:
        """Runs it as a part of the node's process: it ends with that."""

        async def run() -> None:
            await call

        assert self._life is not None
        _ = self._life.create_task(run())

    async def write(self, operation: Operation, sure: Sure) -> Any:
        """As `Repo` writes: here, or where writes go. Raises what that raises."""
        forwarding = self.forwarding
        assert forwarding is not None, "the node runs"

        async def here() -> Any:
            written = await self._transact(lambda transaction: operation.run(transaction, FUNCTIONS))
            await self._confirmed(written, sure)
            return written.result

        return await forwarding.write(lambda: operation, here, wait=True, sure=sure)

    def has_pending(self) -> bool:
        """Whether something is written that stands in no changeset yet."""
        tids = [tid for (tid,) in self.app.execute("SELECT tid FROM _litecast_catalogue")]
        return any(last is not None for last in last_logged(self.app, tids).values())

    def position(self) -> Position:
        """Of all that can be read in its file now; empty before anybody was the primary."""
        (epoch,) = self.app.execute("SELECT epoch FROM _litecast_one_writer").fetchone() or (None,)
        if epoch is None:
            return Position()
        site, pending = Site(str(epoch)), of_next_fold(self.app)
        if site in pending.stamps and self.has_pending():
            return pending
        head = vector(self.app).get(site)
        return Position() if head is None else Position({site: head.stamp})

    # --- the node ---

    def _children(self, replication: Replication, node: Callable[[], Node]) -> list[ActorChild]:
        random = Random(f"{self.world.seed}/{self.name}/{self.runs}/primary")
        loop_s = self.world.loop.time
        self._writes = SlowEngine(random, stalls=0.02)
        self._tables = Tables()
        lease = ObjectStoreLease(
            self._store,
            cluster=CLUSTER,
            node=self.name,
            ttl_s=TTL_S,
            clock=self.boot_clock_s,
            nonce=lambda: f"{random.getrandbits(64):x}",
        )
        settings = Settings(
            size=self._size,
            candidate=True,
            clock=self.boot_clock_s,
            random_hex=lambda: f"{random.getrandbits(128):032x}",
        )
        leading = self.leading = Leading(replication, lease, settings, beside=None)
        confirming = self._confirming = Confirming(replication, size=self._size)
        writes = FoldedWrites(replication, self._connect_to_write, self._transact_on)
        carrying_out = CarryingOut(
            Together(writes.transact, clock=loop_s).transact,
            self._confirmed,
            lambda sure: None,
            leading.still_holds,
            self.position,
            functions=FUNCTIONS,
            now_ms=self.now_ms,
        )
        self.forwarding = Forwarding(
            leading,
            replication.wait_until,
            carrying_out.answer,
            new_key=lambda: f"{random.getrandbits(128):032x}",
            timeouts=TIMEOUTS,
        )
        return [
            ActorChild(CONFIRMING, lambda: ConfirmingWorker(confirming, node(), SeldomLog(log, loop_s))),
            ActorChild(PRIMARY, lambda: PrimaryWorker(leading, node(), SeldomLog(log, loop_s))),
            ActorChild(WRITES, lambda: WritesWorker(carrying_out, leading.under_way)),
        ]

    def _began(self, bus: ShakyCasts) -> None:
        assert self._confirming is not None
        assert self.forwarding is not None
        assert self.leading is not None
        self._confirming.start(bus)
        self.forwarding.start(bus)
        self.leading.start(bus)

    async def _stopping(self) -> None:
        assert self.leading is not None
        assert self._confirming is not None
        await self.leading.stop()
        await self._confirming.stop()

    async def _transact(self, work: Callable[[Transaction], Any]) -> Written[Any]:
        replication, engine = self.replication, self._writes
        assert replication is not None
        assert engine is not None
        written = await engine.run(lambda: self._transact_on(self.app, self._tables, work))
        replication.committed(written.position)
        return written

    def _transact_on(
        self, connection: sqlite3.Connection, tables: Tables, work: Callable[[Transaction], Any]
    ) -> Written[Any]:
        leading, forwarding = self.leading, self.forwarding
        assert leading is not None
        assert forwarding is not None
        surroundings = Surroundings(
            path=Path(self.name), busy_timeout_s=0, stamp=lambda: "", gives_positions=True, guard=forwarding.guard
        )
        written = in_transaction(connection, tables, surroundings, work)
        self._told(self, leading.epoch())
        return written

    def _connect_to_write(self) -> sqlite3.Connection:
        connection = self.disk.connect(full=True)
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    async def _confirmed(self, written: Written[Any], sure: Sure) -> None:
        if sure.level is not Ack.LOCAL:
            assert self._confirming is not None
            await self._confirming.confirmed(
                written.position, sure.level, timeout_s=sure.timeout_s, result=written.result
            )

    def _count(self) -> None:
        """New sites begin with each epoch here, and what is lost is judged by the oracle."""
        if self.replication is not None and self.node is not None and self.node.joined:
            self.world.reached["status: tails"] += self.replication.view().tails
