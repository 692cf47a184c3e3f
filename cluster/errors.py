"""Errors of the cluster layer, split by whose fault they are.

ClusterError
├── CallError               what a `call` can end in
│   ├── NoSuchActor         nobody of that name there, or it crashed or stopped before it answered
│   ├── NodeDown            the node is not a live peer, or stopped being one before it answered
│   └── CallTimeout         the deadline passed; the other side may still have run it
├── WireError               a peer's bytes are not a message of ours (counted and dropped, never fatal)
├── LeaseError              what asking for a lease can end in
│   ├── LeaseHeld           another node holds it, or may
│   ├── LeaseLost           it was this node's, and may be another's by now
│   └── LeaseUnreachable    the provider did not answer, or not in time
├── SupervisorGaveUp        an actor crashed more often than its supervisor allows
└── SetupError              the operator can mend it: the text says what, where and how
    ├── AddressError        an address that does not parse
    ├── BindError           the bus could not listen
    ├── SecretError         a secret is missing, too short or unreadable
    ├── DiscoveryError      a discovery method that cannot run
    ├── LeaseUnusable       a lease that no waiting makes usable
    │   ├── LeaseForeign        something else wrote the object
    │   ├── LeaseOfAnotherCluster
    │   ├── LeaseRefused        the provider does not take what is asked of it
    │   └── LeaseUrlError       a url that cannot be used
    └── NameTaken           another live node has this name
"""

from enum import StrEnum


class ClusterError(Exception):
    """Base of everything that `cluster` raises on purpose."""


class CallError(ClusterError):
    """A call that brought no answer. `node` and `actor` say whom was asked."""

    def __init__(self, node: str, actor: str, message: str) -> None:
        super().__init__(message)
        self.node = node
        self.actor = actor


class Gone(StrEnum):
    """Why an actor did not answer."""

    UNKNOWN = "unknown"
    CRASHED = "crashed"
    STOPPED = "stopped"


class NoSuchActor(CallError):
    """No actor of that name runs on the node, or it went away before it answered (`reason` says which)."""

    def __init__(self, node: str, actor: str, reason: Gone) -> None:
        what = {
            Gone.UNKNOWN: "no such actor is running",
            Gone.CRASHED: "it crashed before it answered",
            Gone.STOPPED: "it was stopped before it answered",
        }[reason]
        super().__init__(node, actor, f"{actor!r} on node {node!r}: {what}")
        self.reason = reason


class NodeDown(CallError):
    """The node is not among the live peers, or went down before it answered."""

    def __init__(self, node: str, actor: str) -> None:
        super().__init__(node, actor, f"node {node!r} is not up (asked for {actor!r})")


class CallTimeout(CallError):
    """No answer within the deadline. The request may have been carried out all the same."""

    def __init__(self, node: str, actor: str, timeout_s: float) -> None:
        super().__init__(node, actor, f"{actor!r} on node {node!r} did not answer within {timeout_s:g} s")
        self.timeout_s = timeout_s


class WireError(ClusterError):
    """Bytes from the wire that are not a valid frame. The only error that decoding raises."""


class SupervisorGaveUp(ClusterError):
    """A child crashed more than `max_restarts` times within `within_s` seconds. `cause` is its last error."""

    def __init__(self, child: str, max_restarts: int, within_s: float, cause: BaseException | None) -> None:
        why = f": {type(cause).__name__}: {cause}" if cause is not None else ""
        super().__init__(f"{child} crashed more than {max_restarts} times within {within_s:g} s{why}")
        self.child = child
        self.cause = cause


class SetupError(ClusterError):
    """Something that an operator can mend; the message is one line and names the remedy."""


class AddressError(SetupError):
    """A text that is not an address."""


class BindError(SetupError):
    """The bus could not listen at its address."""


class SecretError(SetupError):
    """A secret that is missing where one is needed, too short, or cannot be read."""


class DiscoveryError(SetupError):
    """A discovery method that cannot run as configured."""


class LeaseError(ClusterError):
    """A lease that was not granted, renewed or read. It can be tried again."""


class LeaseHeld(LeaseError):
    """Another grant is in force, or may be."""

    def __init__(self, node: str, epoch: int) -> None:
        super().__init__(f"the lease is held by {node} (epoch {epoch})")
        self.node = node
        self.epoch = epoch


class LeaseLost(LeaseError):
    """The grant is over: another node may have been granted the lease."""

    def __init__(self, epoch: int, why: str) -> None:
        super().__init__(f"the lease of epoch {epoch} is lost: {why}")
        self.epoch = epoch


class LeaseUnreachable(LeaseError):
    """The provider gave no answer that says anything. What was asked for may have been done all the same."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the lease cannot be reached: {why}")


class LeaseUnusable(SetupError):
    """A lease that somebody has to see to."""


class LeaseForeign(LeaseUnusable):
    """Something else stands where a lease should."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} is not a lease of Litecast's: something else wrote it. Move it away, or name another place in "
            "[lease] url"
        )


class LeaseOfAnotherCluster(LeaseUnusable):
    """Two clusters were given one lease."""

    def __init__(self, place: str, found: str, wanted: str) -> None:
        super().__init__(
            f"{place} is the lease of cluster {found!r}, and this is cluster {wanted!r}: give each its own place in "
            "[lease] url"
        )


class LeaseRefused(LeaseUnusable):
    """The provider answers, and does not take what it is asked: no right to it, or a ttl that it does not have."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{place} is refused: {why}. Check the token, and [lease] ttl_s")


class LeaseUrlError(LeaseUnusable):
    """A url that names no store, or a store that cannot be used."""


class NameTaken(SetupError):
    """Another live node of the cluster has this node's name."""
