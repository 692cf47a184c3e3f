"""How sure a write is in mode primary: it returns when so many nodes have it durably, and says so if they have not."""

import asyncio

import pytest

from replication.acknowledging.levels import Ack, Sure
from replication.errors import CannotConfirm, NoPrimary, NotConfirmed, OutcomeUnknown, TooFarAhead
from replication.primary.forwarding import Timeouts
from tests.support.eventually import eventually
from tests.support.primary_nodes import Member, PrimaryCluster


def has(member: Member, email: str) -> bool:
    """Durably: what its heads say is."""
    return any(row[1] == email for row in member.rows())


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize(("level", "others"), [("one", 1), ("quorum", 1), ("all", 2)])
async def test_a_write_returns_once_as_many_others_have_it(
    cluster: PrimaryCluster, level: str, others: int, where: int
) -> None:
    members = await cluster.trio()
    for number in range(10):
        email = f"{number}@y"
        await members[where].repo.insert("users", {"email": email}, ack=level)
        assert sum(has(one, email) for one in members[1:]) >= others


async def test_a_quorum_that_is_not_there_is_told_with_what_was_written(cluster: PrimaryCluster) -> None:
    a, b, c = await cluster.trio()
    a.repo.sure = Sure(level=Ack.QUORUM, timeout_s=0.3)
    await cluster.kill("b")
    await cluster.kill("c")
    with pytest.raises(NotConfirmed, match=r"on 1 more of 3 nodes, and is on 0.*do not write it again") as raised:
        await a.repo.insert("users", {"email": "x@y"})
    assert raised.value.result["id"] == 1
    assert a.rows() == [(1, "x@y", 0)]
    await a.repo.insert("users", {"email": "z@y"}, ack="local")
    await a.repo.insert("users", {"email": "w@y"}, ack="all")
    del b, c


async def test_a_forwarded_write_that_is_not_sure_says_so_where_it_was_asked_for(cluster: PrimaryCluster) -> None:
    cluster.size = 5
    _, b, _ = await cluster.trio()
    b.repo.sure = Sure(level=Ack.QUORUM, timeout_s=0.3)
    await b.repo.insert("users", {"email": "x@y"})
    await cluster.kill("c")
    with pytest.raises(NotConfirmed, match="on 2 more of 5 nodes, and is on 1") as raised:
        await b.repo.insert("users", {"email": "y@y"})
    assert raised.value.result["id"] == 2


async def test_a_write_that_waits_to_be_sure_holds_up_no_other(cluster: PrimaryCluster) -> None:
    cluster.size = 5
    _, b, _ = await cluster.trio()
    await cluster.kill("c")
    waiting = asyncio.ensure_future(b.repo.insert("users", {"email": "x@y"}, ack="quorum"))
    await eventually(lambda: has(b, "x@y"))
    for number in range(5):
        await b.repo.insert("users", {"email": f"{number}@y"})
    assert not waiting.done()
    await cluster.start("c", candidate=False)
    assert (await waiting)["id"] == 1


async def test_what_is_confirmed_after_the_lease_was_lost_is_not_acknowledged(cluster: PrimaryCluster) -> None:
    """A candidate may have asked that peer what it has before it had this."""
    a, b, c = await cluster.trio()
    a.repo.sure = Sure(level=Ack.QUORUM, timeout_s=10)
    for other in (b, c):
        cluster.network.cut(a.node.address, other.node.address)
    await eventually(lambda: not a.node.peers())
    writing = asyncio.ensure_future(a.repo.insert("users", {"email": "x@y"}))
    await eventually(lambda: has(a, "x@y"))
    a.mode.leading._lose("for this test")
    for other in (b, c):
        cluster.network.heal(a.node.address, other.node.address)
    with pytest.raises(OutcomeUnknown, match="lost its lease"):
        await writing


