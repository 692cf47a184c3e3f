"""A list of peers. IP addresses are taken as they are; host names are looked up again and again.

An empty list is the method `none`: a node that nobody is looked for, and that others may still dial.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from cluster.address import Address
from cluster.discovery.interface import Found
from cluster.discovery.lookup import Lookup, look_up
from cluster.discovery.polling import Failures, NoNews, poll
from cluster.errors import DiscoveryError


class StaticDiscovery:
    """Names the addresses it was given: an IP once, at the start; the addresses of a host name at each poll."""

    def __init__(
        self,
        peers: Sequence[Address],
        *,
        poll_interval_s: float,
        log: logging.Logger,
        random: Random,
        count_failure: Callable[[], None],
        lookup: Lookup = look_up,
    ) -> None:
        for peer in peers:
            if peer.is_wildcard or peer.port == 0:
                raise DiscoveryError(
                    f"peer {peer} cannot be dialled: that is a place to listen at; name the host and port of the peer"
                )
        self._peers = tuple(dict.fromkeys(peers))
        self._poll_interval_s = poll_interval_s
        self._log = log
        self._random = random
        self._count_failure = count_failure
        self._lookup = lookup

    def describe(self) -> str:
        """The list, as it was given."""
        if not self._peers:
            return "none (others may still dial this node)"
        return "static: " + ", ".join(str(peer) for peer in self._peers)

    async def run(self, found: Found) -> None:
        """See `Discovery.run`. Each name is asked by itself, so that a slow one holds up no other."""
        ips = [peer for peer in self._peers if peer.is_ip]
        if ips:
            found(ips)
        async with asyncio.TaskGroup() as group:
            for peer in self._peers:
                if not peer.is_ip:
                    group.create_task(self._poll(peer, found), name=f"look up {peer.host}")
            await asyncio.Event().wait()  # for ever; the list does not change

    async def _poll(self, peer: Address, found: Found) -> None:
        await poll(
            partial(self._ask, peer),
            found,
            Failures(self._log, self._count_failure),
            interval_s=self._poll_interval_s,
            random=self._random,
        )

    async def _ask(self, peer: Address) -> Sequence[Address]:
        try:
            return await self._lookup(peer.host, peer.port)
        except OSError as error:
            raise NoNews(f"{peer.host}: {error.strerror or error}") from error
