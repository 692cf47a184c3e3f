"""zeroconf discovery between real processes that share this machine's multicast port."""

import asyncio
import contextlib
import hashlib
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

from cluster.address import Address
from cluster.discovery.zeroconf import SERVICE_TYPE, ZeroconfDiscovery, announced_hosts, cluster_tag, instance_name
from tests.support.candidates import Candidates, running

DEADLINE_S = 15.0


def unique_cluster() -> str:
    """Tests of two checkouts on one machine hear each other."""
    return f"test-{os.urandom(6).hex()}"


class Announcer:
    """A running `announcer.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def says(self, line: str) -> None:
        """Wait until it prints this line; fails when the process ends first, TimeoutError after 15 seconds."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            while line not in self.said:
                heard = await self.process.stdout.readline()
                assert heard, f"the announcer ended with {await self.process.wait()} after {self.said}"
                self.said.append(heard.decode().strip())


@asynccontextmanager
async def announcer(cluster: str, node: str, host: str, port: int) -> AsyncIterator[Announcer]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.discovery.announcer",
        cluster,
        node,
        host,
        str(port),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Announcer(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def zeroconf(cluster: str, node: str, reached_at: Address, *, seed: int = 1) -> ZeroconfDiscovery:
    return ZeroconfDiscovery(
        cluster=cluster,
        node=node,
        reached_at=reached_at,
        poll_interval_s=0.5,
        log=logging.getLogger("test.discovery"),
        random=Random(seed),
        count_failure=lambda: None,
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_two_processes_find_each_other_on_this_machine(host: str) -> None:
    cluster = unique_cluster()
    async with announcer(cluster, "alpha", host, 7401) as alpha, announcer(cluster, "beta", host, 7402) as beta:
        await alpha.says(f"found {Address(host, 7402).host_and_port}")
        await beta.says(f"found {Address(host, 7401).host_and_port}")


async def test_a_late_comer_is_found_and_finds_those_who_are_there() -> None:
    cluster = unique_cluster()
    async with announcer(cluster, "alpha", "127.0.0.1", 7401) as alpha:
        await alpha.says("started")
        async with announcer(cluster, "beta", "127.0.0.1", 7402) as beta:
            await beta.says("found 127.0.0.1:7401")
            await alpha.says("found 127.0.0.1:7402")


async def test_another_cluster_on_the_same_network_is_not_found() -> None:
    ours, theirs = unique_cluster(), unique_cluster()
    async with (
        announcer(theirs, "alpha", "127.0.0.1", 7409) as stranger,
        running(zeroconf(ours, "alpha", Address("127.0.0.1", 7401))) as candidates,
        announcer(ours, "beta", "127.0.0.1", 7402) as beta,
    ):
        await candidates.includes(Address("127.0.0.1", 7402))
        await beta.says("found 127.0.0.1:7401")
        # One more of theirs, who does hear the stranger: so he was there to be found all the time.
        async with announcer(theirs, "gamma", "127.0.0.1", 7408) as gamma:
            await gamma.says("found 127.0.0.1:7409")
        assert candidates.all == {Address("127.0.0.1", 7402)}
        assert beta.said == ["started", "found 127.0.0.1:7401"]
    assert stranger.process.returncode is not None


async def test_a_killed_node_that_returns_under_its_name_is_found_at_its_new_port() -> None:
    cluster = unique_cluster()
    async with announcer(cluster, "alpha", "127.0.0.1", 7401) as alpha:
        async with announcer(cluster, "beta", "127.0.0.1", 7402) as beta:
            await alpha.says("found 127.0.0.1:7402")
            beta.process.kill()  # no goodbye: its entry lingers
        async with announcer(cluster, "beta", "127.0.0.1", 7403):
            await alpha.says("found 127.0.0.1:7403")


async def test_two_nodes_of_one_name_are_both_found() -> None:
    cluster = unique_cluster()
    async with (
        running(zeroconf(cluster, "alpha", Address("127.0.0.1", 7401))) as candidates,
        announcer(cluster, "beta", "127.0.0.1", 7402),
        announcer(cluster, "beta", "127.0.0.1", 7403),
    ):
        await candidates.includes(Address("127.0.0.1", 7402), Address("127.0.0.1", 7403))


async def test_a_stopped_node_says_goodbye_and_ends_within_half_a_second() -> None:
    gone: list[str] = []
    all_gone = asyncio.Event()

    def heard(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            gone.append(name.split("-")[0])
            if {"alpha", "beta"} <= set(gone):
                all_gone.set()

    cluster = unique_cluster()
    async with (
        AsyncZeroconf(interfaces=["127.0.0.1"]) as network,
        announcer(cluster, "beta", "127.0.0.1", 7402) as beta,
    ):
        browser = AsyncServiceBrowser(network.zeroconf, SERVICE_TYPE, handlers=[heard])
        candidates = Candidates()
        search = asyncio.create_task(zeroconf(cluster, "alpha", Address("127.0.0.1", 7401)).run(candidates.found))
        await candidates.includes(Address("127.0.0.1", 7402))
        search.cancel()
        async with asyncio.timeout(0.5):
            with pytest.raises(asyncio.CancelledError):
                await search
        beta.process.terminate()
        async with asyncio.timeout(DEADLINE_S):
            assert await beta.process.wait() == 0
            await all_gone.wait()
        await browser.async_cancel()


async def test_a_search_that_is_cancelled_while_it_starts_ends_in_time_too() -> None:
    for turns in range(6):
        search = asyncio.create_task(zeroconf("c", "alpha", Address("127.0.0.1", 7401)).run(lambda _: None))
        for _ in range(turns):
            await asyncio.sleep(0)
        search.cancel()
        async with asyncio.timeout(0.5):
            with pytest.raises(asyncio.CancelledError):
                await search


async def test_nodes_on_all_interfaces_find_each_other(caplog: pytest.LogCaptureFixture) -> None:
    cluster = unique_cluster()
    async with (
        running(zeroconf(cluster, "alpha", Address("*", 7401))) as candidates,
        announcer(cluster, "beta", "::", 7402) as beta,
    ):
        await beta.says("started")
        await candidates.times(1)
    assert {address.port for address in candidates.all} == {7402}
    assert not any(address.is_wildcard for address in candidates.all)
    assert "::1', 5353" not in caplog.text  # where nothing can be multicast


async def test_an_advertised_name_without_addresses_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[float] = []
    enough = asyncio.Event()

    def count() -> None:
        failures.append(1)
        if len(failures) == 2:
            enough.set()

    async def unknown(host: str, port: int) -> list[Address]:
        raise OSError(-2, f"{host} is not known")

    discovery = ZeroconfDiscovery(
        cluster="c",
        node="alpha",
        reached_at=Address("alpha.example", 7401),
        poll_interval_s=0.01,
        log=logging.getLogger("test.discovery"),
        random=Random(1),
        count_failure=count,
        lookup=unknown,
    )
    async with running(discovery) as candidates:
        async with asyncio.timeout(DEADLINE_S):
            await enough.wait()
    assert candidates.calls == []
    assert "alpha.example is not known" in caplog.text


def test_instance_names_fit_in_a_label_and_differ_between_runs() -> None:
    for node in ("alpha", "", "a.b c/ü", "x" * 300):
        first, second = instance_name(node, Random(1)), instance_name(node, Random(2))
        assert first != second
        for name in (first, second):
            label = name.removesuffix("." + SERVICE_TYPE)
            assert "." not in label
            assert 1 <= len(label.encode()) <= 63


def test_the_tag_of_a_cluster_fits_in_a_txt_value_however_long_its_name() -> None:
    assert len(b"cluster=" + cluster_tag("é" * 10_000)) <= 255
    assert cluster_tag("a") != cluster_tag("b")
    assert cluster_tag("a") == hashlib.sha256(b"a").hexdigest()[:32].encode()


def test_loopback_is_announced_only_by_a_machine_that_has_nothing_else() -> None:
    v6, local = ("fdaa::1", 0, 0), ("fe80::1", 0, 2)
    interfaces: list[str | tuple[str, int, int]] = ["127.0.0.1", "192.0.2.2", ("::1", 0, 0), v6, local]
    assert announced_hosts(interfaces, only_v4=False) == ["192.0.2.2", "fdaa::1"]
    assert announced_hosts(interfaces, only_v4=True) == ["192.0.2.2"]
    assert announced_hosts(["127.0.0.1", ("::1", 0, 0)], only_v4=False) == ["127.0.0.1", "::1"]
    assert announced_hosts([local], only_v4=False) == []
