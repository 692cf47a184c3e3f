"""How far a reader has to be where one node writes at a time."""

from dataclasses import dataclass

from replication.engine.stamps import Site, Stamp, epoch_of


@dataclass(frozen=True, slots=True, order=True)
class EpochPosition:
    """How far a reader has to be: an epoch's site, and a stamp of it. The later one is larger."""

    epoch: int
    stamp: Stamp
    site: Site

    @classmethod
    def of(cls, site: Site, stamp: Stamp) -> "EpochPosition":
        """The position at this stamp of an epoch's site."""
        return cls(epoch_of(site), stamp, site)
