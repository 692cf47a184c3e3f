"""What becomes of a write when another node follows the one that wrote it. Pure.

It stays if it can be read here and was before the next candidate asked this node for what it has, since a candidate
does not write before it has that. Once a candidate has asked, only where its epoch began tells: a later epoch whose
beginning covers the write has it for good, one that does not has made a tail of it."""

from collections.abc import Mapping
from enum import Enum

from replication.engine.epochs import Epoch, epoch_of
from replication.engine.stamps import Site, Stamp


class Fate(Enum):
    """Of a write."""

    STAYS = "stays"
    """It can be read here, and whoever may write next has it."""
    LOST = "lost"
    """An epoch began without it."""


def fate_of(stamps: Mapping[Site, Stamp], *, is_readable: bool, newest: Epoch | None, asked_for: int) -> Fate | None:
    """The fate of what is written at a position; None if that is open. `newest`: the newest epoch of which anything is
    merged here. `asked_for`: the latest one whose candidate asked what is here."""
    if newest is not None and newest.tail_of(stamps):
        return Fate.LOST
    known = max([*map(epoch_of, stamps), 0 if newest is None else newest.number], default=0)
    return Fate.STAYS if is_readable and asked_for <= known else None
