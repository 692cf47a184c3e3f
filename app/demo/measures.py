"""What the nodes' counters say of an act: the difference between two snapshots. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.counters import Count

_DROPPED = "dropped_"
# Dropped, but no cast of anybody's count: an answer that came after its deadline, a message that came twice.
_HARMLESS = frozenset({Count.LATE_REPLY.value, Count.REPEATED.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCounters:
    """The counters of one run of a node; `replication` are those of mode convergent."""

    incarnation: str
    counters: Mapping[str, int]
    replication: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Actors that crashed and casts that were dropped, over all nodes.

    In mode convergent also how often a node asked a peer for what it lacked (`asks`), and inserts of one row by two
    nodes that were merged (`collisions`); these are no damage, but what it would have come from.
    """

    crashes: int = 0
    dropped: int = 0
    asks: int = 0
    collisions: int = 0


def damage(before: Mapping[str, NodeCounters], after: Mapping[str, NodeCounters]) -> Damage:
    """What happened between two snapshots of the cluster, each by node.

    A node that was started again counts from 0; one that does not answer any more tells nothing.
    """
    crashes = dropped = asks = collisions = 0
    for node, now in after.items():
        earlier = before.get(node)
        if earlier is None or earlier.incarnation != now.incarnation:
            earlier = NodeCounters(incarnation=now.incarnation, counters={})
        crashes += _gained(earlier.counters, now.counters, Count.CRASHES)
        dropped += _dropped(now.counters) - _dropped(earlier.counters)
        asks += _gained(earlier.replication, now.replication, "asks")
        collisions += _gained(earlier.replication, now.replication, "collisions")
    return Damage(crashes=crashes, dropped=dropped, asks=asks, collisions=collisions)


def casts_received(counters: Mapping[str, NodeCounters]) -> int:
    """How many casts reached an actor, over all nodes."""
    return sum(node.counters.get(Count.CASTS_RECEIVED, 0) for node in counters.values())


def _gained(before: Mapping[str, int], after: Mapping[str, int], name: str) -> int:
    return after.get(name, 0) - before.get(name, 0)


def _dropped(counters: Mapping[str, int]) -> int:
    # A gap is what vanished between two nodes; neither of them counts it as dropped.
    named = sum(count for cause, count in counters.items() if cause.startswith(_DROPPED) and cause not in _HARMLESS)
    return named + counters.get(Count.GAP, 0)
