"""A cluster of a few nodes without a bus: databases in memory, peers asked by a method call."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.counter import MIGRATIONS, TABLE, PageCounter
from app.report import ClusterReport, Member, PageReader, PageReport
from app.web.admin import AdminGate
from app.web.application import WebApp
from app.web.live import LiveLimits, NextChange
from cluster.counters import Count, Counters
from cluster.errors import CallTimeout, NodeDown
from replication.convergent.status import ReplicationStatus
from replication.drift import DriftReport
from replication.engine.comparing import Verdict
from replication.errors import CannotForget, CannotPromote, DatabaseBusy, NoChangeFeed, NoSuchRow, ReplicationError
from replication.feed.feed import ChangeFeed
from replication.feed.position import FeedPosition
from replication.measuring.mending import ClusterRepair
from replication.measuring.questions import Repair
from replication.measuring.watching import Measured
from replication.rows import Op, Row


async def until(claim: Callable[[], bool], *, within_s: float = 5.0) -> None:
    """Return once `claim` holds; TimeoutError if it does not in time."""
    async with asyncio.timeout(within_s):
        while True:
            if claim():
                return
            await asyncio.sleep(0.002)


BUSY = DatabaseBusy(Path("/data/litecast.db"), 5.0)


class NoFeed:
    """A repo in a mode without a change feed."""

    def changes(self, table: str, *, since: FeedPosition | None = None) -> ChangeFeed:
        raise NoChangeFeed

    async def feed_position(self) -> FeedPosition:
        raise NoChangeFeed


class FakeTransaction:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def get(self, table: str, key: Any) -> Row | None:
        found = self._connection.execute(f"SELECT * FROM {table} WHERE page = ?", [key]).fetchone()
        return None if found is None else Row(table, dict(found))

    def insert(self, table: str, values: Any) -> Row:
        self._connection.execute(f"INSERT INTO {table} (page, count) VALUES (:page, :count)", values)
        return self._after(table, values["page"])

    def update(self, table: str, key: Any, changes: Any) -> Row:
        self._connection.execute(f"UPDATE {table} SET count = ? WHERE page = ?", [changes["count"], key])
        return self._after(table, key)

    def _after(self, table: str, key: Any) -> Row:
        row = self.get(table, key)
        if row is None:
            raise NoSuchRow(table, key)
        return row


class FakeRepo:
    """A repo with the real table in memory. `failing` is raised by whatever is asked next and later."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.row_factory = sqlite3.Row
        for statement in MIGRATIONS:
            self.connection.execute(statement)
        self.failing: ReplicationError | None = None
        self.replicated: list[tuple[Row, Op]] = []
        self.replicating: Callable[[Row, Op], None] = lambda row, op: None
        self.reads = 0
        self.stuck = False
        self.functions: dict[str, Callable[..., Any]] = {}

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing

    async def get(self, table: str, key: Any) -> Row | None:
        self._check()
        return FakeTransaction(self.connection).get(table, key)

    async def all(self, sql: str, params: Any = ()) -> list[Row]:
        self._check()
        self.reads += 1
        if self.stuck:
            await asyncio.Event().wait()
        return [Row("", dict(row)) for row in self.connection.execute(sql, params)]

    def register(self, name: str, function: Callable[..., Any]) -> None:
        self.functions[name] = function

    async def call(self, name: str, *arguments: Any) -> Any:
        return await self.transaction(lambda transaction: self.functions[name](transaction, *arguments))

    async def transaction[T](self, work: Callable[[Any], T]) -> T:
        self._check()
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(FakeTransaction(self.connection))
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        return result

    def replicate(self, result: Row, op: Op) -> Row:
        self.replicated.append((result, op))
        self.replicating(result, op)
        return result

    def set(self, page: str, count: int) -> None:
        """Write a count past the application, as what arrives from a peer does."""
        self.connection.execute(
            f"INSERT INTO {TABLE} (page, count) VALUES (?, ?) ON CONFLICT (page) DO UPDATE SET count = excluded.count",
            [page, count],
        )

    def close(self) -> None:
        self.connection.close()


@dataclass(slots=True, kw_only=True)
class FakeMember:
    name: str
    region: str = "local"
    address: str = ""
    state: str = "up"


