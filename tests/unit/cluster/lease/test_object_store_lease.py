"""A lease in an object store: what is granted, when, and what keeps two nodes from holding it, each by itself."""

import asyncio
import json
from collections.abc import Callable

import pytest

from cluster.errors import LeaseForeign, LeaseHeld, LeaseLost, LeaseOfAnotherCluster, LeaseUnreachable
from cluster.lease.deciding import MAX_DRIFT
from cluster.lease.interface import EPOCH_MAX
from cluster.lease.object_store import ObjectStoreLease
from tests.support.lease_objects import FakeObjects

TTL_S = 9.0


class Clock:
    """`rate`: how many of its seconds pass in a true one."""

    true_s = 0.0

    def at(self, rate: float = 1.0) -> Callable[[], float]:
        return lambda: 1000 * rate + self.true_s * rate


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def objects() -> FakeObjects:
    return FakeObjects()


def lease(objects: FakeObjects, clock: Clock, node: str, *, rate: float = 1.0, cluster: str = "c") -> ObjectStoreLease:
    nonces = iter(range(1000))
    return ObjectStoreLease(
        objects,
        cluster=cluster,
        node=node,
        ttl_s=TTL_S,
        clock=clock.at(rate),
        nonce=lambda: f"{node}-{rate}-{next(nonces)}",
    )


async def test_the_first_who_asks_is_granted_epoch_one_and_others_hear_who_holds_it(
    objects: FakeObjects, clock: Clock
) -> None:
    alpha, beta = lease(objects, clock, "alpha"), lease(objects, clock, "beta")
    assert await beta.read() is None
    assert (await alpha.acquire(above=0)).epoch == 1
    with pytest.raises(LeaseHeld, match=r"held by alpha \(epoch 1\)"):
        await beta.acquire(above=0)
    holding = await beta.read()
    assert holding is not None
    assert (holding.node, holding.epoch) == ("alpha", 1)


async def test_an_epoch_is_above_what_is_known_and_survives_being_released(objects: FakeObjects, clock: Clock) -> None:
    alpha, beta = lease(objects, clock, "alpha"), lease(objects, clock, "beta")
    grant = await alpha.acquire(above=41)
    await alpha.release(grant)
    assert (grant.epoch, (await beta.acquire(above=0)).epoch) == (42, 43)


async def test_a_released_lease_is_granted_at_once_but_one_that_is_handed_over_only_to_its_successor(
    objects: FakeObjects, clock: Clock
) -> None:
    alpha, beta, gamma = (lease(objects, clock, name) for name in ("alpha", "beta", "gamma"))
    await alpha.release(await alpha.acquire(above=0), successor="gamma")
    with pytest.raises(LeaseHeld):
        await beta.acquire(above=0)
    assert (await gamma.acquire(above=0)).epoch == 2


async def test_a_successor_that_does_not_come_keeps_others_waiting_only_for_the_leases_time(
    objects: FakeObjects, clock: Clock
) -> None:
    alpha, beta = lease(objects, clock, "alpha"), lease(objects, clock, "beta")
    await alpha.release(await alpha.acquire(above=0), successor="gamma")
    with pytest.raises(LeaseHeld):
        await beta.acquire(above=0)
    clock.true_s += TTL_S
    assert (await beta.acquire(above=0)).epoch == 2


async def test_who_renews_keeps_it(objects: FakeObjects, clock: Clock) -> None:
    alpha, beta = lease(objects, clock, "alpha"), lease(objects, clock, "beta")
    grant = await alpha.acquire(above=0)
    for _ in range(10):
        clock.true_s += TTL_S / 3
        grant = await alpha.renew(grant)
        with pytest.raises(LeaseHeld):
            await beta.acquire(above=0)


async def test_a_fast_clock_grants_it_only_after_a_slow_one_has_stopped(objects: FakeObjects, clock: Clock) -> None:
    slow, fast = 1 - MAX_DRIFT, 1 + MAX_DRIFT
    alpha, beta = lease(objects, clock, "alpha", rate=slow), lease(objects, clock, "beta", rate=fast)
    grant = await alpha.acquire(above=0)
    with pytest.raises(LeaseHeld):
        await beta.acquire(above=0)
    clock.true_s = TTL_S / fast + 1e-6
    assert (await beta.acquire(above=0)).epoch == 2
    assert clock.at(slow)() > grant.good_until_s


async def test_a_renewal_that_was_confirmed_too_late_does_not_count(objects: FakeObjects, clock: Clock) -> None:
    alpha, beta = lease(objects, clock, "alpha"), lease(objects, clock, "beta")
    grant = await alpha.acquire(above=0)
    with pytest.raises(LeaseHeld):
        await beta.acquire(above=0)
    clock.true_s = TTL_S - 1
    objects.hold("put")
    renewing = asyncio.ensure_future(alpha.renew(grant))
    await asyncio.sleep(0)
    clock.true_s = TTL_S + 1
    assert (await beta.acquire(above=0)).epoch == 2
    objects.let("put")
    with pytest.raises(LeaseLost):
        await renewing


