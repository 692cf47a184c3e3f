"""A member of the cluster that sends what it should not: each piece is dropped, held or healed, counted, and nothing of
the others' is lost. None of it ends an actor, and none makes a node stand still."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.actor import Actor
from cluster.counters import Count
from cluster.node import Node
from cluster.supervisor import ActorChild
from replication.convergent import serving
from replication.convergent.asking import REPLICATION
from replication.convergent.messages import Heads
from replication.convergent.parcels import Parcels, flat
from replication.convergent.store import Store
from replication.engine.changesets import ChangeKind, Changeset, RowChange, encode, table_change
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp, first_after, stamp_at
from replication.engine.values import pack, unpack
from tests.support.clusters import DIALS, FAST, Listed
from tests.support.convergent import CLUSTER, ConvergentCluster, Member
from tests.support.eventually import eventually

LIAR = Site("d" * 32)
ONE_MORE = "INSERT INTO pages VALUES ('home', 'Home', 1) ON CONFLICT DO UPDATE SET count = count + 1"


class Liar(Actor):
    """Its answers are a page without anything, whatever it is asked."""

    name = REPLICATION

    def __init__(self) -> None:
        self.asked = 0

    async def handle_cast(self, message: object, sender: str) -> None:
        """Whatever the others say is nothing to it."""

    async def handle_call(self, message: object, sender: str) -> object:
        self.asked += 1
        return await Parcels(lambda: 0.0).first(flat(False, False))


class BadPeer:
    """Two honest nodes, and one that says what the test has it say."""

    def __init__(self, cluster: ConvergentCluster, a: Member, b: Member, node: Node, actor: Liar) -> None:
        self.cluster = cluster
        self.a = a
        self.b = b
        self.node = node
        self.actor = actor

    def cast(self, message: object) -> None:
        """To both."""
        for name in "ab":
            self.node.cast(name, REPLICATION, message)

    def changeset(self, encoded: bytes) -> None:
        self.cast(["changeset", encoded])

    def claims(self, **heads: tuple[Site, int, bytes]) -> None:
        vector = {site: Head(stamp=Stamp(stamp), digest=digest) for site, stamp, digest in heads.values()}
        self.heads(Heads(site=LIAR, vector=vector, clock_ms=now_ms(), ready=True))

    def heads(self, heads: Heads) -> None:
        self.cast(heads.plain())

    async def counted(self, what: str, times: int = 1) -> None:
        """Until both have counted it."""
        for member in (self.a, self.b):
            await eventually(
                lambda member=member: member.replication.status().counts.get(what, 0) >= times,  # type: ignore[misc]
                why=member.replication.status,
            )

    async def all_is_well(self) -> None:
        """What the honest write still arrives, exactly, and nobody crashed or stands still."""
        before = sum(count for page, _, count in self.a.rows() if page == "home")
        for member in (self.a, self.b):
            member.writer.execute(ONE_MORE)
        rows = await self.cluster.equal(within_s=20)
        assert sum(count for page, _, count in rows if page == "home") == before + 2
        for member in (self.a, self.b):
            assert not member.replication.status().problem
            assert member.node.counters.get(Count.CRASHES) == 0


@pytest.fixture
async def bad(tmp_path: Path) -> AsyncIterator[BadPeer]:
    cluster = ConvergentCluster(tmp_path)
    a, b = await cluster.start("a"), await cluster.start("b")
    a.writer.execute(ONE_MORE)
    b.writer.execute(ONE_MORE)
    await cluster.equal()
    actor = Liar()
    node = Node(
        name="liar",
        cluster=CLUSTER,
        transport=cluster.network.transport(None),
        discovery=Listed(list(cluster.addresses.values())),
        children=[ActorChild(REPLICATION, lambda: actor)],
        detector=FAST,
        dialing=DIALS,
    )
    async with node:
        await eventually(lambda: len(node.peers()) == 2)
        yield BadPeer(cluster, a, b, node, actor)
    await cluster.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def a_changeset() -> Changeset:
    """A good one, of the liar's own site."""
    row = RowChange(kind=ChangeKind.INSERT, key=("of the liar",), life=1, cells={"title": "x"}, counts={"count": 1})
    return Changeset(
        cluster=CLUSTER,
        site=LIAR,
        after=first_after(LIAR),
        upto=Stamp(stamp_at(now_ms())),
        previous=b"",
        deps={},
        tables=(table_change("pages", ["page"], [row]),),
    )


def with_field(index: int, value: object) -> bytes:
    fields = list(unpack(encode(a_changeset())))
    fields[index] = value
    return pack(tuple(fields))


DROPPED: dict[str, Callable[[], bytes]] = {
    "truncated": lambda: encode(a_changeset())[:20],
    "of an unknown form": lambda: with_field(0, 99),
    "with a site that is none": lambda: with_field(2, "nobody"),
    "that is nothing at all": lambda: b"",
    "that is a map": lambda: b"\x80" * 1000,
}
REFUSED: dict[str, Callable[[], bytes]] = {
    "of another cluster": lambda: encode(replace(a_changeset(), cluster="another")),
    "truncated in its rows": lambda: encode(a_changeset())[:-5],
    "with a table that is none": lambda: with_field(7, (1, 2, 3)),
    "with values of a wrong type": lambda: with_field(
        7, (("pages", ("page",), ((1, ("title",), ("count",), (("x", 1, True, "not a number"),)),)),)
    ),
}


