"""Nodes that are compared: real database files, each behind a desk; the bus is a method call."""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster.errors import CallTimeout, Gone, NodeDown, NoSuchActor
from replication.convergent.engine import ThreadEngine
from replication.convergent.for_file import connect
from replication.engine.comparable import DigestTable
from replication.measuring.answering import Desk
from replication.measuring.jobs import Jobs
from replication.measuring.meter import DriftMeter
from replication.measuring.reader import Reader

PAGES = "CREATE TABLE pages (page TEXT PRIMARY KEY NOT NULL, title, count INTEGER NOT NULL DEFAULT 0, seen)"
DECLARED = (DigestTable(name="pages", counters=("count",), ignore=("seen",)),)


@dataclass(slots=True, kw_only=True)
class KnownMember:
    name: str | None
    address: str
    state: str = "up"


@dataclass(kw_only=True)
class ComparedNode:
    """`says`: what it answers instead of the truth; `asked`: the questions, by their first words."""

    name: str
    writer: sqlite3.Connection
    desk: Desk
    reader: Reader
    member: KnownMember
    hangs: bool = False
    says: Callable[[object], object] | None = None
    before: Callable[[object], None] = lambda _message: None
    asked: list[object] = field(default_factory=list)

    def write(self, sql: str, parameters: Sequence[object] = ()) -> None:
        self.writer.execute(sql, parameters)


class ComparedNodes:
    """As one of them, the first, sees them: it is what a `DriftMeter` takes for `cluster.Node`."""

    def __init__(self, folder: Path, *names: str, clocks: bool = False, schema: str = PAGES) -> None:
        self._folder = folder
        self._clocks = clocks
        self.name = names[0]
        self.nodes = {name: self._node(name, schema) for name in names}
        self.strangers: list[KnownMember] = []

    def _node(self, name: str, schema: str) -> ComparedNode:
        path = self._folder / f"{name}.db"
        writer = connect(path)
        writer.execute("PRAGMA journal_mode = WAL")
        if schema:
            writer.execute(schema)
        reader = Reader(lambda: connect(path), clocks=self._clocks)
        desk = Desk(reader, ThreadEngine(f"desk {name}"), jobs=Jobs(moment_s=5.0))
        member = KnownMember(name=name, address=f"tcp://{name}:7400")
        return ComparedNode(name=name, writer=writer, desk=desk, reader=reader, member=member)

    def __getitem__(self, name: str) -> ComparedNode:
        return self.nodes[name]

    def write(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """The same on all."""
        for node in self.nodes.values():
            node.write(sql, parameters)

    def meter(self, tables: Sequence[DigestTable] = DECLARED) -> DriftMeter:
        return DriftMeter(self, tables)

    # --- looking.Cluster

    def members(self) -> Sequence[KnownMember]:
        return [*(node.member for node in self.nodes.values() if node.name != self.name), *self.strangers]

    async def call(self, node: str, actor: str, message: object, *, timeout_s: float) -> object:
        asked = self.nodes[node]
        assert isinstance(message, list)
        asked.asked.append(message[0])
        if asked.member.state == "down":
            raise NodeDown(node, actor)
        if asked.hangs:
            raise CallTimeout(node, actor, timeout_s)
        if asked.says is not None:
            said = asked.says(message)
            if said is NO_ACTOR:
                raise NoSuchActor(node, actor, Gone.UNKNOWN)
            if said is not TRUTH:
                return said
        asked.before(message)
        return await asked.desk.answer(message)

    async def close(self) -> None:
        for node in self.nodes.values():
            await node.desk.close()
            node.writer.close()


TRUTH = object()
NO_ACTOR = object()
