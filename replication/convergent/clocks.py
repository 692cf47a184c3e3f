"""Whose clock is wrong, as far as clocks can tell each other. Pure."""

from collections.abc import Collection
from typing import Final

from replication.engine.stamps import Stamp, ms_of

PEERS_MIN: Final = 2
"""With fewer, nobody can say which of two clocks is off, and stopping both would stop the cluster."""


def off_ms(offsets_ms: Collection[int], bound_ms: int) -> int:
    """How far the median of the peers' clocks is ahead of this node's (behind: negative), if beyond the bound; else 0.

    Of two middle ones the one nearer to this node's counts: a node stops only where it is surely off."""
    if len(offsets_ms) < PEERS_MIN:
        return 0
    offsets = sorted(offsets_ms)
    middle = offsets[(len(offsets) - 1) // 2], offsets[len(offsets) // 2]
    median_ms = min(middle, key=abs)
    return median_ms if abs(median_ms) > bound_ms else 0


def off_said(off: int) -> str:
    """What a person is told, and can do, about a clock that is `off_ms` off."""
    way = "behind" if off > 0 else "ahead of"
    return (
        f"this node's clock is {abs(off) / 1000:.0f} s {way} its peers': what is written here is kept, and sent when "
        "the clock is right; set it (NTP)"
    )


def ahead_said(clock: Stamp, now_ms: int, bound_ms: int) -> list[str]:
    """The same about a database that was stamped, some time, by a clock that was far ahead. Empty if it was not."""
    ahead_ms = ms_of(clock) - now_ms
    if ahead_ms <= bound_ms:
        return []
    said = (
        f"this database was stamped by a clock that was {ahead_ms / 1000:.0f} s ahead: what is written here is merged "
        "elsewhere when the clocks there have come that far; nothing is lost meanwhile"
    )
    return [said]
