"""Nodes of a cluster in mode primary in one process: real files, the bus in memory, one place for the lease."""

import asyncio
import logging
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.address import Address
from cluster.lease.boot_clock import boot_clock_s
from cluster.lease.object_store import ObjectStoreLease
from cluster.lease.static import StaticLease
from cluster.memory import MemoryNetwork
from cluster.node import Node
from cluster.seldom import SeldomLog
from cluster.supervisor import ActorChild
from replication.acknowledging.confirming import CONFIRMING, Confirming
from replication.acknowledging.worker import ConfirmingWorker
from replication.convergent.asking import REPLICATION
from replication.convergent.for_file import connect, replication_for_file
from replication.convergent.replication import Replication
from replication.convergent.worker import ReplicationWorker
from replication.declared import TableDeclaration
from replication.engine.applying import CLOCK_BOUND_MS
from replication.primary.forwarding import Timeouts
from replication.primary.mode import PrimaryMode
from replication.primary.rpc import FUNCTIONS, Functions, FunctionsWorker
from replication.primary.standing import Role, fence_message
from replication.repo import Repo
from replication.transaction import Transaction
from tests.support.clusters import DIALS, FAST, Listed
from tests.support.eventually import eventually
from tests.support.lease_objects import FakeObjects

log = logging.getLogger(__name__)

CLUSTER = "primary"
USERS = (
    "CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT UNIQUE, visits INTEGER NOT NULL DEFAULT 0)"
)
DECLARED = (TableDeclaration(name="users"),)
TTL_S = 1.0


@dataclass(eq=False)
class Member:
    """One node, while it runs. `other` is what another process would have."""

    node: Node
    repo: Repo
    replication: Replication
    confirming: Confirming
    mode: PrimaryMode
    functions: Functions
    other: sqlite3.Connection

    @property
    def role(self) -> Role:
        return self.mode.leading.role

    def rows(self) -> list[Any]:
        return self.other.execute("SELECT id, email, visits FROM users ORDER BY id").fetchall()


class PrimaryCluster:
    """Starts, stops and looks at nodes. `stores` is where the lease is, as each node reaches it; links are broken in
    `network`."""

    def __init__(self, folder: Path, *, size: int = 3) -> None:
        self.folder = folder
        self.size = size
        self.ttl_s = TTL_S
        self.static: str | None = None
        """The node that always writes."""
        self.network = MemoryNetwork()
        self.stores: dict[str, FakeObjects] = {}
        self._objects: dict[int, bytes] = {}
        self.members: dict[str, Member] = {}
        self.addresses: dict[str, Address] = {}
        self.timeouts = Timeouts()
        self.unreplicated_max_s: float | None = None
        self.slept_s = 0.0
        """So far are the clocks of all ahead, as after a suspension."""

    async def start(self, name: str, *, candidate: bool = True, region: str = "local") -> Member:
        path, data_dir = self.folder / name / "app.db", self.folder / name
        data_dir.mkdir(exist_ok=True)
        repo = Repo(path, gives_positions=True)
        await repo.open()
        await repo.migrate([USERS])
        repo.register("visit", visit)
        replication = replication_for_file(
            path,
            cluster=CLUSTER,
            declared=DECLARED,
            data_dir=data_dir,
            journal_max_age_s=3600,
            journal_max_bytes=1024**3,
            clock_bound_ms=CLOCK_BOUND_MS,
            join_timeout_s=1.0,
            expects_peers=bool(self.members),
            fence=fence_message(None, name),
        )
        await replication.open()
        repo.link = replication
        confirming = repo.confirmations = Confirming(replication, size=self.size)
        store = self.stores[name] = FakeObjects()
        store.objects = self._objects
        stored = ObjectStoreLease(
            store,
            cluster=CLUSTER,
            node=name,
            ttl_s=self.ttl_s,
            clock=self._clock,
            nonce=lambda: os.urandom(8).hex(),
        )
        lease = stored if self.static is None else StaticLease(node=name, primary=self.static)
        mode = PrimaryMode(
            repo,
            replication,
            lease,
            size=self.size,
            candidate=candidate,
            timeouts=self.timeouts,
            unreplicated_max_s=self.unreplicated_max_s,
            clock=self._clock,
        )
        functions = Functions(mode.forwarding, mode.position_now)
        nodes: list[Node] = []
        clock = asyncio.get_running_loop().time
        node = Node(
            name=name,
            region=region,
            cluster=CLUSTER,
            transport=self.network.transport(self.addresses.get(name)),
            discovery=Listed(list(self.addresses.values())),
            children=[
                ActorChild(REPLICATION, lambda: ReplicationWorker(replication, nodes[0])),
                ActorChild(CONFIRMING, lambda: ConfirmingWorker(confirming, nodes[0], SeldomLog(log, clock))),
                ActorChild(FUNCTIONS, lambda: FunctionsWorker(functions)),
                *mode.children(lambda: nodes[0], clock),
            ],
            detector=FAST,
            dialing=DIALS,
        )
        nodes.append(node)
        await node.start()
        replication.start(node)
        confirming.start(node)
        mode.start(node)
        functions.start(node)
        self.addresses[name] = node.address
        member = self.members[name] = Member(node, repo, replication, confirming, mode, functions, connect(path))
        return member

    async def trio(self) -> tuple[Member, Member, Member]:
        """Three nodes, of which the first is the primary."""
        a, b, c = await self.start("a"), await self.start("b", candidate=False), await self.start("c", candidate=False)
        await self.is_primary(a)
        return a, b, c

    async def is_primary(self, member: Member) -> None:
        """Waits until it is, and until all know it."""
        name = member.node.name
        await eventually(
            lambda: all(one.mode.leading.status().primary == name for one in self.members.values()),
            why=self._roles,
        )

    async def primary(self) -> Member:
        """Waits until all name the same one, and gives it. On a busy machine it may be another one than it just was."""
        await eventually(lambda: len(self._named()) == 1 and None not in self._named(), why=self._roles)
        (name,) = self._named()
        return self.members[str(name)]

    def _named(self) -> set[str | None]:
        return {one.mode.leading.status().primary for one in self.members.values()}

    async def equal(self) -> list[Any]:
        """Waits until all show the same rows, and gives them."""

        def are_equal() -> bool:
            first, *others = self.members.values()
            return all(one.rows() == first.rows() for one in others)

        await eventually(are_equal, why=lambda: {name: one.rows() for name, one in self.members.items()})
        return next(iter(self.members.values())).rows()

    async def stop(self, name: str) -> None:
        member = self.members.pop(name)
        await member.mode.stop()
        await member.confirming.stop()
        await member.replication.stop()
        await member.node.stop()
        await self._close(member)

    async def kill(self, name: str) -> None:
        """As kill -9 would: nothing is folded, told or released any more."""
        member = self.members.pop(name)
        self.network.kill(member.node.address)
        member.mode.leading.abandon()
        member.replication.abandon()
        await member.confirming.stop()
        await member.node.stop()
        await self._close(member)

    async def _close(self, member: Member) -> None:
        await member.replication.close()
        await member.repo.close()
        member.other.close()

    async def close(self) -> None:
        for name in list(self.members):
            await self.stop(name)

    def _clock(self) -> float:
        return boot_clock_s() + self.slept_s

    def _roles(self) -> object:
        return {name: one.mode.leading.status() for name, one in self.members.items()}


def visit(transaction: Transaction, email: str) -> Any:
    """A function that nodes register: it reads, and writes what follows."""
    (found,) = transaction.all("SELECT id, visits FROM users WHERE email = ?", (email,))
    return transaction.update("users", found["id"], {"visits": found["visits"] + 1})
