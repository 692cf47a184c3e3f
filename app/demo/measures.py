"""What the nodes' counters say of an act: the difference between two snapshots. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.counters import Count

_DROPPED = "dropped_"
# Dropped, but no cast of anybody's count: an answer that came after its deadline, a message that came twice.
_HARMLESS = frozenset({Count.LATE_REPLY.value, Count.REPEATED.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCounters:
    """The counters of one run of a node."""

    incarnation: str
    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Actors that crashed and casts that were dropped, over all nodes."""

    crashes: int = 0
    dropped: int = 0


def damage(before: Mapping[str, NodeCounters], after: Mapping[str, NodeCounters]) -> Damage:
    """What happened between two snapshots of the cluster, each by node.

    A node that was started again counts from 0; one that does not answer any more tells nothing.
    """
    crashes = dropped = 0
    for node, now in after.items():
        earlier = before.get(node)
        base: Mapping[str, int] = {}
        if earlier is not None and earlier.incarnation == now.incarnation:
            base = earlier.counters
        crashes += now.counters.get(Count.CRASHES, 0) - base.get(Count.CRASHES, 0)
        dropped += _dropped(now.counters) - _dropped(base)
    return Damage(crashes=crashes, dropped=dropped)


def casts_received(counters: Mapping[str, NodeCounters]) -> int:
    """How many casts reached an actor, over all nodes."""
    return sum(node.counters.get(Count.CASTS_RECEIVED, 0) for node in counters.values())


def _dropped(counters: Mapping[str, int]) -> int:
    # A gap is what vanished between two nodes; neither of them counts it as dropped.
    named = sum(count for cause, count in counters.items() if cause.startswith(_DROPPED) and cause not in _HARMLESS)
    return named + counters.get(Count.GAP, 0)
