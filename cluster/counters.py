"""What happened and, above all, what was dropped: one number for each cause.

`cast` promises nothing and reports nothing, so these counters are the only witness of what it lost. A counter that
never moved is absent from a snapshot.
"""

from enum import StrEnum


class Count(StrEnum):
    """What is counted. The values are the names that `/api/cluster` and the metrics show."""

    # Work done.
    CASTS_SENT = "casts_sent"  # handed to the bus for a live peer
    CASTS_RECEIVED = "casts_received"  # came from a peer and reached an actor's mailbox
    CALLS_SENT = "calls_sent"
    CRASHES = "actor_crashes"
    # Dropped by the sender.
    NO_PEER = "dropped_no_peer"  # the node is not up (never was, or is down now)
    QUEUE_FULL = "dropped_queue_full"  # the peer does not read as fast as we send
    LINK_LOST = "dropped_link_lost"  # queued here when the link broke
    TOO_LARGE = "dropped_too_large"
    UNENCODABLE = "dropped_unencodable"  # not plain values
    # Dropped by the receiver.
    NO_ACTOR = "dropped_no_actor"  # nobody of that name runs here
    MAILBOX_FULL = "dropped_mailbox_full"
    MAILBOX_LOST = "dropped_mailbox_lost"  # were waiting when their actor crashed
    LATE_REPLY = "dropped_late_reply"
    HELD_FULL = "dropped_held_full"  # came before the peer was up, and too many
    GAP = "gap_messages"  # known to be lost on the way: their sequence numbers never came
    REPEATED = "dropped_repeated"
    # A peer's or a stranger's fault.
    BAD_FRAME = "bad_frame"
    BAD_PARTS = "bad_parts"
    UNKNOWN_LINK = "unknown_link"
    STRANGER_REFUSED = "refused_stranger"  # failed the CURVE handshake or the ZAP check
    OTHER_CLUSTER = "refused_other_cluster"
    OTHER_PROTOCOL = "refused_protocol"
    NAME_TAKEN = "refused_name_taken"
    REFUSED_BY_PEER = "refused_by_peer"
    DIAL_FAILED = "dial_failed"
    DISCOVERY_FAILED = "discovery_failed"  # a name server gave no answer, or named nobody
    # About ourselves.
    STALLS = "own_stalls"  # times this node's own event loop stood still

    __hash__ = str.__hash__  # counting is little else; what Enum defines runs in Python


class Tally:
    """One of the counts, for whoever adds to it hundreds of thousands of times a second."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Counters:
    """Counts by cause. Not thread-safe: it belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._tallies = {cause: Tally() for cause in Count}

    def increment(self, cause: Count, by: int = 1) -> None:
        """Add `by` to `cause`."""
        self._tallies[cause].count += by

    def tally(self, cause: Count) -> Tally:
        """The count of `cause` itself, to add to."""
        return self._tallies[cause]

    def get(self, cause: Count) -> int:
        """The count of `cause`, 0 if it never happened."""
        return self._tallies[cause].count

    def snapshot(self) -> dict[str, int]:
        """A copy: cause → count, sorted by cause, without zeros."""
        return {cause.value: tally.count for cause, tally in sorted(self._tallies.items()) if tally.count}

    @property
    def dropped(self) -> int:
        """All messages dropped here, over all causes."""
        return sum(tally.count for cause, tally in self._tallies.items() if cause.startswith("dropped_"))
