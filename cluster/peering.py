"""Who is connected to whom: handshake, sequence numbers, up and down. Pure: events in, effects out, no I/O.

Theory of operation. Between two nodes A and B there are two links, one in each direction. A's link to B is a
connection that A dialled; A says HELLO on it, B answers WELCOME, A says BEGIN, and from then on it carries A's messages
to B in order. A peer is *up* when both links stand: ours has begun, and so has its. Frames that come before ours has
begun are held.

A link is never repaired. When one of a peer's two links breaks (the connection ends, a sequence number is missing,
the peer says that it does not know the link), both are given up, the peer is down, and both sides dial anew. So what
arrives between an `Up` and the next `Down` is exactly a prefix of what was sent in that session: nothing is lost in
the middle, nothing comes twice, and nothing reaches another incarnation, since a connection never outlives the
process at its end.

Both sides must agree which two links belong together, and they rarely notice a loss at the same moment. So sessions of
two incarnations are numbered. Whoever gives one up adds one to its number; BEGIN carries the number, WELCOME tells who
is behind, and whoever learns of a higher number gives up what it has and takes that one. A number thus grows only by
faults, never by the answer to one: were it otherwise, each side could take the other's newest link for a sign that the
session is over, in turns and for ever. A frame on a link that is not of the session is answered RESET, which ends it on
the other side too. (`tests/property` runs two of these machines against each other under random losses, and asserts
that sessions are gapless and that both are up soon after the losses end.)

HELLO alone begins nothing, since it is said before it is known to whom. A node that is reached under two addresses
dials both, learns from the answers that they lead to one node, and says BEGIN on one of the two.

Names. A node is known by its name, one run of it by its incarnation. A HELLO with a known name and another
incarnation is its successor if the predecessor is down or used the same address, since one address is held by one
process. Otherwise the predecessor is given the chance to show a sign of life: if one comes, the name is taken, else
it is soon found dead.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from cluster.address import Address, parse_address
from cluster.counters import Count, Counters
from cluster.errors import AddressError
from cluster.transport import Connection, Sender
from cluster.wire import Batch, Begin, Frame, Goodbye, Heartbeat, Hello, Refusal, Refuse, Reset, ResetLink, Welcome

HELD_MAX_FRAMES = 256
KNOWN_MAX_PEERS = 512
OFFERS_MAX = 16  # links of one peer on which it said HELLO and nothing yet: the addresses that it dials us under


class DownReason(StrEnum):
    """Why a peer went down."""

    DISCONNECTED = "disconnected"
    UNREACHABLE = "unreachable"  # silent for too long
    LEFT = "left"  # it said goodbye
    REPLACED = "replaced"  # a new incarnation took its place
    RESET = "reset"  # it gave the session up, or a gap was seen
    STOPPED = "stopped"  # we are stopping


@dataclass(frozen=True, slots=True)
class Send:
    """Send the frame on a connection of ours."""

    connection: Connection
    frame: Frame


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer on the connection that `sender` dialled."""

    sender: Sender
    frame: Frame


@dataclass(frozen=True, slots=True)
class Close:
    """Close a connection of ours."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Up:
    """The peer is up; its messages follow."""

    hello: Hello
    connection: Connection


@dataclass(frozen=True, slots=True)
class Down:
    """The peer is down; no message of this session follows."""

    hello: Hello
    reason: DownReason


@dataclass(frozen=True, slots=True)
class Deliver:
    """Messages of a peer that is up."""

    node: str
    batch: Batch


@dataclass(frozen=True, slots=True)
class Found:
    """A peer told where it can be reached."""

    address: Address


@dataclass(frozen=True, slots=True)
class Dialled:
    """What became of a connection attempt: `node` is whom it led to, or None if it rests (ourselves, or an alias)."""

    connection: Connection
    node: str | None


@dataclass(frozen=True, slots=True)
class Conflict:
    """Another live node has our name. `ours_to_yield`: the other is the elder."""

    other: str  # where it is
    ours_to_yield: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Somebody refused us, or we somebody; for the log."""

    who: str
    code: Refusal
    by_us: bool
    detail: str


type Effect = Send | Reply | Close | Up | Down | Deliver | Found | Dialled | Conflict | Refused


@dataclass(slots=True)
class _Peer:
    hello: Hello
    connection: Connection | None = None  # our link to it, once it has begun
    session: int = 0  # the number of the session that stands, or of the next one
    sender: Sender | None = None  # its link to us, once it has begun
    offers: dict[Sender, Hello] = field(default_factory=dict)  # links on which it was welcomed and did not begin yet
    expected: int = 0  # sequence number of its next message
    up: bool = False
    ever_up: bool = False
    held: list[Batch] = field(default_factory=list)
    heard_s: float = 0.0
    challenger: str | None = None  # the incarnation that claims its name
    challenged_s: float = 0.0  # since when


