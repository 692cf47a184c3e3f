"""Multicast DNS on the local network: each node announces itself as `_litecast._tcp.local.` and listens for others.

Needs the extra `zeroconf`, and no name server or list. Nodes of other clusters announce themselves under the same
service type; a tag in the announcement tells them apart. It carries no secret, and nobody is trusted for announcing
himself: what is found is a place to knock. A killed node's entry stays in the others' caches for a while, which does no
harm for the same reason. The interfaces are those that there are when the search starts.
"""

import asyncio
import hashlib
import ipaddress
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random

import ifaddr
from zeroconf import DNSQuestionType, Error, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from cluster.address import Address
from cluster.discovery.interface import Found
from cluster.discovery.lookup import Lookup, look_up
from cluster.discovery.polling import Failures, NoNews
from cluster.errors import ClusterError, DiscoveryError

SERVICE_TYPE = "_litecast._tcp.local."
LEAVE_TIMEOUT_S = 0.45  # of the half second that a cancelled search may take; saying goodbye needs 0.25
INSTANCE_TIMEOUT_S = 3.0  # for the details of one announced instance
INSTANCES_MAX = 1024  # announced and not looked at yet; anybody on the network can announce anything
LABEL_MAX_BYTES = 63
SUFFIX_BITS = 48
# Several nodes on one machine share the multicast port, and an answer sent to one of them alone may reach another.
# So every question asks for an answer to all (QM).
_TO_ALL = DNSQuestionType.QM


