"""From settings to a discovery method. What a method needs beyond the core is imported only when it is chosen."""

import logging
from collections.abc import Callable, Sequence
from enum import StrEnum
from random import Random
from typing import assert_never

from cluster.address import Address
from cluster.discovery.interface import Discovery
from cluster.discovery.static import StaticDiscovery
from cluster.errors import DiscoveryError

POLL_INTERVAL_S = 5.0
POLL_INTERVAL_MIN_S = 0.1  # a name server is somebody else's machine


class Method(StrEnum):
    """How peers are found; the values are those of the setting `discovery.method`."""

    NONE = "none"
    STATIC = "static"
    DNS = "dns"
    ZEROCONF = "zeroconf"


def make_discovery(
    method: Method,
    *,
    cluster: str,
    node: str,
    reached_at: Address,
    peers: Sequence[Address] = (),
    dns_name: str | None = None,
    dns_port: int | None = None,
    dns_nameserver: Address | None = None,
    poll_interval_s: float = POLL_INTERVAL_S,
    log: logging.Logger,
    random: Random,
    count_failure: Callable[[], None] = lambda: None,
) -> Discovery:
    """The chosen method, not yet running. Nothing is asked and no file or socket opened before `run`.

    `reached_at` is where peers reach this node: the advertised address, else the bound one. `dns_port` is where all the
    listed nodes listen, by default the port of `reached_at`. `count_failure` is called at each failed or empty answer.

    Raises DiscoveryError, one line with the remedy, if the method cannot run with these settings or lacks its package.
    """
    if not poll_interval_s >= POLL_INTERVAL_MIN_S:
        raise DiscoveryError(f"poll_interval_s is {poll_interval_s:g}; it must be at least {POLL_INTERVAL_MIN_S:g} s")
    match method:
        case Method.NONE | Method.STATIC:
            return StaticDiscovery(
                peers if method is Method.STATIC else (),
                poll_interval_s=poll_interval_s,
                log=log,
                random=random,
                count_failure=count_failure,
            )
        case Method.DNS:
            if not dns_name:
                raise DiscoveryError(
                    "discovery by dns needs dns_name, the name whose AAAA and A records list all nodes"
                )
            try:
                from cluster.discovery.dns import DnsDiscovery
            except ModuleNotFoundError as error:
                raise _missing(method, error) from error
            return DnsDiscovery(
                dns_name,
                reached_at.port if dns_port is None else dns_port,
                own=reached_at,
                poll_interval_s=poll_interval_s,
                log=log,
                random=random,
                count_failure=count_failure,
                nameserver=dns_nameserver,
            )
        case Method.ZEROCONF:
            try:
                from cluster.discovery.zeroconf import ZeroconfDiscovery
            except ModuleNotFoundError as error:
                raise _missing(method, error) from error
            return ZeroconfDiscovery(
                cluster=cluster,
                node=node,
                reached_at=reached_at,
                poll_interval_s=poll_interval_s,
                log=log,
                random=random,
                count_failure=count_failure,
            )
        case _:
            assert_never(method)


def _missing(method: Method, error: ModuleNotFoundError) -> DiscoveryError:
    return DiscoveryError(
        f"discovery by {method} needs the package {error.name!r}, which is not here: pip install 'litecast[{method}]'"
    )
