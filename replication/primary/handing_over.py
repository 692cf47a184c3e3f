"""Handing the lease over: writes are held, a successor fetches what it has not got, and the lease is its alone."""

import asyncio
import contextlib
import logging
import math
from typing import Final, Protocol

from cluster.errors import CallError
from cluster.lease.interface import Grant, Lease
from replication.convergent.messages import Heads
from replication.convergent.store import View
from replication.engine.stamps import Site
from replication.errors import CannotPromote
from replication.primary.catching_up import ASK_TIMEOUT_S, Cluster, ask
from replication.primary.standing import PRIMARY, Role, RoleStatus
from replication.primary.under_way import UnderWay

log = logging.getLogger(__name__)

HAND_OVER_S: Final = 2.0
"""So long are writes held at most for a successor that has not got everything yet."""
HAND_OVER_LOOK_S: Final = 0.02
FOLLOWED_S: Final = 5.0


class Replication(Protocol):
    """What handing over needs of this node's replication."""

    def view(self) -> View: ...


class Office(Protocol):
    """What it needs of who leads."""

    @property
    def role(self) -> Role: ...
    @property
    def site(self) -> Site | None: ...
    @property
    def grant(self) -> Grant | None: ...
    @property
    def under_way(self) -> UnderWay: ...
    def status(self) -> RoleStatus: ...
    async def next_change(self) -> None: ...
    async def fence(self, primary: str | None) -> None: ...
    async def give_up(self, why: str) -> None: ...
    async def resign(self) -> Grant | None:
        """What it held, not to be renewed any more."""
        ...

    def resigned(self) -> None:
        """The lease is released, or could not be."""
        ...


class HandingOver:
    """`is_under_way`: no write is begun now."""

    def __init__(self, office: Office, replication: Replication, lease: Lease) -> None:
        self.is_under_way = False
        self._office = office
        self._replication = replication
        self._lease = lease
        self._cluster: Cluster | None = None

    def start(self, cluster: Cluster) -> None:
        """The node runs."""
        self._cluster = cluster

    async def promote(self, node: str) -> None:
        """Makes that node the primary, from whichever node it is asked of. Returns once it is. Raises CannotPromote."""
        status = self._office.status()
        if status.primary == node:
            raise CannotPromote(f"{node} is the primary already")
        if self._office.role is Role.PRIMARY:
            await self.hand_over(node)
        elif status.primary is None or self._cluster is None:
            raise CannotPromote("there is no primary just now: a candidate follows by itself")
        else:
            await self._ask_to_promote(self._cluster, status.primary, node)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FOLLOWED_S):
                while self._office.status().primary != node:
                    await self._office.next_change()
                return
        raise CannotPromote(
            f"{node} was handed the lease, and is not the primary after {FOLLOWED_S:g} s: see its status"
        )

    async def _ask_to_promote(self, cluster: Cluster, primary: str, node: str) -> None:
        try:
            answer = await cluster.call(primary, PRIMARY, ["promote", node], timeout_s=FOLLOWED_S + 2 * HAND_OVER_S)
        except CallError as error:
            raise CannotPromote(f"the primary, {primary}, does not answer: {error}") from None
        match answer:
            case ["done"]:
                pass
            case ["refused", str(why)]:
                raise CannotPromote(why)
            case _:
                raise CannotPromote(f"the primary, {primary}, does not know how to hand over")

    async def hand_over(self, to: str | None = None) -> None:
        """Gives the lease to a candidate that has everything; None: to any. Writes are held meanwhile, for
        `HAND_OVER_S` at most. Returns once the lease is released to it.

        Raises CannotPromote: with nothing changed, unless the successor stopped to answer meanwhile: then the lease is
        any candidate's. Raises what fencing and releasing raise."""
        office = self._office
        if office.role is not Role.PRIMARY or office.grant is None or self.is_under_way:
            raise CannotPromote("this node is not the primary, or hands over already")
        if office.grant.good_until_s == math.inf:
            raise CannotPromote(
                "the lease is static, so nobody can be handed it: name the other node in [lease] primary on all nodes "
                "and restart them, or let nodes take turns with [lease] provider = 'object_store' or 'consul'"
            )
        successor = await self._successor(to)
        if not await self._gets_everything(successor):
            raise CannotPromote(f"{successor} has not got what this node wrote after {HAND_OVER_S:g} s")
        self.is_under_way = True
        try:
            await office.fence(successor)
            await office.under_way.those_of_now(timeout_s=HAND_OVER_S)
            if not await self._gets_everything(successor):
                await office.give_up(f"{successor} was to follow, and stopped to answer")
                raise CannotPromote(f"{successor} stopped to answer: the lease is released, and any candidate follows")
            grant = await office.resign()
            if grant is None:
                raise CannotPromote("this node lost the lease meanwhile, and any candidate follows")
            try:
                await self._lease.release(grant, successor=successor)
            finally:
                office.resigned()
        finally:
            self.is_under_way = False
        log.info("the lease is handed over to %s", successor)

    async def _successor(self, wanted: str | None) -> str:
        cluster = self._cluster
        assert cluster is not None, "leading was started"
        names = [peer.name for peer in cluster.peers()]
        if wanted is not None and wanted not in names:
            raise CannotPromote(f"there is no live node {wanted!r}: {', '.join(sorted(names)) or 'no other'} is there")
        asked = names if wanted is None else [wanted]
        answers = await asyncio.gather(*(ask(cluster, name, ["could follow"]) for name in asked))
        able = {name: self._stamp_of(heads) for name, heads in zip(asked, answers, strict=True) if heads is not None}
        if not able:
            raise CannotPromote(
                f"{wanted or 'no other node'} can follow: one has to be up, ready, and a candidate ([lease] candidate, "
                "region)"
            )
        return max(sorted(able), key=able.__getitem__)

    def _stamp_of(self, heads: Heads) -> int:
        """How far somebody has this node's epoch."""
        site = self._office.site
        head = None if site is None else heads.vector.get(site)
        return 0 if head is None else head.stamp

    async def _gets_everything(self, peer: str) -> bool:
        """Whether a peer has merged all that is folded here now, in time. It is told of as ever."""
        site = self._office.site
        assert self._cluster is not None, "leading was started"
        assert site is not None, "this node is the primary"
        wanted = self._replication.view().vector[site].stamp
        with contextlib.suppress(TimeoutError, CallError):
            async with asyncio.timeout(HAND_OVER_S):
                while True:
                    match await self._cluster.call(peer, PRIMARY, ["merged", site], timeout_s=ASK_TIMEOUT_S):
                        case ["merged", int(stamp)] if stamp >= wanted:
                            return True
                        case _:
                            pass
                    await asyncio.sleep(HAND_OVER_LOOK_S)
        return False
