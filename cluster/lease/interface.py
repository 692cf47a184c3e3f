"""What every provider of leases does.

A grant has an **epoch**: it only grows, whoever is granted it and whatever was released or lost in between, and no two
grants have the same. What an epoch's holder wrote is told from what others wrote by it."""

from dataclasses import dataclass
from typing import Final, Protocol

EPOCH_MAX: Final = 16**12 - 1
"""What is larger is no epoch, whoever says it: it stands in 12 hex digits of its holder's site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """This node holds the lease. Times are of the clock that the provider was given."""

    epoch: int
    good_until_s: float
    """From then on the holder may not write: somebody else may be granted the lease."""
    renew_at_s: float
    number: int = 0
    """The provider's own name for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What the provider says of the newest grant."""

    node: str
    epoch: int
    is_released: bool = False
    successor: str | None = None
    """The node that a released one is handed to, if to any."""


class Lease(Protocol):
    """One cluster's lease, as one node sees it. Each method raises LeaseUnreachable if the provider does not answer in
    time, and a LeaseUnusable for what only an operator can mend. Cancelled means unknown."""

    async def read(self) -> Holding | None:
        """The newest grant; None if there was none yet."""
        ...

    async def acquire(self, *, above: int) -> Grant:
        """A new grant, with an epoch above that one. Raises LeaseHeld while another one is in force, or may be."""
        ...

    async def renew(self, grant: Grant) -> Grant:
        """The same grant, for longer. Raises LeaseLost if it may be another's by now."""
        ...

    async def release(self, grant: Grant, *, successor: str | None = None) -> None:
        """Gives the grant up. With a successor, that node alone can acquire the next one until this one would have run
        out. Who calls it has stopped writing."""
        ...
