"""An archive keeps changesets for longer than the peers' journals: a bucket. What is said of it, and whether who is
beyond a peer's journal reads there, or takes a snapshot of the peer. Pure."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from replication.convergent.messages import NotAMessage
from replication.convergent.parcels import flat, unflat
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp

BYTE_FOR_BYTE: Final = 10
"""A byte in the archive costs what so many of a snapshot do: it is packed, and changesets are merged one by one. It
took 13 times the processor time, for changesets of one row and of ten, of rows of 30 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some changesets, after all that they depend on; and up to where they lead of each of their sites."""

    changesets: Sequence[bytes]
    reaches: Mapping[Site, Stamp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What an archive seems to have of what is missing: up to where, of each site of which it has something. `size`: of
    its objects, in bytes. `parts` reads it, and raises ReplicationError if it is not there, or not sound."""

    reaches: Mapping[Site, Stamp]
    size: int
    parts: Callable[[], AsyncGenerator[Part, None]]


class Archive(Protocol):
    """What catching up needs of an archive."""

    async def offer(self, have: Mapping[Site, Head], wanted: Mapping[Site, Stamp]) -> Offer | None:
        """What it has beyond `have`, up to what is `wanted`, not further; None if nothing. Raises ReplicationError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What a peer says to who would be so far. `joins`: its journal leads on from there. `state_bytes`: about how large
    a snapshot of it is."""

    joins: bool
    state_bytes: int

    def encoded(self) -> bytes:
        """As the content of a parcel."""
        return flat(self.joins, self.state_bytes.to_bytes(8, "little"))


def parse_weight(content: bytes) -> Weight:
    """Raises NotAMessage, ParcelError."""
    match unflat(content):
        case [bool(joins), bytes(size)] if len(size) == 8:
            return Weight(joins=joins, state_bytes=int.from_bytes(size, "little"))
        case _:
            raise NotAMessage("not what a snapshot weighs")


def is_archive_cheaper(offer: Offer, weight: Weight) -> bool:
    """Whether the archive is read: it leads to where the peer's journal begins, and costs less than a snapshot."""
    return weight.joins and offer.size * BYTE_FOR_BYTE < weight.state_bytes