class ZeroconfDiscovery:
    """Announces this node and names the addresses of the cluster's other nodes as they announce themselves."""

    def __init__(
        self,
        *,
        cluster: str,
        node: str,
        reached_at: Address,
        poll_interval_s: float,
        log: logging.Logger,
        random: Random,
        count_failure: Callable[[], None],
        lookup: Lookup = look_up,
    ) -> None:
        """`reached_at` is where peers reach this node. A wildcard there announces the addresses of all interfaces.

        A loopback address keeps the announcement on this machine. Raises DiscoveryError if the port is not known yet.
        """
        if reached_at.port == 0:
            raise DiscoveryError(f"zeroconf cannot announce {reached_at}: give the bus a port of its own")
        self._tag = cluster_tag(cluster)
        self._node = node
        self._instance = instance_name(node, random)
        self._reached_at = reached_at
        self._poll_interval_s = poll_interval_s
        self._failures = Failures(log, count_failure)
        self._log = log
        self._lookup = lookup

    def describe(self) -> str:
        """The service type, and whether the network or only this machine is searched."""
        where = "this machine" if self._reached_at.is_loopback else "the local network"
        return f"zeroconf: {SERVICE_TYPE} on {where}"

    async def run(self, found: Found) -> None:
        """See `Discovery.run`. Once cancelled it says goodbye, within half a second."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with self._announced() as network:
                    self._failures.worked()
                    await self._browse(network, found)
            except NoNews as reason:
                self._failures.failed(str(reason), loop.time())
            await asyncio.sleep(self._poll_interval_s)

    @asynccontextmanager
    async def _announced(self) -> AsyncIterator[Zeroconf]:
        """Multicast DNS with this node announced. Raises NoNews if the network does not let us."""
        try:
            info = self._own_service(await self._own_hosts())
            network = self._open()
        except (OSError, RuntimeError, Error) as error:
            raise NoNews(f"no multicast DNS: {error}") from error
        announcing: asyncio.Future[object] | None = None
        try:
            # The random suffix makes the name unique, so we need not ask for 0.75 s whether it is taken.
            try:
                announcing = asyncio.ensure_future(
                    await network.async_register_service(info, cooperating_responders=True)
                )
            except (OSError, Error, TimeoutError) as error:
                raise NoNews(f"no multicast DNS: {error}") from error
            yield network.zeroconf
        finally:
            if announcing is not None:
                announcing.cancel()
            # A task of its own: in a cancelled one, zeroconf takes its wait for its own start to be cancelled as well,
            # and leaves the sockets open.
            closing = asyncio.ensure_future(network.async_close())
            closing.add_done_callback(self._closed)
            await asyncio.wait([closing], timeout=LEAVE_TIMEOUT_S)
            closing.cancel()

    def _closed(self, closing: asyncio.Future[None]) -> None:
        if not closing.cancelled() and (error := closing.exception()) is not None:
            self._log.debug("zeroconf did not close cleanly: %s", error)

    def _open(self) -> AsyncZeroconf:
        if self._reached_at.is_loopback:
            return AsyncZeroconf(interfaces=["127.0.0.1"])
        # Not zeroconf's own choice of all interfaces: it sends to ::1 as well, where nothing can be multicast.
        adapters = list(ifaddr.get_adapters())
        v4 = [str(ip.ip) for adapter in adapters for ip in adapter.ips if ip.is_IPv4]
        v6 = [
            adapter.index
            for adapter in adapters
            if adapter.index is not None and any(ip.is_IPv6 and ip.ip[0] != "::1" for ip in adapter.ips)
        ]
        return AsyncZeroconf(interfaces=[*v4, *v6])

    async def _browse(self, network: Zeroconf, found: Found) -> None:
        """Name each announced instance of the cluster once its details are known, until cancelled."""
        unknown: set[str] = set()
        changed = asyncio.Event()

        def heard(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
            if state_change is ServiceStateChange.Removed:
                unknown.discard(name)
            elif name != self._instance and len(unknown) < INSTANCES_MAX:
                unknown.add(name)
                changed.set()

        async def inspect(name: str) -> None:
            candidates = await self._candidates(network, name)
            if candidates is None:
                return  # it stays unknown and gets another try
            unknown.discard(name)
            if candidates:
                found(candidates)

        browser = AsyncServiceBrowser(network, SERVICE_TYPE, handlers=[heard], question_type=_TO_ALL)
        inspected: dict[str, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    inspected = {name: task for name, task in inspected.items() if not task.done()}
                    for name in unknown - inspected.keys():
                        inspected[name] = group.create_task(inspect(name))
                    changed.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(self._poll_interval_s):
                            await changed.wait()
        finally:
            await browser.async_cancel()

    async def _candidates(self, network: Zeroconf, name: str) -> Sequence[Address] | None:
        """Where the instance is reached: nowhere if it is of another cluster, None if it does not answer."""
        try:
            info = AsyncServiceInfo(SERVICE_TYPE, name)
            if not await info.async_request(network, INSTANCE_TIMEOUT_S * 1000, question_type=_TO_ALL):
                return None
            if info.properties.get(b"cluster") != self._tag or not info.port:
                return ()
            candidates = [Address(host, info.port) for host in info.parsed_scoped_addresses(IPVersion.All)]
        except (OSError, Error, ValueError, ClusterError) as error:  # anybody on the network can announce anything
            self._log.debug("zeroconf instance %r: %s", name, error)
            return None
        return [candidate for candidate in candidates if not candidate.is_wildcard]

    def _own_service(self, hosts: Sequence[str]) -> AsyncServiceInfo:
        if not hosts:
            raise OSError("this machine has no network address to announce")
        return AsyncServiceInfo(
            SERVICE_TYPE,
            self._instance,
            port=self._reached_at.port,
            # `txtvers` is the customary first key (RFC 6763): what the others mean may change with it.
            properties={"txtvers": b"1", "cluster": self._tag, "node": self._node.encode()[:200]},
            server=f"{self._instance.removesuffix('.' + SERVICE_TYPE)}.local.",
            parsed_addresses=list(hosts),
        )

    async def _own_hosts(self) -> Sequence[str]:
        """The IP addresses to announce; raises OSError if the advertised name has none."""
        if self._reached_at.is_wildcard:
            return announced_hosts(
                [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips],
                only_v4=self._reached_at.host == "0.0.0.0",
            )
        if self._reached_at.is_ip:
            return [self._reached_at.host]
        return [address.host for address in await self._lookup(self._reached_at.host, self._reached_at.port)]


def cluster_tag(cluster: str) -> bytes:
    """What tells clusters apart in announcements: a hash, since a name may be longer than such a value."""
    return hashlib.sha256(cluster.encode()).hexdigest()[:32].encode()


def instance_name(node: str, random: Random) -> str:
    """A service instance name that people recognise and that no other node, nor this node's last run, has."""
    suffix = f"-{random.getrandbits(SUFFIX_BITS):0{SUFFIX_BITS // 4}x}"
    readable = re.sub(r"[^A-Za-z0-9-]+", "-", node).strip("-")[: LABEL_MAX_BYTES - len(suffix)]
    return f"{readable or 'node'}{suffix}.{SERVICE_TYPE}"


def announced_hosts(interfaces: Sequence[str | tuple[str, int, int]], *, only_v4: bool) -> Sequence[str]:
    """Of the addresses of all interfaces, those worth telling others: loopback only if there is nothing else."""
    ips = [ipaddress.ip_address(entry if isinstance(entry, str) else entry[0]) for entry in interfaces]
    usable = [ip for ip in ips if not ip.is_link_local and not (only_v4 and ip.version == 6)]
    outside = [ip for ip in usable if not ip.is_loopback]
    return [str(ip) for ip in dict.fromkeys(outside or usable)]
