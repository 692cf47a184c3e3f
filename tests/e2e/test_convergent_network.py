"""Convergent nodes as processes, with a bad network between them: it costs time, and no count."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.convergent_nodes import Make, clicks, cluster_of, introduce, start, under_load
from tests.support.namespaces import Namespaces
from tests.support.node_process import node_processes
from tests.support.tcp_proxy import ProxyThread

BUS_PORT, HTTP_PORT = 7400, 8080

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


@pytest.fixture
def proxies() -> Iterator[ProxyThread]:
    with ProxyThread() as proxies:
        yield proxies


def test_delayed_cut_held_and_corrupted_connections_lose_nothing(
    make: Make, tmp_path: Path, proxies: ProxyThread
) -> None:
    nodes = cluster_of(make, "abc")
    a = nodes[0]
    before = {node.name: proxies.proxy(node.bus_port) for node in nodes}
    for node in nodes:
        node.settings["bus__advertise"] = f"tcp://127.0.0.1:{before[node.name].port}"
    introduce(nodes)
    start(*nodes)
    with under_load(tmp_path, nodes) as load:

        def all_write() -> None:
            for writer in load.writers:
                writer.until_counted()

        for proxy in before.values():
            proxy.delay_s = 0.02
        all_write()
        proxies.do(before["b"].cut)
        a.until(lambda: "b" not in a.peers_up())
        all_write()
        proxies.do(before["b"].heal)
        a.until(lambda: "b" in a.peers_up())
        proxies.do(before["c"].hold)  # nobody is told anything: as long as that, the others send into the void
        all_write()
        proxies.do(before["c"].heal)
        for proxy in before.values():
            proxies.do(lambda proxy=proxy: proxy.corrupt(3))  # type: ignore[misc]
        a.until(lambda: all(proxy.corrupted_all for proxy in before.values()))
        all_write()
        for proxy in before.values():
            proxies.do(lambda proxy=proxy: proxy.cut_after(20_000))  # type: ignore[misc]
        a.until(lambda: not a.peers_up())
        all_write()
        for proxy in before.values():
            proxy.delay_s = 0.0
            proxies.do(proxy.heal)
    assert all(not node.cluster()["replication"]["counts"].get("forks") for node in nodes)
    assert all(node.cluster()["replication"]["counts"]["merged"] > 0 for node in nodes)


@pytest.mark.netns
def test_networks_that_part_one_way_or_both_and_come_together_again_lose_nothing(make: Make, tmp_path: Path) -> None:
    with Namespaces("abc") as networks:
        nodes = cluster_of(make, "abc")
        a, b, c = nodes
        for node in nodes:
            address = networks.address(node.name)
            node.settings |= {"bus__bind": f"tcp://{address}:{BUS_PORT}", "http__bind": f"{address}:{HTTP_PORT}"}
            node.command = [*networks.command(node.name), *node.command]
        introduce(nodes)
        start(*nodes)
        with under_load(tmp_path, nodes) as load:

            def all_write() -> None:
                for writer in load.writers:
                    writer.until_counted()

            networks.separate("a")
            c.until(lambda: c.peers_up() == {"b"})
            a.until(lambda: not a.peers_up())
            all_write()
            networks.heal()
            c.until(lambda: c.peers_up() == {"a", "b"})
            networks.drop("a", "b")  # b hears nothing of a, and a hears b
            b.until(lambda: b.peers_up() == {"c"})
            a.until(lambda: a.peers_up() == {"c"})
            all_write()
            acknowledged = load.writers[0].acknowledged()  # it goes on: what it has written until now
            b.until(lambda: clicks(b) >= acknowledged)  # by c, who has it
            networks.heal()
            networks.unplug("b")
            a.until(lambda: a.peers_up() == {"c"})
            all_write()
            networks.heal()
        assert all(not node.cluster()["replication"]["counts"].get("forks") for node in nodes)
