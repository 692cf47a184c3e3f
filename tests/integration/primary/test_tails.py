"""What a former primary wrote and nobody else had: looked at, written again as a whole or not at all, dropped."""

import pytest

from replication.declared import TableDeclaration
from replication.errors import NoSuchTail, TailConflict
from replication.primary import carrying_out
from replication.primary.standing import Role
from replication.tails import keeping
from replication.tails.applying import APPLY
from replication.tails.unit import Change, Op
from tests.support import primary_nodes
from tests.support.eventually import eventually
from tests.support.primary_nodes import Member, PrimaryCluster

BEFORE = [(1, "one@y", 0), (2, "two@y", 0), (3, "three@y", 0)]


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Visits are a counter, and users have a boss."""
    monkeypatch.setattr(primary_nodes, "USERS", primary_nodes.USERS[:-1] + ", boss INTEGER REFERENCES users (id))")
    monkeypatch.setattr(primary_nodes, "DECLARED", (TableDeclaration(name="users", counters=("visits",)),))


async def with_tail(cluster: PrimaryCluster, *statements: str) -> tuple[Member, Member, Member]:
    """Three nodes: the first was the primary, and wrote this when it was cut off; the next one is it now."""
    started = [await cluster.start(name) for name in "abc"]
    a = await cluster.primary()
    b, c = [one for one in started if one is not a]
    for _, email, _ in BEFORE:
        await a.repo.insert("users", {"email": email})
    assert await cluster.equal() == BEFORE
    for one in (b, c):
        cluster.network.cut(a.node.address, one.node.address)
    await eventually(lambda: not a.node.peers())
    folded = a.replication.status().counts["folded"]
    for statement in statements:
        a.other.execute(statement)
    await eventually(lambda: a.replication.status().counts["folded"] > folded)
    cluster.stores[a.node.name].is_down = True
    await eventually(lambda: Role.PRIMARY in (b.role, c.role))
    cluster.stores[a.node.name].is_down = False
    for one in (b, c):
        cluster.network.heal(a.node.address, one.node.address)
    await eventually(lambda: bool(a.replication.view().tails) and not a.replication.unready(), 20)
    assert await cluster.equal() == BEFORE
    primary = await cluster.primary()
    return a, primary, c if primary is b else b


STATEMENTS = (
    "INSERT INTO users (email) VALUES ('new@y')",
    "UPDATE users SET visits = 7 WHERE id = 1",
    "UPDATE users SET visits = visits + 1, email = 'uno@y' WHERE id = 1",
    "DELETE FROM users WHERE id = 2",
    "INSERT INTO users (id, email) VALUES (9, 'gone@y')",
    "DELETE FROM users WHERE id = 9",
)


async def test_a_tail_is_shown_as_what_it_comes_to_row_by_row(cluster: PrimaryCluster) -> None:
    a, b, _ = await with_tail(cluster, *STATEMENTS)
    (unit,) = await a.mode.tails.units()
    assert unit.name.startswith("1-")
    assert unit.epoch == 1
    assert unit.changesets >= 1
    assert unit.bytes > 0
    assert await b.mode.tails.units() == []
    assert await a.mode.tails.rows(unit) in ({"users": 3}, {"users": 4})
    _, changes = await a.mode.tails.changes(unit.name)
    found = {change.key: (change.op, dict(change.cells)) for change in changes}
    found.pop((9,), None)  # it is a delete where the row came and went between two folds
    assert found == {
        (4,): (Op.INSERT, {"email": "new@y", "visits": 0}),
        (1,): (Op.UPDATE, {"email": "uno@y", "visits": 8}),
        (2,): (Op.DELETE, {}),
    }


async def test_a_tail_is_applied_on_the_primary_and_is_on_all_nodes_then(cluster: PrimaryCluster) -> None:
    a, _, _ = await with_tail(cluster, "BEGIN", *STATEMENTS, "COMMIT")
    (unit,) = await a.mode.tails.units()
    assert await a.mode.tails.apply(unit.name) in (3, 4)
    assert a.rows() == [(1, "uno@y", 8), (3, "three@y", 0), (4, "new@y", 0)]
    assert await cluster.equal() == a.rows()
    assert await a.mode.tails.units() == []
    await eventually(lambda: a.replication.view().tails == 0)


async def test_a_tail_is_applied_once_however_often_it_is_asked_for(cluster: PrimaryCluster) -> None:
    a, _, _ = await with_tail(cluster, STATEMENTS[0])
    unit, changes = await a.mode.tails.changes((await a.mode.tails.units())[0].name)
    plain = [change.plain() for change in changes]
    assert await a.repo.call(APPLY, unit.site, unit.upto, plain) is True
    # As after a crash before it was dropped:
    assert await a.repo.call(APPLY, unit.site, unit.upto, plain) is False
    assert await a.mode.tails.apply(unit.name) == 1
    assert len(await cluster.equal()) == 4


async def test_a_tail_whose_row_was_written_since_is_refused_as_a_whole(cluster: PrimaryCluster) -> None:
    a, b, _ = await with_tail(cluster, *STATEMENTS[:4])
    await b.repo.update("users", 1, {"visits": 100})
    before = await cluster.equal()
    (unit,) = await a.mode.tails.units()
    with pytest.raises(
        TailConflict, match=r"the tail, of 3 rows, is not applied: row 1 of users was written since\."
    ) as raised:
        await a.mode.tails.apply(unit.name)
    assert (raised.value.count, raised.value.size) == (1, 3)
    assert await cluster.equal() == before
    assert await a.mode.tails.units() == [unit]
    assert await a.mode.tails.drop(unit.name) == unit
    assert await a.mode.tails.units() == []
    assert await cluster.equal() == before


@pytest.mark.parametrize(
    ("since", "why"),
    [
        ("INSERT INTO users (email) VALUES ('new@y')", "row 4 of users is there already"),
        ("INSERT INTO users (id, email) VALUES (50, 'new@y')", "UNIQUE constraint failed: users.email"),
    ],
)
async def test_a_tail_that_breaks_a_constraint_is_refused(cluster: PrimaryCluster, since: str, why: str) -> None:
    a, b, _ = await with_tail(cluster, STATEMENTS[0])
    await b.repo.execute(since)
    before = await cluster.equal()
    with pytest.raises(TailConflict, match=why):
        await a.mode.tails.apply((await a.mode.tails.units())[0].name)
    assert await cluster.equal() == before


async def test_a_row_that_is_gone_by_now_is_against_it(cluster: PrimaryCluster) -> None:
    a, b, _ = await with_tail(cluster, STATEMENTS[1])
    await b.repo.delete("users", 1)
    await cluster.equal()
    with pytest.raises(TailConflict, match="row 1 of users is not there any more"):
        await a.mode.tails.apply((await a.mode.tails.units())[0].name)


@pytest.mark.usefixtures("counting")
async def test_a_tail_is_applied_once_also_when_the_keys_of_forwarded_writes_of_then_are_gone(
    cluster: PrimaryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, _, _ = await with_tail(cluster, "UPDATE users SET visits = visits + 5 WHERE id = 1")
    unit, changes = await a.mode.tails.changes((await a.mode.tails.units())[0].name)
    assert [(dict(change.cells), dict(change.counts)) for change in changes] == [({}, {"visits": 5})]
    assert await a.repo.call(APPLY, unit.site, unit.upto, [change.plain() for change in changes]) is True
    # As after a crash before it was dropped, and a long time:
    monkeypatch.setattr(carrying_out, "KEPT_MS", -1_000_000)
    await a.repo.execute("UPDATE users SET email = 'tres@y' WHERE id = 3")
    assert await a.mode.tails.apply(unit.name) == 1
    assert await a.mode.tails.units() == []
    assert await cluster.equal() == [(1, "one@y", 5), (2, "two@y", 0), (3, "tres@y", 0)]


@pytest.mark.usefixtures("counting")
async def test_a_row_whose_counter_was_added_to_since_is_not_deleted(cluster: PrimaryCluster) -> None:
    a, b, _ = await with_tail(cluster, "DELETE FROM users WHERE id = 1")
    await b.repo.execute("UPDATE users SET visits = visits + 7 WHERE id = 1")
    before = await cluster.equal()
    with pytest.raises(TailConflict, match="row 1 of users was written since"):
        await a.mode.tails.apply((await a.mode.tails.units())[0].name)
    assert await cluster.equal() == before


@pytest.mark.usefixtures("counting")
async def test_a_tail_whose_row_has_lost_its_parent_is_refused(cluster: PrimaryCluster) -> None:
    a, b, _ = await with_tail(
        cluster, "INSERT INTO users (email, boss) VALUES ('new@y', 2)", "UPDATE users SET email = 'uno@y' WHERE id = 1"
    )
    await b.repo.delete("users", 2)
    before = await cluster.equal()
    (unit,) = await a.mode.tails.units()
    with pytest.raises(TailConflict, match=r"row 4 of users would have no parent by its FOREIGN KEY \(boss\)\."):
        await a.mode.tails.apply(unit.name)
    assert await cluster.equal() == before
    assert await a.mode.tails.units() == [unit]


@pytest.mark.usefixtures("counting")
async def test_a_tail_that_deletes_a_parent_is_refused_with_the_child(cluster: PrimaryCluster) -> None:
    a, b, _ = await with_tail(cluster, "DELETE FROM users WHERE id = 2")
    await b.repo.insert("users", {"email": "child@y", "boss": 2})
    before = await cluster.equal()
    with pytest.raises(TailConflict, match=r"row 4 of users would have no parent by its FOREIGN KEY \(boss\)\."):
        await a.mode.tails.apply((await a.mode.tails.units())[0].name)
    assert await cluster.equal() == before


async def test_a_unique_value_that_is_passed_on_from_row_to_row_is_written(cluster: PrimaryCluster) -> None:
    a, _, _ = await with_tail(
        cluster,
        "BEGIN",
        "UPDATE users SET visits = 1 WHERE id = 1",  # so it is the first of them
        "UPDATE users SET email = 'free@y' WHERE id = 2",
        "UPDATE users SET email = 'two@y' WHERE id = 1",
        "COMMIT",
    )
    assert await a.mode.tails.apply((await a.mode.tails.units())[0].name) == 2
    assert await cluster.equal() == [(1, "two@y", 1), (2, "free@y", 0), (3, "three@y", 0)]


async def test_two_rows_that_exchanged_a_unique_value_are_refused_with_both(cluster: PrimaryCluster) -> None:
    a, _, _ = await with_tail(
        cluster,
        "BEGIN",
        "UPDATE users SET email = 'aside@y' WHERE id = 1",
        "UPDATE users SET email = 'one@y' WHERE id = 2",
        "UPDATE users SET email = 'two@y' WHERE id = 1",
        "COMMIT",
    )
    (unit,) = await a.mode.tails.units()
    reason = "row 1 of users: UNIQUE constraint failed: users.email; row 2 of users: UNIQUE constraint failed"
    with pytest.raises(TailConflict, match=reason):
        await a.mode.tails.apply(unit.name)
    assert await cluster.equal() == BEFORE
    assert await a.mode.tails.units() == [unit]


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE users SET email = hex(randomblob(3000000)) WHERE id = 1", "it is too large to be sent"),
        ("UPDATE users SET email = CAST(x'ff41' AS TEXT) WHERE id = 1", "a text in it is not UTF-8"),
    ],
)
async def test_a_tail_that_cannot_be_sent_stays_and_nothing_of_it_is_written(
    cluster: PrimaryCluster, statement: str, why: str
) -> None:
    a, _, _ = await with_tail(cluster, statement)
    (unit,) = await a.mode.tails.units()
    with pytest.raises(NoSuchTail, match=why):
        await a.mode.tails.apply(unit.name)
    assert await cluster.equal() == BEFORE
    assert await a.mode.tails.units() == [unit]


async def test_a_name_that_is_no_tails_is_refused_with_those_there_are(
    cluster: PrimaryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _ = await with_tail(cluster, STATEMENTS[0])
    (unit,) = await a.mode.tails.units()
    with pytest.raises(NoSuchTail, match=f"no tail '7-x' is kept here; there are {unit.name}"):
        await a.mode.tails.apply("7-x")
    with pytest.raises(NoSuchTail, match="there is none"):
        await b.mode.tails.drop("7-x")
    monkeypatch.setattr(keeping, "READ_MAX_BYTES", 10)
    with pytest.raises(NoSuchTail, match="it can only be dropped"):
        await a.mode.tails.apply(unit.name)
    assert await a.mode.tails.drop(unit.site) == unit


def test_a_change_travels() -> None:
    change = Change(
        table="t", key_columns=("a", "b"), key=(1, "x"), op=Op.UPDATE, life=3, cells={"c": b"z"}, counts={"n": 5}
    )
    assert Change.parse(change.plain()) == change
    for bad in (None, [], [*change.plain()[:3], "no", *change.plain()[4:]]):
        with pytest.raises(ValueError, match=r"not a change|no"):
            Change.parse(bad)