class Peering:
    """The state of all links of one node."""

    def __init__(self, me: Hello, counters: Counters) -> None:
        self._me = me
        self._counters = counters
        self._peers: dict[str, _Peer] = {}
        self._by_sender: dict[Sender, _Peer] = {}
        self._by_offer: dict[Sender, _Peer] = {}
        self._by_connection: dict[Connection, _Peer] = {}

    # --- questions ---

    def up(self) -> list[Hello]:
        """The peers that are up, by name."""
        return [peer.hello for _, peer in sorted(self._peers.items()) if peer.up]

    def known(self) -> list[tuple[Hello, bool]]:
        """Every peer that ever said who it is, by name, and whether it was ever up."""
        return [(peer.hello, peer.ever_up) for _, peer in sorted(self._peers.items())]

    def is_up(self, node: str) -> bool:
        """Whether the node of that name is up."""
        peer = self._peers.get(node)
        return peer is not None and peer.up

    # --- links that we dialled ---

    def opened(self, connection: Connection) -> list[Effect]:
        """A connection that we dialled stands."""
        return [Send(connection, self._me)]

    def answered(self, connection: Connection, frame: Frame, now_s: float) -> list[Effect]:
        """Something came back on a connection that we dialled."""
        match frame:
            case Welcome() if connection in self._by_connection:
                self._counters.increment(Count.REPEATED)  # it has begun, and is not begun again, nor given up
                return []
            case Welcome(hello, session):
                return self._welcomed(connection, hello, session, now_s)
            case Refuse(code, detail):
                self._counters.increment(Count.REFUSED_BY_PEER)
                effects: list[Effect] = [Refused(detail, code, by_us=False, detail=detail), Close(connection)]
                if code is Refusal.NAME_TAKEN:
                    effects.append(Conflict(detail, ours_to_yield=True))
                return effects + self.lost(connection)
            case ResetLink():
                return [Close(connection), *self.lost(connection, DownReason.RESET)]
            case _:
                self._counters.increment(Count.BAD_FRAME)
                return []

    def _welcomed(self, connection: Connection, hello: Hello, session: int, now_s: float) -> list[Effect]:
        if hello.incarnation == self._me.incarnation:
            return [Dialled(connection, None), Close(connection)]
        if hello.cluster != self._me.cluster or hello.node == self._me.node:
            return [Close(connection), *self.lost(connection)]  # it will tell by REFUSE, or we it
        peer = self._peers.get(hello.node)
        effects: list[Effect] = []
        if peer is not None and peer.hello.incarnation != hello.incarnation:
            if not self._succeeds(peer, hello, now_s):
                return [Close(connection), *self.lost(connection)]
            effects += self._end(peer, DownReason.REPLACED)
            peer = None
        if peer is None:
            peer = self._new_peer(hello)
        if peer.connection is not None:
            return [*effects, Dialled(connection, None), Close(connection)]
        if session > peer.session:
            effects += self._end(peer, DownReason.RESET, session)
        peer.connection = connection
        self._by_connection[connection] = peer
        effects += [Dialled(connection, hello.node), Send(connection, Begin(peer.session))]
        return effects + self._maybe_up(peer)

    def lost(self, connection: Connection, reason: DownReason = DownReason.DISCONNECTED) -> list[Effect]:
        """A connection that we dialled ended, or is given up."""
        peer = self._by_connection.pop(connection, None)
        if peer is None:
            return []
        peer.connection = None
        return self._end(peer, reason)

    # --- links dialled to us ---

    def hello(self, sender: Sender, hello: Hello, now_s: float, source_host: str | None = None) -> list[Effect]:
        """Somebody introduces himself; `source_host` is where from."""
        hello = _with_host(hello, source_host)
        refusal = self._refusal(hello, now_s)
        if refusal is not None:
            return self._refuse(sender, hello, refusal)
        if hello.incarnation == self._me.incarnation:
            return [Reply(sender, Welcome(self._me, 0))]  # we dialled ourselves, and learn it from the answer
        effects: list[Effect] = []
        peer = self._peers.get(hello.node)
        if peer is not None and peer.hello.incarnation != hello.incarnation:
            effects += self._end(peer, DownReason.REPLACED)
            peer = None
        if peer is None:
            peer = self._new_peer(hello)
        peer.heard_s = now_s
        self._offer(peer, sender, hello)
        effects.append(Reply(sender, Welcome(self._me, peer.session)))
        return effects + self._dial_back(peer, hello)

    def _offer(self, peer: _Peer, sender: Sender, hello: Hello) -> None:
        if sender == peer.sender:
            return
        if len(peer.offers) >= OFFERS_MAX:
            oldest = next(iter(peer.offers))
            del peer.offers[oldest], self._by_offer[oldest]
        peer.offers[sender] = hello
        self._by_offer[sender] = peer

    def begin(self, sender: Sender, begin: Begin, now_s: float) -> list[Effect]:
        """A link on which somebody introduced himself is his link to us from here on."""
        peer = self._by_offer.pop(sender, None)
        if peer is None:
            return self._unknown(sender)
        hello = peer.offers.pop(sender)
        peer.heard_s = now_s
        if begin.session < peer.session or (begin.session == peer.session and peer.sender is not None):
            return self._unknown(sender)
        effects = self._end(peer, DownReason.RESET, begin.session) if begin.session > peer.session else []
        peer.hello, peer.sender, peer.expected = hello, sender, 0
        self._by_sender[sender] = peer
        return effects + self._dial_back(peer, hello) + self._maybe_up(peer)

    def _dial_back(self, peer: _Peer, hello: Hello) -> list[Effect]:
        address = _parsed(hello.address)
        return [Found(address)] if address is not None and peer.connection is None else []

    def batch(self, sender: Sender, batch: Batch, now_s: float) -> list[Effect]:
        """Messages on a link dialled to us."""
        peer = self._by_sender.get(sender)
        if peer is None:
            return self._unknown(sender)
        peer.heard_s = now_s
        if batch.first_sequence != peer.expected:
            return self._out_of_order(peer, batch.first_sequence)
        peer.expected += batch.count
        if peer.up:
            return [Deliver(peer.hello.node, batch)]
        if len(peer.held) >= HELD_MAX_FRAMES:
            self._counters.increment(Count.HELD_FULL, batch.count)
            return self._reset(peer, Reset.OVERRUN)
        peer.held.append(batch)
        return []

    def heartbeat(self, sender: Sender, heartbeat: Heartbeat, now_s: float) -> list[Effect]:
        """A sign of life on a link dialled to us."""
        peer = self._by_sender.get(sender)
        if peer is None:
            return self._unknown(sender)
        peer.heard_s = now_s
        if heartbeat.next_sequence != peer.expected:
            return self._out_of_order(peer, heartbeat.next_sequence)
        return []

    def goodbye(self, sender: Sender) -> list[Effect]:
        """The peer at that link stops in order."""
        peer = self._by_sender.get(sender)
        return [] if peer is None else self._end(peer, DownReason.LEFT)

    def peer_of(self, sender: Sender) -> str | None:
        """The name of the node that dialled this link, or None if the link is not known."""
        peer = self._by_sender.get(sender)
        return None if peer is None else peer.hello.node

    # --- the failure detector's word, and the end ---

    def unreachable(self, node: str) -> list[Effect]:
        """The failure detector gives the node up."""
        peer = self._peers.get(node)
        return [] if peer is None else self._end(peer, DownReason.UNREACHABLE)

    def stop(self) -> list[Effect]:
        """Say goodbye to everybody."""
        effects: list[Effect] = []
        for peer in self._peers.values():
            if peer.connection is not None:
                effects.append(Send(peer.connection, Goodbye()))
            effects += self._end(peer, DownReason.STOPPED)
        return effects

    # --- inside ---

    def _new_peer(self, hello: Hello) -> _Peer:
        if len(self._peers) >= KNOWN_MAX_PEERS:
            # Machines come and go under new names for months: the one that has been gone longest makes room.
            candidates = (peer for peer in self._peers.values() if peer.connection is None)
            gone = min(candidates, key=lambda peer: peer.heard_s, default=None)
            if gone is not None:
                self._end(gone, DownReason.UNREACHABLE)  # without effects: it is not up, and nothing is to be closed
                self._forget_offers(gone)
                del self._peers[gone.hello.node]
        before = self._peers.get(hello.node)
        if before is not None:
            self._forget_offers(before)
        peer = self._peers[hello.node] = _Peer(hello, ever_up=before is not None and before.ever_up)
        return peer

    def _refusal(self, hello: Hello, now_s: float) -> tuple[Refusal, str] | None:
        me = self._me
        if hello.cluster != me.cluster:
            return Refusal.OTHER_CLUSTER, f"{me.node} at {me.address} belongs to another cluster"
        if hello.protocol_min > me.protocol_max or hello.protocol_max < me.protocol_min:
            return Refusal.PROTOCOL, (
                f"{me.node} at {me.address} speaks protocol {me.protocol_min} to {me.protocol_max}, "
                f"{hello.node} speaks {hello.protocol_min} to {hello.protocol_max}"
            )
        if hello.incarnation == me.incarnation:
            return None
        if hello.node == me.node:
            elder = (hello.started_at_ms, hello.incarnation) < (me.started_at_ms, me.incarnation)
            return (Refusal.NAME_BUSY if elder else Refusal.NAME_TAKEN), me.address
        peer = self._peers.get(hello.node)
        if peer is not None and peer.hello.incarnation != hello.incarnation and not self._succeeds(peer, hello, now_s):
            proven = peer.heard_s > peer.challenged_s
            return (Refusal.NAME_TAKEN if proven else Refusal.NAME_BUSY), peer.hello.address
        return None

    def _refuse(self, sender: Sender, hello: Hello, refusal: tuple[Refusal, str]) -> list[Effect]:
        code, detail = refusal
        self._counters.increment(_REFUSAL_COUNTS[code])
        who = f"{hello.node} at {hello.address}"
        effects: list[Effect] = [Reply(sender, Refuse(code, detail)), Refused(who, code, by_us=True, detail=detail)]
        if hello.node == self._me.node and hello.cluster == self._me.cluster:
            effects.append(Conflict(hello.address, ours_to_yield=code is Refusal.NAME_BUSY))
        return effects

    def _succeeds(self, peer: _Peer, hello: Hello, now_s: float) -> bool:
        """Whether `hello` may take the place of another incarnation of the same name."""
        if not peer.up or peer.hello.address == hello.address:
            return True
        if peer.challenger != hello.incarnation:
            # What the peer showed under another challenge, an hour ago perhaps, proves nothing about now.
            peer.challenger, peer.challenged_s = hello.incarnation, now_s
        return False

    def _maybe_up(self, peer: _Peer) -> list[Effect]:
        if peer.up or peer.connection is None or peer.sender is None:
            return []
        peer.up = peer.ever_up = True
        peer.challenger = None
        held, peer.held = peer.held, []
        return [Up(peer.hello, peer.connection), *(Deliver(peer.hello.node, batch) for batch in held)]

    def _unknown(self, sender: Sender) -> list[Effect]:
        self._counters.increment(Count.UNKNOWN_LINK)
        return [Reply(sender, ResetLink(Reset.UNKNOWN_LINK))]

    def _out_of_order(self, peer: _Peer, sequence: int) -> list[Effect]:
        if sequence < peer.expected:
            self._counters.increment(Count.REPEATED)
            return []
        self._counters.increment(Count.GAP, sequence - peer.expected)
        return self._reset(peer, Reset.GAP)

    def _reset(self, peer: _Peer, code: Reset) -> list[Effect]:
        assert peer.sender is not None
        return [Reply(peer.sender, ResetLink(code)), *self._end(peer, DownReason.RESET)]

    def _end(self, peer: _Peer, reason: DownReason, session: int | None = None) -> list[Effect]:
        """Give up the session, whether it was up or not; the next one has the number `session`, or one more."""
        effects: list[Effect] = [Down(peer.hello, reason)] if peer.up else []
        peer.up = False
        peer.session = peer.session + 1 if session is None else session
        if peer.sender is not None:
            self._by_sender.pop(peer.sender, None)
            peer.sender = None
        if peer.connection is not None:
            self._by_connection.pop(peer.connection, None)
            effects.append(Close(peer.connection))
            peer.connection = None
        peer.held = []
        return effects

    def _forget_offers(self, peer: _Peer) -> None:
        for sender in peer.offers:
            del self._by_offer[sender]
        peer.offers.clear()


_REFUSAL_COUNTS = {
    Refusal.OTHER_CLUSTER: Count.OTHER_CLUSTER,
    Refusal.PROTOCOL: Count.OTHER_PROTOCOL,
    Refusal.NAME_TAKEN: Count.NAME_TAKEN,
    Refusal.NAME_BUSY: Count.NAME_TAKEN,
}


def _parsed(text: str) -> Address | None:
    try:
        return parse_address(text)
    except AddressError:
        return None


def _with_host(hello: Hello, source_host: str | None) -> Hello:
    """A node that is bound to all addresses does not know which of them we see; the connection does."""
    address = _parsed(hello.address)
    if address is None or not address.is_wildcard or not source_host:
        return hello
    return replace(hello, address=str(Address(source_host, address.port)))
