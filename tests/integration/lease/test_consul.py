"""A lease in Consul, with a real agent."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import (
    LeaseForeign,
    LeaseHeld,
    LeaseLost,
    LeaseOfAnotherCluster,
    LeaseRefused,
    LeaseUnreachable,
    LeaseUrlError,
)
from cluster.lease.boot_clock import boot_clock_s
from cluster.lease.consul import LOCK_DELAY_S, ConsulLease, consul_place
from tests.support.consul_agent import consul_agent, put

TTL_S = 1.5


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with consul_agent(tmp_path_factory.mktemp("consul")) as url:
        yield url


@pytest.fixture
def url(agent: str, tmp_path: Path) -> str:
    return f"{agent}/{tmp_path.name}"


def lease(url: str, node: str, *, cluster: str = "c", ttl_s: float = TTL_S) -> ConsulLease:
    return ConsulLease(
        consul_place(url, {}),
        cluster=cluster,
        node=node,
        ttl_s=ttl_s,
        clock=boot_clock_s,
        nonce=lambda: os.urandom(8).hex(),
    )


def key(url: str) -> str:
    """The key's own URL."""
    base, folder = url.rsplit("/", 1)
    return f"{base}/v1/kv/{folder}/litecast-lease"


async def test_one_of_many_is_granted_it_and_epochs_grow_and_survive_release(url: str) -> None:
    nodes = [lease(url, f"node-{number}") for number in range(5)]
    assert await nodes[0].read() is None
    answers = await asyncio.gather(*(one.acquire(above=0) for one in nodes), return_exceptions=True)
    (granted,) = [(one, a) for one, a in zip(nodes, answers, strict=True) if not isinstance(a, BaseException)]
    assert all(isinstance(a, LeaseHeld) for a in answers if a is not granted[1])
    holder, grant = granted
    assert grant.epoch == 1
    holding = await nodes[0].read()
    assert holding is not None
    assert (holding.epoch, holding.is_released) == (1, False)
    renewed = await holder.renew(grant)
    assert renewed.good_until_s > grant.good_until_s
    await holder.release(renewed)
    assert (await lease(url, "other").acquire(above=0)).epoch == 2
    with pytest.raises(LeaseLost):
        await holder.renew(renewed)


async def test_who_dies_is_followed_within_twice_the_ttl_and_the_lock_delay(url: str) -> None:
    dead, other = lease(url, "dead"), lease(url, "other")
    grant = await dead.acquire(above=4)
    assert grant.epoch == 5
    began_s = time.monotonic()
    while True:
        try:
            followed = await other.acquire(above=0)
        except LeaseHeld:
            await asyncio.sleep(0.1)
        else:
            break
    took_s = time.monotonic() - began_s
    print(f"consul, TTL {TTL_S} s: another node was granted the lease after {took_s:.1f} s")
    assert followed.epoch == 6
    assert boot_clock_s() > grant.good_until_s + LOCK_DELAY_S / 2
    assert took_s < 2 * TTL_S + LOCK_DELAY_S + 0.3
    with pytest.raises(LeaseLost):
        await dead.renew(grant)


async def test_one_that_is_handed_over_is_the_successors_alone_for_a_while(url: str) -> None:
    holder, successor, other = lease(url, "holder"), lease(url, "successor"), lease(url, "other")
    await holder.release(await holder.acquire(above=0), successor="successor")
    with pytest.raises(LeaseHeld):
        await other.acquire(above=0)
    grant = await successor.acquire(above=0)
    await successor.release(grant, successor="gone")
    with pytest.raises(LeaseHeld):
        await other.acquire(above=0)
    await asyncio.sleep(TTL_S)
    assert (await other.acquire(above=0)).epoch == 3


async def test_two_who_read_the_same_epoch_are_not_granted_it_one_after_the_other(url: str) -> None:
    slow, fast = lease(url, "slow"), lease(url, "fast")
    await fast.release(await fast.acquire(above=0))
    looked = await slow._look()
    await fast.release(await fast.acquire(above=0))

    async def looks() -> object:
        return looked

    slow._look = looks  # type: ignore[method-assign, assignment]
    with pytest.raises(LeaseHeld, match="faster"):
        await slow.acquire(above=0)


async def test_a_key_that_something_else_wrote_or_another_cluster_is_said_and_left_alone(url: str) -> None:
    holder = lease(url, "holder")
    grant = await holder.acquire(above=0)
    with pytest.raises(LeaseOfAnotherCluster, match="'c'"):
        await lease(url, "node", cluster="d").acquire(above=0)
    put(key(url), b"something else")
    with pytest.raises(LeaseForeign, match="litecast-lease"):
        await lease(url, "node").acquire(above=0)
    with pytest.raises(LeaseForeign):
        await holder.renew(grant)
    put(key(url), b"")
    with pytest.raises(LeaseForeign):
        await lease(url, "node").read()
    put(key(url), method="DELETE")
    with pytest.raises(LeaseLost, match="deleted"):
        await holder.renew(grant)


async def test_what_the_agent_refuses_and_an_agent_that_is_not_there_are_told_apart(url: str) -> None:
    with pytest.raises(LeaseRefused, match="TTL"):
        await lease(url, "node", ttl_s=0.5).acquire(above=0)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        with pytest.raises(LeaseUnreachable):
            await lease(f"http://127.0.0.1:{found.getsockname()[1]}", "node").read()


def test_the_url_is_the_settings_or_flys_and_a_token_is_the_environments() -> None:
    fly = {"FLY_CONSUL_URL": "https://:to%2Fken@consul.example/app-x1/"}
    place = consul_place(None, fly)
    assert (place.url, place.key, place.token) == ("https://consul.example", "app-x1/litecast-lease", "to/ken")
    assert "ken" not in str(place)
    place = consul_place("http://[::1]:8500", {"CONSUL_HTTP_TOKEN": "t"})
    assert (place.url, place.key, place.token) == ("http://[::1]:8500", "litecast-lease", "t")
    for url, why in (
        (None, "FLY_CONSUL_URL"),
        ("s3://bucket", "not Consul's"),
        ("http://", "not Consul's"),
        ("http://host:x/", "not Consul's"),
        ("http://:t@host/", "credentials"),
    ):
        with pytest.raises(LeaseUrlError, match=why):
            consul_place(url, {})
