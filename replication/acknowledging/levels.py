"""What a write waits for before it is acknowledged. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class Ack(StrEnum):
    """Where a write is durable once it is acknowledged. The node that commits it is always among them."""

    LOCAL = "local"
    """On that node alone: it is lost if that node's disk is, before it was sent."""
    ONE = "one"
    """On one more."""
    QUORUM = "quorum"
    """On more than half of `cluster.size` nodes: it is kept as long as so many are."""
    ALL = "all"
    """On each node that is up."""
    BUCKET = "bucket"
    """In the backup, from which it comes back with all that it depends on. On no other node, for all that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sure:
    """What a write waits for, and how long at most."""

    level: Ack = Ack.LOCAL
    timeout_s: float = 5.0


def is_enough(level: Ack, *, confirmed: Collection[str], live: Collection[str], size: int) -> bool:
    """Whether a write may be acknowledged that these peers have confirmed. `live` are the peers that are up, `size` is
    how many nodes the cluster is meant to have. No peers are enough for the bucket."""
    match level:
        case Ack.LOCAL:
            return True
        case Ack.ONE:
            return bool(confirmed)
        case Ack.QUORUM:
            return 1 + len(confirmed) > size // 2
        case Ack.ALL:
            return set(live) <= set(confirmed)
        case Ack.BUCKET:
            return False


def wanted(level: Ack, *, live: Collection[str], size: int) -> str:
    """Where it has to be durable, for people."""
    match level:
        case Ack.LOCAL:
            return "on this node"
        case Ack.ONE:
            return "on one more node"
        case Ack.QUORUM:
            return f"on {size // 2} more of {size} nodes"
        case Ack.ALL:
            return f"on all {len(live)} nodes that are up"
        case Ack.BUCKET:
            return "in the backup"