@dataclass(kw_only=True)
class FakeNode:
    name: str
    region: str
    cluster: "FakeCluster"
    incarnation: str = "7f3a"
    counters: Counters = field(default_factory=Counters)
    repo: FakeRepo = field(default_factory=FakeRepo)
    hangs: bool = False
    answers: Callable[[], object] | None = None
    status: ReplicationStatus | None = None
    calls: int = 0

    def __post_init__(self) -> None:
        self.reads_again()
        self.counter: PageCounter | None = PageCounter(self.repo)

    def counts_nothing(self) -> None:
        """From now on this node is one beside a program."""
        self.counter = None
        self.reader = PageReader(None, self.counters)
        self.actor = PageReport(self.reader)

    def reads_again(self) -> None:
        # A clock that stands still and no least age: every question is answered from the table.
        self.reader = PageReader(
            self.repo, self.counters, status=self.ask_status, top_min_age_s=0, monotonic=lambda: 0.0
        )
        self.actor = PageReport(self.reader)

    @property
    def ask_status(self) -> Callable[[], ReplicationStatus] | None:
        """As in the modes: there is nothing to ask where nothing folds and merges."""
        return None if self.status is None else self._status_now

    def _status_now(self) -> ReplicationStatus:
        assert self.status is not None
        return self.status

    def stands(self, status: ReplicationStatus) -> None:
        """From now on this node is one of mode convergent, and says this of its replication."""
        self.status = status
        self.reads_again()

    def members(self) -> Sequence[Member]:
        return [member for member in self.cluster.members if member.name != self.name]

    async def call(self, node: str, actor: str, message: object, *, timeout_s: float = 5.0) -> object:
        peer = self.cluster.nodes[node]
        peer.calls += 1
        self.counters.increment(Count.CALLS_SENT)
        if self.cluster.member(node).state == "down":
            raise NodeDown(node, actor)
        if peer.hangs:
            await asyncio.sleep(timeout_s)
            raise CallTimeout(node, actor, timeout_s)
        if peer.answers is not None:
            return peer.answers()
        return await peer.actor.handle_call(message, self.name)


class FakeDrift:
    """Finds what it is told to find."""

    def __init__(self) -> None:
        self.latest: Measured | None = None
        self.found = DriftReport(verdict=Verdict.EQUAL, tables=(), nodes=())
        self.looks = 0
        self.measured: list[bool] = []
        self.repaired = ClusterRepair()
        self.repairs: list[Repair] = []

    def looked(self) -> None:
        self.looks += 1

    async def measure(self, *, rows: bool = False) -> DriftReport:
        self.measured.append(rows)
        return self.found

    async def repair(self, how: Repair) -> tuple[ClusterRepair, DriftReport]:
        self.repairs.append(how)
        return self.repaired, self.found


class FakeCluster:
    """Nodes that know one another; `replicate` says whether what one counts reaches the others."""

    def __init__(self, *names: str) -> None:
        self.replicate = True
        self.drift = FakeDrift()
        self.admin_token: str | None = None
        self.forgotten: list[str] = []
        self.cannot_forget = ""
        self.has_primary = False
        self.promoted: list[str] = []
        self.cannot_promote = ""
        regions = ["fra", "ord", "syd", "gru"]
        self.members = [
            FakeMember(name=name, region=regions[i % 4], address=f"tcp://127.0.0.1:{7400 + i}")
            for i, name in enumerate(names)
        ]
        self.nodes = {m.name: FakeNode(name=m.name, region=m.region, cluster=self) for m in self.members}
        for node in self.nodes.values():
            node.repo.replicating = self._replicating(node)

    def _replicating(self, node: FakeNode) -> Callable[[Row, Op], None]:
        def replicating(row: Row, op: Op) -> None:
            for peer in self.nodes.values():
                if peer is node:
                    continue
                node.counters.increment(Count.CASTS_SENT)
                if self.replicate:
                    peer.counters.increment(Count.CASTS_RECEIVED)
                    peer.repo.set(row["page"], row["count"])
                else:
                    node.counters.increment(Count.QUEUE_FULL)

        return replicating

    def member(self, name: str) -> FakeMember:
        return next(member for member in self.members if member.name == name)

    def report(self, name: str, *, deadline_s: float = 0.05) -> ClusterReport:
        return ClusterReport(self.nodes[name], self.nodes[name].reader, deadline_s=deadline_s)

    def web(
        self,
        name: str,
        *,
        unready: Callable[[], Sequence[str]] = list,
        live: LiveLimits | None = None,
        next_change: NextChange | None = None,
    ) -> WebApp:
        node = self.nodes[name]
        return WebApp(
            node=node,
            counter=node.counter,
            report=self.report(name),
            mode="naive" if node.status is None else "convergent",
            unready=unready,
            status=node.ask_status,
            drift=self.drift,
            gate=AdminGate(self.admin_token),
            forget=None if node.status is None else self.forget,
            promote=self.promote if self.has_primary else None,
            changes=NoFeed(),
            next_change=next_change,
            live=live,
        )

    async def forget(self, nodes: Sequence[str]) -> None:
        """As replication does: `cannot_forget` is why not."""
        if self.cannot_forget:
            raise CannotForget(self.cannot_forget)
        self.forgotten += nodes

    async def promote(self, node: str) -> None:
        """As primary mode does: `cannot_promote` is why not."""
        if self.cannot_promote:
            raise CannotPromote(self.cannot_promote)
        self.promoted.append(node)

    def close(self) -> None:
        for node in self.nodes.values():
            node.repo.close()