async def test_a_primary_that_runs_ahead_alone_stops_and_goes_on_when_somebody_is_back(
    cluster: PrimaryCluster,
) -> None:
    cluster.unreplicated_max_s = 1.0
    cluster.timeouts = Timeouts(hold_s=10)
    cluster.static = "a"
    a, b, c = await cluster.trio()
    await b.repo.insert("users", {"email": "0@y"})
    await cluster.kill("b")
    await cluster.kill("c")

    async def refused() -> bool:
        try:
            await a.repo.insert("users", {"email": f"{len(a.rows())}@y"})
        except TooFarAhead:
            return True
        return False

    for _ in range(100):
        if await refused():
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("it went on writing")
    before = a.rows()
    with pytest.raises(TooFarAhead, match=r"unreplicated_max_s is 1: nothing was written; bring a replica back"):
        await a.repo.insert("users", {"email": "no@y"})
    assert a.rows() == before
    assert a.mode.leading.writes_until_s() == 0
    b = await cluster.start("b", candidate=False)
    await eventually(lambda: b.rows() == before)
    await eventually(lambda: a.mode.leading.writes_until_s() > 0)
    await b.repo.insert("users", {"email": "again@y"})
    del c


async def test_a_replica_is_told_that_the_primary_runs_ahead_alone(
    cluster: PrimaryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.unreplicated_max_s = 5.0
    a, b, _ = await cluster.trio()
    monkeypatch.setattr(a.mode.leading._ahead, "for_s", lambda now_s: 7.5)
    with pytest.raises(TooFarAhead, match=r"in the last 7.5 s") as raised:
        await b.repo.insert("users", {"email": "x@y"})
    assert raised.value.bound_s == 5.0
    assert a.rows() == []


async def test_a_level_that_there_is_not_is_refused_before_anything_is_written(cluster: PrimaryCluster) -> None:
    a, _, _ = await cluster.trio()
    with pytest.raises(CannotConfirm, match="'most' is none of local, one, quorum, all"):
        await a.repo.insert("users", {"email": "x@y"}, ack="most")
    a.repo.confirmations = None
    with pytest.raises(CannotConfirm, match="mode convergent or primary"):
        await a.repo.insert("users", {"email": "x@y"}, ack="one")
    assert a.rows() == []


async def test_a_read_can_be_as_new_as_the_primary(cluster: PrimaryCluster) -> None:
    a, b, _ = await cluster.trio()
    for number in range(20):
        a.other.execute("INSERT INTO users (email) VALUES (?)", (f"{number}@y",))  # any program's, not folded yet
        assert await b.repo.get("users", number + 1, at="primary") is not None
    assert len(await b.repo.all("SELECT * FROM users", at="primary")) == 20
    assert len(await a.repo.all("SELECT * FROM users", at="primary")) == 20
    row = await a.repo.insert("users", {"email": "x@y"})
    assert row.position
    assert await b.repo.get("users", row["id"], at=row.position) is not None


async def test_a_read_as_new_as_a_primary_that_is_not_there_is_refused(cluster: PrimaryCluster) -> None:
    cluster.timeouts = Timeouts(hold_s=0.3)
    b = await cluster.start("b")
    with pytest.raises(NoPrimary):
        await b.repo.all("SELECT 1", at="primary")
    assert await b.repo.all("SELECT 1") == [{"1": 1}]


@pytest.mark.parametrize(
    "message",
    [None, ["want"], ["want", 1], ["want", [["x", 1]]], ["has", [["x", -5]]], ["has", [[1, 2]]], ["what", []]],
)
async def test_what_a_peer_casts_that_neither_wants_nor_has_anything_harms_nobody(
    cluster: PrimaryCluster, message: object
) -> None:
    a, b, _ = await cluster.trio()
    b.node.cast("a", "Confirming", message)
    b.node.cast("a", "Confirming", ["want", [["p" + "0" * 31, 5]]])
    await b.repo.insert("users", {"email": "x@y"}, ack="all")
    assert not a.confirming.cast_from("b", message)
