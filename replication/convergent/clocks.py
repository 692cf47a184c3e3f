"""Whose clock is wrong, as far as clocks can tell each other. Pure."""

from collections.abc import Collection, Mapping
from typing import Final

from replication.convergent.messages import Heads
from replication.convergent.store import View
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp, ms_of

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


def is_ahead_alone(
    view: View, peers: Mapping[str, Heads], offsets_ms: Mapping[str, int], *, now_ms: int, bound_ms: int
) -> bool:
    """Whether this database stamped what no peer takes yet, since it is beyond everybody's clock, this node's included.

    Not if it merged such stamps of others: its clock could not go back then, and what is stamped again would be as far
    ahead. `offsets_ms`: how far the peers' clocks are ahead of this node's."""
    own = view.vector.get(view.site)
    if own is None or not peers:
        return False
    latest_ms = now_ms + max(0, *(offsets_ms.get(peer, 0) for peer in peers)) + bound_ms
    others = max((head.stamp for site, head in view.vector.items() if site != view.site), default=Stamp(0))
    merged = any((head := heads.vector.get(view.site)) and head.stamp >= own.stamp for heads in peers.values())
    return ms_of(own.stamp) > latest_ms >= ms_of(others) and not merged


def tips_of_all(site: Site, peers: Mapping[str, Heads]) -> frozenset[Head] | None:
    """What the peers together merged of a site that is set aside; None as long as one of them has not closed it."""
    if not all(site in heads.closed for heads in peers.values()):
        return None
    return frozenset(tip for heads in peers.values() for tip in heads.closed[site])


def ahead_said(view: View, silent: Collection[str], *, now_ms: int, bound_ms: int) -> list[str]:
    """What a person is told about a database that was stamped, some time, by a clock that was far ahead. Empty if it
    was not. `silent`: members that have to be heard before it is stamped again."""
    ahead_ms = ms_of(view.clock) - now_ms
    if ahead_ms <= bound_ms and view.site not in view.closed:
        return []
    said = f"this database was stamped by a clock that was {ahead_ms / 1000:.0f} s ahead: "
    if silent:
        remedy = f"it is stamped again when {', '.join(sorted(silent))} can be heard"
        return [f"{said}{remedy}; if one is gone for good: litecast peers --forget NODE"]
    return [f"{said}what no other node has merged is stamped again; the rest is merged elsewhere when time has come"]