async def test_who_was_asleep_with_its_clock_is_told_that_another_was_granted_the_lease(
    objects: FakeObjects, clock: Clock
) -> None:
    alpha, beta = lease(objects, Clock(), "alpha"), lease(objects, clock, "beta")
    grant = await alpha.acquire(above=0)
    with pytest.raises(LeaseHeld):
        await beta.acquire(above=0)
    clock.true_s = TTL_S
    assert (await beta.acquire(above=0)).epoch == 2
    with pytest.raises(LeaseLost, match="another node was granted the next one"):
        await alpha.renew(grant)


async def test_who_looked_long_ago_is_not_granted_the_place_of_a_lease_that_is_deleted(
    objects: FakeObjects, clock: Clock
) -> None:
    alpha, late = lease(objects, clock, "alpha"), lease(objects, clock, "late")
    await alpha.release(await alpha.acquire(above=0))
    objects.hold("create")
    acquiring = asyncio.ensure_future(late.acquire(above=0))
    await asyncio.sleep(0.01)
    objects.let("create", only_next=True)
    for _ in range(3):
        await alpha.release(await alpha.acquire(above=0))
    grant = await alpha.acquire(above=0)
    objects.let("create")
    with pytest.raises(LeaseHeld):
        await acquiring
    assert (await alpha.renew(grant)).epoch == grant.epoch


async def test_a_store_that_is_down_or_slow_is_unreachable(clock: Clock) -> None:
    objects = FakeObjects()
    objects.is_down = True
    with pytest.raises(LeaseUnreachable, match="down"):
        await lease(objects, clock, "alpha").acquire(above=0)
    objects = FakeObjects(lambda: 1.0)
    quick = ObjectStoreLease(objects, cluster="c", node="a", ttl_s=0.03, clock=clock.at(), nonce=lambda: "n")
    with pytest.raises(LeaseUnreachable, match="no answer within"):
        await quick.acquire(above=0)


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 10_000, b'{"what": "litecast lease"}', b"\xff", b"x" * 5000])
async def test_what_something_else_wrote_is_named_and_left_alone(
    content: bytes, objects: FakeObjects, clock: Clock
) -> None:
    objects.objects[1] = content
    with pytest.raises(LeaseForeign, match=r"memory/1 is not a lease"):
        await lease(objects, clock, "alpha").acquire(above=0)
    assert objects.objects == {1: content}


@pytest.mark.parametrize(
    ("key", "value"),
    [("epoch", True), ("epoch", 0), ("epoch", EPOCH_MAX + 1), ("ttl_s", -1), ("ttl_s", 1e300), ("node", 5)],
)
async def test_a_record_with_what_cannot_be_is_foreign(
    key: str, value: object, objects: FakeObjects, clock: Clock
) -> None:
    alpha = lease(objects, clock, "alpha")
    await alpha.acquire(above=0)
    objects.objects[1] = json.dumps({**json.loads(objects.objects[1]), key: value}).encode()
    with pytest.raises(LeaseForeign):
        await lease(objects, clock, "beta").acquire(above=0)


async def test_the_lease_of_another_cluster_is_refused_with_both_names(objects: FakeObjects, clock: Clock) -> None:
    await lease(objects, clock, "alpha", cluster="other").acquire(above=0)
    with pytest.raises(LeaseOfAnotherCluster, match=r"cluster 'other', and this is cluster 'c'"):
        await lease(objects, clock, "alpha").read()


async def test_old_objects_that_cannot_be_deleted_are_no_reason_to_refuse_a_grant(
    objects: FakeObjects, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(number: int) -> None:
        raise LeaseUnreachable("nothing is deleted here")

    monkeypatch.setattr(objects, "delete_before", refuses)
    assert (await lease(objects, clock, "alpha").acquire(above=0)).epoch == 1


async def test_who_looked_long_ago_and_made_an_old_object_again_looks_for_the_newest_one(
    objects: FakeObjects, clock: Clock
) -> None:
    alpha, beta = lease(objects, clock, "alpha"), lease(objects, clock, "beta")
    grant = await alpha.acquire(above=0)
    first = objects.objects[1]
    await alpha.release(grant)
    await beta.read()
    for _ in range(4):
        await alpha.release(await alpha.acquire(above=0))
    objects.objects[1] = first  # a renewal that was long under way
    clock.true_s += 2 * TTL_S
    await beta.read()
    clock.true_s += 2 * TTL_S
    with pytest.raises(LeaseHeld):
        await beta.acquire(above=0)
    assert (await beta.acquire(above=0)).epoch == 6
