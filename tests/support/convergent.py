"""Nodes of a convergent cluster in one process: real database files, the bus in memory or over ZeroMQ."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.address import Address
from cluster.memory import MemoryNetwork
from cluster.node import Node
from cluster.supervisor import ActorChild
from replication.backup.bucket import Bucket
from replication.backup.for_node import backup_for_node
from replication.backup.saying import BACKUP
from replication.backup.uploading import Backup
from replication.backup.worker import BackupWorker
from replication.convergent.asking import REPLICATION
from replication.convergent.engine import ThreadEngine
from replication.convergent.first_copy import fetch_first_copy
from replication.convergent.for_file import connect, new_nonce, replication_for_file
from replication.convergent.replication import Replication
from replication.convergent.worker import ReplicationWorker
from replication.database_file import new_site
from replication.declared import TableDeclaration
from replication.engine.applying import CLOCK_BOUND_MS
from replication.engine.comparable import DigestTable
from replication.engine.folding import is_due
from replication.engine.sites import vector
from replication.measuring.answering import Desk, Digests
from replication.measuring.meter import DriftMeter
from replication.measuring.questions import DIGESTS
from replication.measuring.reader import Reader
from replication.measuring.remaining import Remaining
from replication.measuring.repairing import OwnRepair
from tests.support.clusters import DIALS, FAST, Listed
from tests.support.eventually import eventually

CLUSTER = "convergent"
PAGES = "CREATE TABLE IF NOT EXISTS pages (page TEXT PRIMARY KEY NOT NULL, title, count INTEGER NOT NULL DEFAULT 0)"

DECLARED = (TableDeclaration(name="pages", counters=("count",)),)


@dataclass(eq=False)
class Member:
    """One node, while it runs. `writer` is what another process would have: a connection that knows nothing of us."""

    node: Node
    replication: Replication
    path: Path
    writer: sqlite3.Connection
    desk: Desk
    backup: Backup | None = None

    @property
    def meter(self) -> DriftMeter:
        """Compares all, as this one knows them."""
        compared = Remaining(self.node, self.replication.forgotten)
        return DriftMeter(compared, [DigestTable(name=table.name) for table in DECLARED])

    def rows(self, sql: str = "SELECT * FROM pages ORDER BY 1") -> list[Any]:
        return self.writer.execute(sql).fetchall()


class ConvergentCluster:
    """Starts, stops and looks at nodes; `network` is where links are broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = MemoryNetwork()
        self.journal_max_age_s = 3_600.0
        self.journal_max_bytes = 1024**3
        self.bucket: Bucket | None = None
        """Where nodes that are started from now on upload to."""
        self.backup_interval_s = 0.05
        self.snapshot_interval_s = 3_600.0
        self.backup_retention_s = 604_800.0
        self.keeping_pause_s = 60.0
        self.keeping_grace_s = 600.0
        self.members: dict[str, Member] = {}
        self.addresses: dict[str, Address] = {}

    async def start(
        self, name: str, *, schema: str = PAGES, expects_peers: bool = True, first_copy: bool = False
    ) -> Member:
        path = self.folder / f"{name}.db"
        data_dir = self.folder / name
        data_dir.mkdir(exist_ok=True)
        if first_copy:
            await self._first_copy(name, path)
        writer = connect(path)
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute(schema)
        replication = replication_for_file(
            path,
            cluster=CLUSTER,
            declared=DECLARED,
            data_dir=data_dir,
            journal_max_age_s=self.journal_max_age_s,
            journal_max_bytes=self.journal_max_bytes,
            clock_bound_ms=CLOCK_BOUND_MS,
            join_timeout_s=5.0,
            expects_peers=expects_peers and bool(self.members),
        )
        await replication.open()
        backup = None
        if self.bucket is not None:
            backup = backup_for_node(
                replication,
                self.bucket,
                cluster=CLUSTER,
                node=name,
                data_dir=data_dir,
                interval_s=self.backup_interval_s,
                snapshot_interval_s=self.snapshot_interval_s,
                retention_s=self.backup_retention_s,
                keeping_pause_s=self.keeping_pause_s,
                keeping_grace_s=self.keeping_grace_s,
            )
        nodes: list[Node] = []
        desk = Desk(Reader(lambda: connect(path), clocks=True), ThreadEngine(f"desk {name}"))
        address = self.addresses.get(name)
        node = Node(
            name=name,
            cluster=CLUSTER,
            transport=self.network.transport(address),
            discovery=Listed(list(self.addresses.values())),
            children=[
                ActorChild(REPLICATION, lambda: ReplicationWorker(replication, nodes[0])),
                ActorChild(DIGESTS, lambda: Digests(desk)),
                *([] if backup is None else [ActorChild(BACKUP, lambda: BackupWorker(backup, nodes[0]))]),
            ],
            detector=FAST,
            dialing=DIALS,
        )
        nodes.append(node)
        desk.repairer = OwnRepair(desk, replication, node, lambda: [peer.name for peer in node.peers()])
        await node.start()
        replication.start(node)
        if backup is not None:
            backup.start(node)
        self.addresses[name] = node.address
        member = self.members[name] = Member(node, replication, path, writer, desk, backup)
        return member

    async def _first_copy(self, name: str, path: Path) -> None:
        engine = ThreadEngine("first copy")
        node = Node(
            name=name,
            cluster=CLUSTER,
            transport=self.network.transport(self.addresses.get(name)),
            discovery=Listed(list(self.addresses.values())),
            detector=FAST,
            dialing=DIALS,
        )
        async with node:
            self.addresses[name] = node.address
            assert (
                await fetch_first_copy(node, path, wait_s=5, engine=engine, new_site=new_site, new_nonce=new_nonce)
                == path.exists()
            )
        await engine.close()

    async def trio(self) -> tuple[Member, Member, Member]:
        a, b, c = [await self.start(name) for name in "abc"]
        return a, b, c

    async def stop(self, name: str) -> None:
        member = self.members.pop(name)
        await member.replication.stop()
        if member.backup is not None:
            await member.backup.stop()
            await member.backup.close()
        await member.node.stop()
        await member.desk.close()
        await member.replication.close()
        member.writer.close()

    async def kill(self, name: str) -> None:
        """As kill -9 would: nothing is folded or told any more."""
        member = self.members.pop(name)
        self.network.kill(member.node.address)
        member.replication.abandon()
        if member.backup is not None:
            member.backup.abandon()
            await member.backup.close()
        await member.node.stop()
        await member.desk.close()
        await member.replication.close()
        member.writer.close()

    async def close(self) -> None:
        for name in list(self.members):
            await self.stop(name)

    async def equal(self, sql: str = "SELECT * FROM pages ORDER BY 1", *, within_s: float = 10.0) -> list[Any]:
        """Waits until everything is folded and merged, and all show the same rows and heads, and gives the rows."""

        def are_equal() -> bool:
            members = list(self.members.values())
            first = members[0]
            return (
                not any(is_due(member.writer) for member in members)
                and all(
                    member.rows(sql) == first.rows(sql) and vector(member.writer) == vector(first.writer)
                    for member in members[1:]
                )
                and not any(member.replication.status().waiting for member in members)
            )

        await eventually(
            are_equal,
            within_s,
            why=lambda: {name: (m.rows(sql), m.replication.status()) for name, m in self.members.items()},
        )
        return next(iter(self.members.values())).rows(sql)


async def wait_until(condition: Callable[[], object], members: Sequence[Member]) -> None:
    await eventually(condition, why=lambda: [member.replication.status() for member in members])
    await asyncio.sleep(0)
