"""The lease as this node holds it: when it is renewed, when it is over, and what is to be believed after a stall.

Who was not awake for longer than a heartbeat trusts neither its clock nor an answer to a question from before: the
provider is asked once more before the next write."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from cluster.errors import LeaseError, LeaseLost, LeaseUnusable
from cluster.lease import deciding
from cluster.lease.interface import Grant, Lease

log = logging.getLogger(__name__)


class Holder(Protocol):
    """Who is told what becomes of the lease."""

    def lease_is_over(self) -> None:
        """It was not renewed in time."""
        ...

    def lease_is_lost(self, why: str) -> None:
        """The provider says so."""
        ...

    def lease_is_renewed(self) -> None: ...

    def lease_has_trouble(self, problem: str) -> None:
        """It could not be renewed now. "": it could be."""
        ...


class Tenure:
    """`grant` is None while this node holds nothing. `clock`: that of the lease's provider."""

    def __init__(self, lease: Lease, clock: Callable[[], float], holder: Holder) -> None:
        self.grant: Grant | None = None
        self.awake_s = 0.0
        """When this node last looked at the lease, by its clock."""
        self.stalls = 0
        """So often was this node not awake: an answer to a question from before the last one says nothing."""
        self._lease = lease
        self._clock = clock
        self._holder = holder
        self._must_ask = False
        self._renewing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """This node is awake."""
        self.awake_s = self._clock()

    def may_write(self) -> bool:
        """Whether the lease lets this node write now."""
        grant = self.grant
        return (
            grant is not None
            and not self._must_ask
            and deciding.may_write(now_s=self._clock(), good_until_s=grant.good_until_s, awake_s=self.awake_s)
        )

    async def acquire(self, *, above: int) -> Grant:
        """See `Lease.acquire`."""
        stalls = self._stalls_by_now()
        self.grant = await self._lease.acquire(above=above)
        self._must_ask = stalls != self._stalls_by_now()
        return self.grant

    def look(self, *, may_renew: bool) -> None:
        """To be called several times a second: notes that this node is awake, and renews what is due."""
        now_s = self._clock()
        if now_s - self.awake_s > deciding.STALL_S:
            log.warning("this node was not awake for %.1f s: the lease is asked for", now_s - self.awake_s)
            self._must_ask = True
            self.stalls += 1
        self.awake_s = now_s
        grant = self.grant
        if grant is None:
            self._must_ask = False
        elif now_s >= grant.good_until_s:
            self._holder.lease_is_over()
        elif (self._must_ask or now_s >= grant.renew_at_s) and self._is_idle() and may_renew:
            self._renewing = asyncio.create_task(self._renew(grant), name="primary: renewing")

    def give_up(self) -> Grant | None:
        """What this node held. It holds it no more; whoever calls this releases it, or it runs out."""
        grant, self.grant = self.grant, None
        return grant

    async def stop_renewing(self) -> None:
        """What a renewal may still write would undo a release."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    def abandon(self) -> None:
        """As a crash would."""
        if self._renewing is not None:
            self._renewing.cancel()

    def _is_idle(self) -> bool:
        return self._renewing is None or self._renewing.done()

    async def _renew(self, grant: Grant) -> None:
        stalls = self._stalls_by_now()
        try:
            renewed = await self._lease.renew(grant)
        except LeaseLost as error:
            if self.grant is grant:
                self._holder.lease_is_lost(str(error))
        except (LeaseError, LeaseUnusable) as error:
            self._holder.lease_has_trouble(str(error))
        else:
            self._holder.lease_has_trouble("")
            if self.grant is grant:
                self.grant, self._must_ask = renewed, stalls != self._stalls_by_now()
                self._holder.lease_is_renewed()

    def _stalls_by_now(self) -> int:
        """How often this node was not awake, with a time that was not noted yet."""
        return self.stalls + (self._clock() - self.awake_s > deciding.STALL_S)
