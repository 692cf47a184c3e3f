"""Who is the primary, and what becomes of what was written: killed, stopped, stalled and cut-off primaries."""

import asyncio
import itertools
import sqlite3
import time
from typing import Any

import pytest

from cluster.lease.deciding import RENEWALS
from replication.convergent import for_file
from replication.convergent.for_file import now_ms
from replication.errors import CannotPromote, OutcomeUnknown
from replication.primary.forwarding import Timeouts
from replication.primary.leading import POLL_S
from replication.primary.standing import Role
from replication.transaction import Transaction
from tests.support.eventually import eventually
from tests.support.primary_nodes import TTL_S, Member, PrimaryCluster


async def candidates(cluster: PrimaryCluster) -> tuple[Member, Member, Member]:
    """Three nodes, of which the first is the primary, and any may be."""
    a = await cluster.start("a")
    b, c = await cluster.start("b"), await cluster.start("c")
    await cluster.is_primary(a)
    return a, b, c


async def next_primary(cluster: PrimaryCluster) -> Member:
    await eventually(
        lambda: [one for one in cluster.members.values() if one.role is Role.PRIMARY],
        why=lambda: {name: one.mode.leading.status() for name, one in cluster.members.items()},
    )
    (found,) = [one for one in cluster.members.values() if one.role is Role.PRIMARY]
    await cluster.is_primary(found)
    return found


async def test_a_killed_primary_is_followed_within_the_leases_time_and_a_second_and_nothing_is_lost(
    cluster: PrimaryCluster,
) -> None:
    _, b, _ = await candidates(cluster)
    await b.repo.insert("users", {"email": "before"})
    killed_s = time.monotonic()
    await cluster.kill("a")
    row = await b.repo.insert("users", {"email": "after"})  # held, and carried out by whoever follows
    assert time.monotonic() - killed_s < TTL_S + 1
    assert row["id"] == 2
    assert await cluster.equal() == [(1, "before", 0), (2, "after", 0)]
    assert (await next_primary(cluster)).mode.leading.status().epoch == 2


async def test_a_primary_that_stops_gives_the_lease_up_and_is_followed_at_once(cluster: PrimaryCluster) -> None:
    a, _, _ = await candidates(cluster)
    await a.repo.insert("users", {"email": "x"})
    await cluster.stop("a")
    stopped_s = time.monotonic()
    await next_primary(cluster)
    assert time.monotonic() - stopped_s < 1.0
    assert await cluster.equal() == [(1, "x", 0)]


async def test_a_handover_under_load_holds_writes_and_fails_loses_and_repeats_none(cluster: PrimaryCluster) -> None:
    cluster.ttl_s = 6.0
    a, b, c = await candidates(cluster)
    acknowledged: list[str] = []
    unknown: list[str] = []
    took_s: list[float] = []
    numbers = itertools.count()
    is_over = False

    async def write_on(member: Member) -> None:
        while not is_over:
            email = f"{next(numbers)}"
            try:
                await member.repo.execute("INSERT INTO users (email) VALUES (?)", (email,))
            except OutcomeUnknown:
                unknown.append(email)
            else:
                acknowledged.append(email)

    writing = [asyncio.ensure_future(write_on(one)) for _ in range(3) for one in (a, b, c)]
    await eventually(lambda: len(acknowledged) > 50)
    for asked, to in ((a, b), (a, c), (c, a), (a, b)):  # the primary itself, one that is not, the successor's own
        began_s = time.monotonic()
        await asked.mode.leading.promote(to.node.name)
        took_s.append(time.monotonic() - began_s)
        before = len(acknowledged)
        await cluster.is_primary(to)
        await eventually(lambda before=before: len(acknowledged) > before + 20)  # type: ignore[misc]
    print(f"handed over under load in {', '.join(f'{one * 1000:.0f}' for one in took_s)} ms")
    assert min(took_s) < 1.0  # the machine has other things to do
    is_over = True
    await asyncio.gather(*writing)
    shown = [email for _, email, _ in await cluster.equal()]
    assert len(shown) == len(set(shown))
    assert set(acknowledged) <= set(shown) <= {*acknowledged, *unknown}
    # Only where this process stood still, after which nobody is believed to hold a lease until that was asked.
    assert not unknown or any(one.mode.leading.stalls for one in (a, b, c))
    assert not any(one.replication.view().tails for one in (a, b, c))