@pytest.mark.parametrize("what", DROPPED)
async def test_a_changeset_that_is_none_is_dropped_and_counted(bad: BadPeer, what: str) -> None:
    bad.changeset(DROPPED[what]())
    await bad.counted("not_messages")
    await bad.all_is_well()


@pytest.mark.parametrize("what", REFUSED)
async def test_a_changeset_that_cannot_be_merged_is_refused_and_counted(bad: BadPeer, what: str) -> None:
    bad.changeset(REFUSED[what]())
    await bad.counted("refused")
    await bad.all_is_well()
    assert "of the liar" not in str(bad.a.rows())


async def test_a_repeated_changeset_is_merged_once(bad: BadPeer) -> None:
    changeset = encode(a_changeset())
    for _ in range(5):
        bad.changeset(changeset)
        await asyncio.sleep(0)
    await bad.counted("merged", 2)
    bad.changeset(changeset)
    await bad.counted("repeats")
    await bad.all_is_well()
    assert ("of the liar", "x", 1) in bad.a.rows()


async def test_a_changeset_from_the_future_waits_and_moves_no_clock(bad: BadPeer) -> None:
    early = encode(replace(a_changeset(), upto=Stamp(stamp_at(now_ms() + 3_600_000))))
    bad.changeset(early)
    await eventually(lambda: bad.a.replication.status().waiting == bad.b.replication.status().waiting == 1)
    bad.a.writer.execute(ONE_MORE)
    await eventually(lambda: bad.b.rows() == bad.a.rows())
    assert bad.a.replication.view().clock < stamp_at(now_ms() + 60_000)
    assert "of the liar" not in str(bad.a.rows())
    assert not bad.a.replication.status().problem


async def test_a_changeset_for_a_table_and_a_column_that_nobody_has_is_held(bad: BadPeer) -> None:
    row = RowChange(kind=ChangeKind.INSERT, key=("of the liar",), life=1, cells={"colour": "red"}, counts={})
    tables = (
        table_change("pages", ["page"], [row]),
        table_change("unknown", ["id"], [replace(row, cells={"x": 1})]),
    )
    bad.changeset(encode(replace(a_changeset(), tables=tables)))
    await bad.counted("held", 2)
    await bad.all_is_well()
    for member in (bad.a, bad.b):
        member.writer.execute("ALTER TABLE pages ADD COLUMN colour TEXT")
    rows = await bad.cluster.equal()
    assert ("of the liar", None, 0, "red") in rows, "it is shown once there is a place for it"


@pytest.mark.parametrize(
    "request_",
    [
        ["range", "pages", pack(("a", "key", "too long"))],
        ["range", "pages", pack((2**64 - 1,))],
        ["range", "nothing", None],
        ["copy piece", [], {}],
        ["ask", [["nobody", 1]]],
        ["more", -1, None],
        None,
    ],
    ids=repr,
)
async def test_a_question_that_is_none_is_answered_so_however_often_it_comes(bad: BadPeer, request_: object) -> None:
    for _ in range(5):  # more often than an actor may crash
        answer = await bad.node.call("a", REPLICATION, request_, timeout_s=5)
        assert isinstance(answer, list)
        assert answer[0] == "error"
    await bad.all_is_well()


async def test_a_question_while_the_disk_fails_is_answered_later_and_ends_nothing(
    bad: BadPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_store: Store, *_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as failing:
        failing.setattr(serving, "begin_snapshot", fails)
        for _ in range(5):
            answer = await bad.node.call("a", REPLICATION, ["snapshot"], timeout_s=5)
            assert isinstance(answer, list)
            assert answer[0] == "error"
    await bad.all_is_well()
    assert isinstance(await bad.node.call("a", REPLICATION, ["snapshot"], timeout_s=5), list)


async def test_heads_that_promise_more_than_there_is_cost_a_question_now_and_then(bad: BadPeer) -> None:
    unknown = Site("e" * 32)
    bad.claims(own=(LIAR, stamp_at(now_ms()), bytes(16)), unknown=(unknown, stamp_at(now_ms()), bytes(16)))
    await eventually(lambda: bad.actor.asked)
    await bad.all_is_well()
    assert bad.actor.asked < 30


async def test_heads_of_nearly_fifty_thousand_sites_cost_a_question_and_no_more(bad: BadPeer) -> None:
    """With more, the bus does not send them."""
    many = {Site(f"{n:032x}"): Head(stamp=Stamp(stamp_at(now_ms())), digest=bytes(16)) for n in range(49_000)}
    bad.heads(Heads(site=LIAR, vector=many, clock_ms=now_ms(), ready=True))
    await eventually(lambda: bad.actor.asked)
    await bad.all_is_well()
    assert len(bad.a.replication.view().vector) < 10, "what is only claimed is not kept"


@pytest.mark.parametrize("whose", ["another's", "its own"])
@pytest.mark.parametrize("lie", ["another hash", "a higher stamp"])
async def test_lies_about_the_heads_of_honest_sites_heal_and_lose_nothing(bad: BadPeer, whose: str, lie: str) -> None:
    member = bad.b
    site = member.replication.view().site
    head = member.replication.view().vector[site]
    claimed = head.stamp if lie == "another hash" else Stamp(head.stamp + 1000)
    vector = {site: Head(stamp=claimed, digest=b"?" * 16)}
    heads = Heads(site=LIAR, vector=vector, clock_ms=now_ms(), ready=True)
    bad.node.cast("a" if whose == "another's" else "b", REPLICATION, heads.plain())
    await bad.all_is_well()
    await bad.all_is_well()
    assert ("home", "Home", 6) in bad.a.rows()
