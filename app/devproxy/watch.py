"""Where the nodes are, and which of them are ready: asked every second, so that a request need not find out.

A name that has no answer is no news, as everywhere in Litecast: the nodes stay where they were. Each node is asked for
its readiness and for its name, because an address may belong to another node than a moment ago.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

import httpx

from app.devproxy.pool import Backend, Pool
from cluster.address import Address
from cluster.discovery.lookup import Lookup, look_up

INTERVAL_S = 1.0
LOOKUP_TIMEOUT_S = 3.0
# Less than the interval: a node that does not answer must not hold up the news of the others by much.
PROBE_TIMEOUT_S = 0.8

log = logging.getLogger(__name__)


class Places(Protocol):
    """Where nodes may be."""

    async def addresses(self) -> Sequence[Address]:
        """Asks now. Raises OSError if there is no answer."""
        ...

    def __str__(self) -> str: ...


class Listed:
    """Nodes at addresses that somebody named, or at host names, each of which is one node."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = tuple(addresses)

    async def addresses(self) -> Sequence[Address]:
        """The same every time."""
        return self._addresses

    def __str__(self) -> str:
        return ", ".join(address.host_and_port for address in self._addresses)


class Named:
    """Nodes at all the addresses of one name, on one port: a compose service, an `<app>.internal`."""

    def __init__(self, name: str, port: int, *, lookup: Lookup = look_up) -> None:
        self._name = name
        self._port = port
        self._lookup = lookup

    async def addresses(self) -> Sequence[Address]:
        """What the name stands for now. Raises OSError (TimeoutError after three seconds) without an answer."""
        async with asyncio.timeout(LOOKUP_TIMEOUT_S):
            return await self._lookup(self._name, self._port)

    def __str__(self) -> str:
        return f"every address of {self._name}, port {self._port}"


class Watch:
    """Keeps a pool up to date, from `run` until that is cancelled."""

    def __init__(
        self,
        pool: Pool,
        places: Places,
        client: httpx.AsyncClient,
        *,
        programs: bool = False,
        interval_s: float = INTERVAL_S,
    ) -> None:
        """`programs`: requests are for the programs beside the nodes; one that says of none where it is gets none."""
        self._pool = pool
        self._places = places
        self._client = client
        self._programs = programs
        self._interval_s = interval_s

    async def run(self) -> None:
        """Looks again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._interval_s)

    async def look(self) -> None:
        """Asks where the nodes are, and each of them how it is. Takes four seconds at most; raises nothing."""
        before = {backend.address: backend for backend in self._pool.backends}
        try:
            found = await self._places.addresses()
        except OSError as error:
            log.warning("%s: no answer (%s)", self._places, str(error) or "too late", extra={"cause": "lookup"})
        else:
            if found:
                self._pool.place(found)
        await asyncio.gather(*(self._probe(backend) for backend in self._pool.backends))
        _log_changes(before, self._pool.backends)

    async def _probe(self, backend: Backend) -> None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                ready = await self._client.get(f"{backend.node_url}/readyz")
                answer = await self._client.get(f"{backend.node_url}/api/cluster")
            node = answer.raise_for_status().json()["node"]
            name, region = str(node["name"]), str(node["region"])
            program = str(node["program"]) if self._programs else ""
        except (httpx.HTTPError, TimeoutError, ValueError, KeyError, TypeError):
            self._pool.is_not_ready(backend.address)
            return
        if ready.status_code == httpx.codes.OK:
            self._pool.is_ready(backend.address, name=name, region=region, program=program)
        else:
            self._pool.is_not_ready(backend.address)


def _log_changes(before: dict[Address, Backend], now: Sequence[Backend]) -> None:
    for backend in now:
        known = before.pop(backend.address, None)
        if backend.ready and (known is None or not known.ready or known.name != backend.name):
            log.info("node %s at %s is ready", backend.label, backend.address.host_and_port)
        elif not backend.ready and known is not None and known.ready:
            log.info("node %s at %s is not ready any more", backend.label, backend.address.host_and_port)
    for gone in before.values():
        log.info("node %s at %s is gone", gone.label, gone.address.host_and_port)