async def test_a_handover_waits_for_a_write_that_is_committed_and_not_acknowledged_yet(
    cluster: PrimaryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.ttl_s = 6.0
    a, b, _ = await candidates(cluster)
    is_committed = asyncio.Event()

    async def slow(work: Any, transact: Any = a.repo.transact_here) -> Any:
        written = await transact(work)
        is_committed.set()
        await asyncio.sleep(0.5)
        return written

    monkeypatch.setattr(a.mode.carrying_out, "_transact", slow)
    writing = asyncio.create_task(b.repo.insert("users", {"email": "x"}))
    await is_committed.wait()
    await a.mode.leading.promote("b")
    assert (await writing)["id"] == 1


async def test_promote_says_why_not_and_nothing_changes(cluster: PrimaryCluster) -> None:
    a, b, _ = await cluster.trio()
    for node, why in (("a", "already"), ("z", "no live node 'z'"), ("c", "c can follow.*candidate")):
        with pytest.raises(CannotPromote, match=why):
            await b.mode.leading.promote(node)
    assert a.role is Role.PRIMARY
    assert (await b.repo.insert("users", {"email": "x"}))["id"] == 1
    assert a.mode.leading.epoch() == 1


async def test_a_static_lease_is_handed_to_nobody(cluster: PrimaryCluster) -> None:
    cluster.static = "a"
    a, _, _ = await cluster.trio()
    with pytest.raises(CannotPromote, match=r"static.*\[lease\] primary"):
        await a.mode.leading.promote("b")
    assert a.role is Role.PRIMARY


async def test_of_two_that_static_settings_name_the_first_stands_aside_and_says_why(cluster: PrimaryCluster) -> None:
    """As in the middle of a rolling restart with another name in the settings."""
    cluster.static = "a"
    a, _ = await cluster.start("a"), await cluster.start("c")
    await cluster.is_primary(a)
    cluster.static = "b"
    b = await cluster.start("b")
    await cluster.is_primary(b)
    await eventually(lambda: "b is the primary" in a.mode.leading.status().problem)
    assert "[lease] primary differs between nodes" in a.mode.leading.status().problem
    epoch = b.mode.leading.epoch()
    await asyncio.sleep(3 * POLL_S)  # it would stand again
    assert (a.role, b.role, b.mode.leading.epoch()) == (Role.REPLICA, Role.PRIMARY, epoch)
    assert (await a.repo.insert("users", {"email": "x"}))["id"] == 1


async def test_the_former_primary_comes_back_as_a_replica(cluster: PrimaryCluster) -> None:
    await candidates(cluster)
    await cluster.kill("a")
    follower = await next_primary(cluster)
    a = await cluster.start("a")
    await cluster.is_primary(follower)
    with pytest.raises(sqlite3.IntegrityError, match="written on the primary"):
        a.other.execute("INSERT INTO users (email) VALUES ('q')")
    await a.repo.insert("users", {"email": "x"})
    assert await cluster.equal() == [(1, "x", 0)]


async def test_candidates_that_lose_sight_of_the_primary_do_not_follow_it_while_it_renews_its_lease(
    cluster: PrimaryCluster,
) -> None:
    a, b, c = await candidates(cluster)
    for one in (b, c):
        cluster.network.cut(a.node.address, one.node.address)
    await eventually(lambda: all(one.node.peers() != () and "a" not in _up(one) for one in (b, c)))
    await eventually(lambda: not _up(a))
    looked = [cluster.stores[one.node.name].asked["get"] for one in (b, c)]
    renewed = cluster.stores["a"].asked["put"]
    await eventually(lambda: cluster.stores["a"].asked["put"] > renewed + TTL_S * RENEWALS)  # longer than one grant
    for one, before in zip((b, c), looked, strict=True):
        assert one.role is Role.REPLICA
        assert cluster.stores[one.node.name].asked["get"] > before  # it asked
    assert a.mode.leading.may_write()
    assert a.mode.leading.epoch() == 1


def _up(member: Member) -> set[str]:
    return {peer.name for peer in member.node.peers()}


async def test_wall_clocks_that_are_set_by_more_than_the_leases_time_change_nothing_about_it(
    cluster: PrimaryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b, _ = await candidates(cluster)
    time_s, time_ns = time.time, time.time_ns
    for email, jump_s in (("ahead", 20), ("back", -20)):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: time_s() + jump_s)
        monkeypatch.setattr(time, "time_ns", lambda jump_s=jump_s: time_ns() + jump_s * 10**9)
        assert a.mode.leading.may_write()
        await b.repo.insert("users", {"email": email})
        renewed = cluster.stores["a"].asked["put"]
        await eventually(lambda renewed=renewed: cluster.stores["a"].asked["put"] > renewed)  # type: ignore[misc]
    assert [email for _, email, _ in await cluster.equal()] == ["ahead", "back"]
    assert a.mode.leading.epoch() == 1
    assert not any(one.mode.leading.stalls for one in (a, b))


async def test_what_only_the_former_primary_had_is_kept_apart_and_its_node_shows_the_clusters_rows(
    cluster: PrimaryCluster,
) -> None:
    a, b, c = await candidates(cluster)
    await b.repo.insert("users", {"email": "before"})
    await cluster.equal()
    for one in (b, c):
        cluster.network.cut(a.node.address, one.node.address)
    a.other.execute("INSERT INTO users (email) VALUES ('tail')")
    a.other.execute("UPDATE users SET email = 'changed' WHERE id = 1")
    await eventually(lambda: a.replication.status().counts["folded"] >= 2)
    cluster.stores["a"].is_down = True
    await eventually(lambda: Role.PRIMARY in (b.role, c.role))
    await b.repo.insert("users", {"email": "new"})
    for one in (b, c):
        cluster.network.heal(a.node.address, one.node.address)
    assert await cluster.equal() == [(1, "before", 0), (2, "new", 0)]
    assert a.replication.view().tails >= 1
    await b.repo.update("users", 1, {"visits": 3})
    assert await cluster.equal() == [(1, "before", 3), (2, "new", 0)]
    await eventually(lambda: not a.replication.unready(), why=a.replication.unready)


async def test_what_was_written_while_the_node_was_dead_is_a_tail_too(cluster: PrimaryCluster) -> None:
    a, _, _ = await candidates(cluster)
    await a.repo.insert("users", {"email": "x"})
    await cluster.equal()
    await cluster.kill("a")
    with sqlite3.connect(cluster.folder / "a" / "app.db") as other:
        other.execute("INSERT INTO users (email) VALUES ('unfenced')")
    other.close()
    follower = await next_primary(cluster)
    await follower.repo.insert("users", {"email": "new"})
    a = await cluster.start("a")
    assert await cluster.equal() == [(1, "x", 0), (2, "new", 0)]
    assert a.replication.view().tails == 1


async def test_a_primary_that_was_not_awake_asks_before_it_writes_again(cluster: PrimaryCluster) -> None:
    cluster.size = 1
    a = await cluster.start("a")
    await cluster.is_primary(a)
    assert a.mode.leading.may_write()
    cluster.stores["a"].is_down = True
    cluster.slept_s = 0.9 * TTL_S + 0.15  # longer than a heartbeat, and the lease has run out
    assert not a.mode.leading.may_write()
    await eventually(lambda: a.role is Role.REPLICA)
    cluster.stores["a"].is_down = False
    await cluster.is_primary(a)
    assert a.mode.leading.status().epoch == 2


async def test_a_provider_that_is_away_for_the_leases_time_demotes_and_fences(cluster: PrimaryCluster) -> None:
    cluster.timeouts = Timeouts(hold_s=0.1)
    cluster.size = 1
    a = await cluster.start("a")
    await cluster.is_primary(a)
    cluster.stores["a"].is_down = True

    def is_fenced() -> bool:
        try:
            a.other.execute("INSERT INTO users (email) VALUES (NULL)")
        except sqlite3.IntegrityError as error:
            return "there is none just now" in str(error)
        return False

    await eventually(is_fenced)
    assert a.role is Role.REPLICA
    assert "the store is down" in a.mode.leading.status().problem


async def test_a_write_that_commits_after_the_lease_ran_out_is_not_acknowledged(cluster: PrimaryCluster) -> None:
    cluster.size = 1
    a = await cluster.start("a")
    await cluster.is_primary(a)

    def late(transaction: Transaction) -> None:
        transaction.insert("users", {"email": "x"})
        time.sleep(TTL_S * 1.2)

    cluster.stores["a"].is_down = True
    with pytest.raises(OutcomeUnknown, match="lost its lease"):
        await a.repo.transaction(late)


async def test_a_minority_makes_nobody_the_primary_and_lets_the_lease_go(cluster: PrimaryCluster) -> None:
    a = await cluster.start("a")
    await asyncio.sleep(1.0)
    assert a.role is not Role.PRIMARY
    assert not a.mode.leading.may_write()
    await cluster.start("b", candidate=False)
    await cluster.is_primary(a)


async def test_a_candidate_fetches_what_others_have_before_it_writes(cluster: PrimaryCluster) -> None:
    a, b = await cluster.start("a"), await cluster.start("b")
    await cluster.is_primary(a)
    await cluster.stop("b")
    c = await cluster.start("c", candidate=False)
    await a.repo.insert_many("users", [{"email": str(n)} for n in range(50)])
    await cluster.equal()
    await cluster.kill("a")
    b = await cluster.start("b")
    await cluster.is_primary(b)
    assert (await c.repo.insert("users", {"email": "new"}))["id"] == 51
    assert len(await cluster.equal()) == 51


async def test_an_answer_to_a_question_from_before_a_stall_does_not_let_a_node_write(cluster: PrimaryCluster) -> None:
    cluster.size, cluster.ttl_s = 1, 6.0
    a = await cluster.start("a")
    await cluster.is_primary(a)
    store = cluster.stores["a"]
    store.hold("put")
    cluster.slept_s = 0.75  # no stall yet
    await asyncio.sleep(0.3)
    cluster.slept_s = 1.5
    await eventually(lambda: store.waiting("put") == 1)
    before_s = a.mode.leading.awake_s
    cluster.slept_s += 1.1  # a stall, while the renewal was under way
    await eventually(lambda: a.mode.leading.awake_s > before_s + 1)
    store.let("put")
    store.hold("put")
    await eventually(lambda: store.waiting("put") == 1)  # asked again
    assert not a.mode.leading.may_write()
    store.let("put")
    await eventually(a.mode.leading.may_write)
    assert a.mode.leading.epoch() == 1


async def test_a_write_that_comes_back_to_the_next_primary_that_asked_for_it_is_carried_out_once(
    cluster: PrimaryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.timeouts = Timeouts(hold_s=15.0, call_s=15.0)
    a, b = await cluster.start("a"), await cluster.start("b")
    await cluster.start("c", candidate=False)
    await cluster.is_primary(a)

    async def silent(asked: object, answer: Any = a.mode.carrying_out.answer) -> None:
        await answer(asked)
        await asyncio.Event().wait()

    monkeypatch.setattr(a.mode.carrying_out, "answer", silent)
    writing = asyncio.ensure_future(b.repo.execute("INSERT INTO users (visits) VALUES (1)"))
    await eventually(lambda: len(b.rows()) == 1)
    await cluster.kill("a")
    assert await writing == 1
    assert b.role is Role.PRIMARY
    assert len(await cluster.equal()) == 1


async def test_a_node_whose_clock_is_an_hour_off_is_not_the_primary_and_says_why(
    cluster: PrimaryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it wrote would wait on all others for an hour. It reads, and forwards its writes, as ever."""
    with monkeypatch.context() as patch:
        patch.setattr(for_file, "now_ms", lambda: now_ms() + 3_600_000)
        off = await cluster.start("off")
    a, b = await cluster.start("a"), await cluster.start("b")
    await eventually(lambda: Role.PRIMARY in (a.role, b.role), 20)
    primary = a if a.role is Role.PRIMARY else b
    await cluster.is_primary(primary)
    assert (await off.repo.insert("users", {"email": "x"}))["id"] == 1
    assert await cluster.equal() == [(1, "x", 0)]
    assert off.role is Role.REPLICA
    assert "clock" in off.mode.status().problem
    with pytest.raises(CannotPromote, match="off can follow"):
        await primary.mode.leading.promote("off")
    assert primary.role is Role.PRIMARY
