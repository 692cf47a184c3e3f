"""What a node tells others about the cluster: who is a peer, who came and who went."""

from dataclasses import dataclass
from enum import StrEnum

from cluster.peering import DownReason


class PeerState(StrEnum):
    """What is known of a node or of an address."""

    CONNECTING = "connecting"  # an address, or a node that was never up
    UP = "up"
    SUSPECT = "suspect"  # up, but silent; others are being asked
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another live node, as a snapshot."""

    name: str
    region: str
    address: str
    incarnation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node or address that this node knows of, live or not. Name and region are None until it said who it is."""

    name: str | None
    region: str | None
    address: str
    state: PeerState


@dataclass(frozen=True, slots=True)
class NodeUp:
    """A peer is up. In a mailbox it stands before every message of that incarnation."""

    peer: Peer
    payload: bytes = b""  # what the layer above put into its HELLO


@dataclass(frozen=True, slots=True)
class NodeDown:
    """A peer is down. In a mailbox it stands after the last message of that incarnation."""

    peer: Peer
    reason: DownReason
