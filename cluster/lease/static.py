"""The lease of who is named in the settings: nobody is asked, nothing runs out, and nobody takes over."""

import math

from cluster.errors import LeaseHeld
from cluster.lease.interface import Grant, Holding


class StaticLease:
    """`primary` is the node that holds it."""

    def __init__(self, *, node: str, primary: str) -> None:
        self._node = node
        self._primary = primary
        self._epoch = 0

    async def read(self) -> Holding | None:
        """Always the node that is named."""
        return Holding(node=self._primary, epoch=self._epoch)

    async def acquire(self, *, above: int) -> Grant:
        """Granted to the node that is named. Raises LeaseHeld on all others."""
        if self._node != self._primary:
            raise LeaseHeld(self._primary, self._epoch)
        self._epoch = max(self._epoch, above) + 1
        return Grant(epoch=self._epoch, good_until_s=math.inf, renew_at_s=math.inf)

    async def renew(self, grant: Grant) -> Grant:
        """It does not run out."""
        return grant

    async def release(self, grant: Grant, *, successor: str | None = None) -> None:
        """Nobody else can have it."""
