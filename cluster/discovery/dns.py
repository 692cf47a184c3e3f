"""The AAAA and A records of one name, asked for again and again: Fly's `<app>.internal`, a compose service's name.

The name server's word that a record may be kept (the TTL) is ignored and nothing is cached: Docker says ten minutes for
containers that come and go in seconds. Needs the extra `dns` (dnspython), because the system's resolver neither tells
"no such name" from "no answer" nor lets itself be cancelled.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from cluster.address import Address
from cluster.discovery.interface import Found
from cluster.discovery.polling import Failures, NoNews, poll
from cluster.errors import AddressError, DiscoveryError

ANSWER_TIMEOUT_S = 3.0  # for all tries at one question, at all name servers
TRY_TIMEOUT_S = 1.0  # for one datagram: two more tries fit into the time of an answer
# What an answer over UDP may hold without being cut and asked for again over TCP: 42 addresses rather than 16.
# 1,232 bytes pass every network unfragmented (DNS flag day 2020).
UDP_ANSWER_MAX_BYTES = 1232
SYSTEM_RESOLVER = Path("/etc/resolv.conf")

_RECORDS = (dns.rdatatype.AAAA, dns.rdatatype.A)
_NOBODY = frozenset({"0.0.0.0", "::"})  # what filtering name servers answer to names that they hide


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What one question brought: addresses, or else the reason why there are none."""

    hosts: Sequence[str] = ()
    reason: str = ""


class DnsDiscovery:
    """Asks for the addresses of a name; each of them, with the port that all nodes listen at, is a candidate."""

    def __init__(
        self,
        name: str,
        port: int,
        *,
        own: Address | None,
        poll_interval_s: float,
        log: logging.Logger,
        random: Random,
        count_failure: Callable[[], None],
        nameserver: Address | None = None,
        resolv_conf: Path = SYSTEM_RESOLVER,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        """`own` is where peers reach this node; it joins each answer that lacks it, since a new node is listed late.

        `nameserver` is asked instead of those of `resolv_conf`, which is read anew at each poll. Raises DiscoveryError
        if `name` is not a host name, or `port` not a port to dial.
        """
        try:
            target = Address(name, port)
        except AddressError as error:
            raise DiscoveryError(f"discovery by dns: {error}; set dns_name and dns_port") from None
        if target.is_ip or target.is_wildcard:
            raise DiscoveryError(f"dns_name {name!r} is no name to look up; for fixed addresses use the method static")
        if port == 0:
            raise DiscoveryError("discovery by dns needs dns_port, the one port at which all nodes listen")
        if nameserver is not None and (not nameserver.is_ip or nameserver.port == 0):
            raise DiscoveryError(f"name server {nameserver.host_and_port} must be an IP address and a port, usually 53")
        self._name = name
        self._port = port
        self._own = None if own is None or own.is_wildcard else own
        self._poll_interval_s = poll_interval_s
        self._random = random
        self._failures = Failures(log, count_failure)
        self._nameserver = nameserver
        self._resolv_conf = resolv_conf
        self._answer_timeout_s = answer_timeout_s

    def describe(self) -> str:
        """The name, the port, and who is asked for it."""
        asked = "the system's resolver" if self._nameserver is None else self._nameserver.host_and_port
        return f"dns: {self._name}, port {self._port}, every {self._poll_interval_s:g} s, from {asked}"

    async def run(self, found: Found) -> None:
        """See `Discovery.run`."""
        await poll(self._ask, found, self._failures, interval_s=self._poll_interval_s, random=self._random)

    async def _ask(self) -> Sequence[Address]:
        """The candidates of one poll. Raises NoNews if no question brought an address."""
        try:
            resolver = self._resolver()
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise NoNews(f"{self._resolv_conf} names no usable name server: {error}") from error
        reasons: list[str] = []
        for name in names_to_ask(self._name, resolver.search or [resolver.domain]):
            replies = await asyncio.gather(*(self._records(resolver, name, kind) for kind in _RECORDS))
            candidates = [Address(host, self._port) for reply in replies for host in reply.hosts]
            if candidates:
                if self._own is not None and self._own not in candidates:
                    candidates.append(self._own)
                return candidates
            reasons += dict.fromkeys(reply.reason for reply in replies)
        raise NoNews("; ".join(reasons))

    async def _records(
        self, resolver: dns.asyncresolver.Resolver, name: dns.name.Name, kind: dns.rdatatype.RdataType
    ) -> _Reply:
        """The addresses of one kind that `name` has.

        A failure is returned rather than raised: a name server that chokes on AAAA must not spoil the answer to A.
        """
        shown = name.to_text(omit_final_dot=True)
        try:
            answer = await resolver.resolve(name, kind, lifetime=self._answer_timeout_s, search=False)
        except dns.resolver.NXDOMAIN:
            return _Reply(reason=f"{shown}: no such name")
        except dns.resolver.NoAnswer:
            return _Reply(reason=f"{shown}: no addresses")
        except dns.resolver.LifetimeTimeout:  # its own text has milliseconds in it: a new reason each time
            return _Reply(reason=f"{shown}: no answer within {self._answer_timeout_s:g} s")
        except (dns.exception.DNSException, OSError) as error:
            return _Reply(reason=" ".join(f"{shown}: {error}".split()))
        hosts = tuple(str(record.address) for record in answer)
        if set(hosts) <= _NOBODY:
            return _Reply(reason=f"{shown}: the name server answers {hosts[0]}, which means nobody")
        return _Reply(hosts=tuple(host for host in hosts if host not in _NOBODY))

    def _resolver(self) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=False)
        if self._nameserver is None:
            resolver.read_resolv_conf(str(self._resolv_conf))
        else:
            resolver.nameservers = [self._nameserver.host]
            resolver.port = self._nameserver.port
            resolver.search, resolver.domain = [], dns.name.root
        resolver.timeout = min(TRY_TIMEOUT_S, self._answer_timeout_s)
        resolver.use_edns(0, 0, UDP_ANSWER_MAX_BYTES)
        return resolver


def names_to_ask(name: str, search: Sequence[dns.name.Name]) -> Sequence[dns.name.Name]:
    """The absolute names that `name` can mean, the likeliest first.

    A single label such as `node` is a compose service: it is asked for as it stands, and only then under the domains of
    the `search` list (a Kubernetes service's way). The usual order is the reverse, but then a search domain whose
    servers are out of reach would keep a container from its neighbours. A name with dots, `<app>.internal`, is asked
    for as it stands alone: an internal name has no business in other people's domains.
    """
    relative = dns.name.from_text(name, None)
    if relative.is_absolute():
        return [relative]
    absolute = relative.concatenate(dns.name.root)
    if len(relative) > 1:
        return [absolute]
    return [absolute, *(relative.concatenate(domain) for domain in search if domain != dns.name.root)]
