"""From settings to a method, and what wrong settings get."""

import logging
import subprocess
import sys
from random import Random

import pytest

from cluster.address import Address
from cluster.discovery import Discovery, Method, make_discovery
from cluster.errors import DiscoveryError

HERE = Address("127.0.0.1", 7400)


def made(
    method: Method,
    *,
    reached_at: Address = HERE,
    peers: tuple[Address, ...] = (),
    dns_name: str | None = None,
    dns_port: int | None = None,
    dns_nameserver: Address | None = None,
    poll_interval_s: float = 5.0,
) -> Discovery:
    return make_discovery(
        method,
        cluster="litecast",
        node="alpha",
        reached_at=reached_at,
        peers=peers,
        dns_name=dns_name,
        dns_port=dns_port,
        dns_nameserver=dns_nameserver,
        poll_interval_s=poll_interval_s,
        log=logging.getLogger("test.discovery"),
        random=Random(1),
    )


def test_each_method_says_whom_it_asks() -> None:
    peer = Address("beta", 7401)
    assert made(Method.NONE, peers=(peer,)).describe() == "none (others may still dial this node)"
    assert made(Method.STATIC, peers=(peer, HERE)).describe() == "static: tcp://beta:7401, tcp://127.0.0.1:7400"
    assert (
        made(Method.DNS, dns_name="app.internal").describe()
        == "dns: app.internal, port 7400, every 5 s, from the system's resolver"
    )
    assert (
        made(Method.DNS, dns_name="node", dns_port=7401, dns_nameserver=Address("fdaa::3", 53)).describe()
        == "dns: node, port 7401, every 5 s, from [fdaa::3]:53"
    )
    assert made(Method.ZEROCONF).describe() == "zeroconf: _litecast._tcp.local. on this machine"
    anywhere = made(Method.ZEROCONF, reached_at=Address("*", 7400))
    assert anywhere.describe() == "zeroconf: _litecast._tcp.local. on the local network"


@pytest.mark.parametrize("name", [None, "", "10.0.0.1", "*", "a..b", "node:7400"])
def test_a_dns_name_that_cannot_be_looked_up_is_refused_in_one_line(name: str | None) -> None:
    with pytest.raises(DiscoveryError, match="dns_name") as caught:
        made(Method.DNS, dns_name=name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_dns_port_that_nobody_can_dial_is_refused() -> None:
    with pytest.raises(DiscoveryError, match="dns_port"):
        made(Method.DNS, dns_name="node", reached_at=Address("127.0.0.1", 0))
    with pytest.raises(DiscoveryError, match="dns_port"):
        made(Method.DNS, dns_name="node", dns_port=65536)


def test_a_name_server_is_an_ip_address() -> None:
    with pytest.raises(DiscoveryError, match="must be an IP address"):
        made(Method.DNS, dns_name="node", dns_nameserver=Address("ns.example", 53))


def test_zeroconf_announces_no_unknown_port() -> None:
    with pytest.raises(DiscoveryError, match="port"):
        made(Method.ZEROCONF, reached_at=Address("127.0.0.1", 0))


@pytest.mark.parametrize("interval_s", [0.0, -1.0, float("nan")])
def test_a_poll_interval_that_would_flood_a_name_server_is_refused(interval_s: float) -> None:
    with pytest.raises(DiscoveryError, match="poll_interval_s"):
        made(Method.STATIC, poll_interval_s=interval_s)


MISSING = """
import logging, random, sys
for name in {packages!r}:
    sys.modules[name] = None  # what the import system takes for "not installed"
from cluster.address import Address
from cluster.discovery import Method, make_discovery
from cluster.errors import DiscoveryError
try:
    make_discovery(Method({method!r}), cluster="c", node="n", reached_at=Address("127.0.0.1", 7400), dns_name="node",
                   log=logging.getLogger(), random=random.Random(1))
except DiscoveryError as error:
    print(error)
"""


@pytest.mark.parametrize(("method", "package"), [("dns", "dns"), ("zeroconf", "zeroconf")])
def test_a_missing_package_is_one_line_with_the_remedy_and_only_for_its_method(method: str, package: str) -> None:
    def run(chosen: str) -> str:
        script = MISSING.format(packages=["dns", "zeroconf"], method=chosen)
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    said = run(method)
    assert len(said.splitlines()) == 1
    assert f"pip install 'litecast[{method}]'" in said
    assert package in said
    assert run("static") == ""
