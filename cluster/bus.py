"""The bus: carries messages between the actors of nodes. It does what the pure parts decide.

`peering` says what each frame means, `detector` who is silent for too long, `dialing` whom to dial; the transport
moves bytes. Here they meet: events of the transport and of the clock go in, and their effects are carried out.
Everything happens in the event loop's thread and nothing here awaits: the order of events is the order of calls.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, assert_never

from cluster.actor import Process
from cluster.address import Address
from cluster.calls import PendingCalls
from cluster.counters import Count, Counters
from cluster.detector import DetectorSettings, FailureDetector, Opinion
from cluster.dialing import DialBook, DialSettings
from cluster.errors import Gone, NameTaken, NodeDown, WireError
from cluster.membership import Member, NodeUp, Peer, PeerState
from cluster.membership import NodeDown as NodeDownInfo
from cluster.outbox import Outbox
from cluster.peering import (
    Close,
    Conflict,
    Deliver,
    Dialled,
    Down,
    Effect,
    Found,
    Peering,
    Refused,
    Reply,
    Send,
    Up,
)
from cluster.seldom import SeldomLog
from cluster.transport import Connection, InboxRefusal, LostReason, Sender, Transport
from cluster.wire import (
    MESSAGE_MAX_BYTES,
    Answer,
    Ask,
    Batch,
    Begin,
    Call,
    Cast,
    Casts,
    Failure,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Refusal,
    Vouch,
    decode,
    encode,
    encode_message,
    encode_payload,
)

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 5.0  # from a connection that stands to its WELCOME
ESTABLISHED_AFTER_S = 15.0  # a node that has run longer keeps running when another claims its name


class Local(Protocol):
    """What the bus needs to know of the node that it serves."""

    @property
    def processes(self) -> Mapping[str, Process]:
        """The running actors by name."""

    def announce(self, info: NodeUp | NodeDownInfo) -> None:
        """Put the news into the mailboxes of those who asked for it, at once."""

    def fail(self, error: NameTaken) -> None:
        """The node cannot go on."""


@dataclass(slots=True)
class _Dial:
    address: Address
    opened_s: float | None = None
    welcomed: bool = False


class Bus:
    """One node's end of the bus. Made with everything it needs; does nothing before `start`."""

    def __init__(
        self,
        me: Hello,
        transport: Transport,
        local: Local,
        counters: Counters,
        *,
        detector: DetectorSettings | None = None,
        dialing: DialSettings | None = None,
        random: Random | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._me = me
        self._transport = transport
        self._local = local
        self._counters = counters
        self._casts_sent = counters.tally(Count.CASTS_SENT)
        self._settings = detector or DetectorSettings()
        self._peering = Peering(me, counters)
        self._detector = FailureDetector(self._settings, self._now())
        self._book = DialBook(dialing or DialSettings(), random or Random())
        self._outboxes: dict[str, Outbox] = {}  # of peers that are up
        self._by_connection: dict[Connection, Outbox] = {}  # of links that were welcomed, up or not
        self._dials: dict[Connection, _Dial] = {}
        self._dirty: dict[Outbox, None] = {}  # a set in the order of a run, which a simulation can repeat
        self._calls = PendingCalls()
        self._seldom = SeldomLog(log, self._now)
        self._ever_up = False
        self._started_s = self._now()
        self._ticker: asyncio.TimerHandle | None = None

    def _now(self) -> float:
        return self._loop.time()

    # --- life ---

    def join(self) -> None:
        """Begin to dial and to watch. What the transport brings before is handled as well."""
        self._started_s = self._now()
        self._tick()

    def leave(self) -> None:
        """Say goodbye to everybody and end all links; the transport is stopped by its owner."""
        if self._ticker is not None:
            self._ticker.cancel()
        self._flush()
        self._apply(self._peering.stop())
        for connection in list(self._dials):
            self._close(connection)

    def found(self, addresses: Sequence[Address]) -> None:
        """Discovery, or a peer, names addresses."""
        self._book.add(addresses, self._now())
        if self._ticker is not None:
            self._dial_due()

    # --- sending ---

    def cast(self, node: str, actor: str, message: object) -> None:
        """Queue a message for a peer; counts what it drops, never raises."""
        outbox = self._outboxes.get(node)
        if outbox is None:
            self._counters.increment(Count.NO_PEER)
            return
        try:
            payload = encode_payload(message)
            if len(payload) > MESSAGE_MAX_BYTES:
                self._counters.increment(Count.TOO_LARGE)
            elif outbox.put_cast(actor, payload):
                self._casts_sent.count += 1
                if outbox not in self._dirty:
                    self._flush_soon(outbox)
            else:
                self._counters.increment(Count.QUEUE_FULL)
        except (TypeError, ValueError, OverflowError) as exc:
            self._counters.increment(Count.UNENCODABLE)
            self._seldom.warning("unencodable", f"a cast to {actor!r} cannot be sent, it is dropped: {exc}")

    async def call(self, node: str, actor: str, message: object, timeout_s: float) -> object:
        """Send a request and wait for its answer. Raises NoSuchActor, NodeDown or CallTimeout; TypeError or ValueError
        if the message is not made of plain values."""
        outbox = self._outboxes.get(node)
        if outbox is None:
            raise NodeDown(node, actor)
        call_id, future = self._calls.open(node, actor)
        try:
            encoded = encode_message(Call(call_id, actor, message))
            if len(encoded) > MESSAGE_MAX_BYTES:
                raise ValueError(f"a call of {len(encoded)} bytes; at most {MESSAGE_MAX_BYTES} can be sent")
            if self._put(outbox, encoded, alone=len(self._calls) == 1):
                self._counters.increment(Count.CALLS_SENT)
            # A call that did not fit into the queue was counted, and ends as one that was lost on the way does.
            deadline = self._loop.call_later(timeout_s, self._calls.timed_out, call_id, timeout_s)
            try:
                return await future
            finally:
                deadline.cancel()
        finally:
            self._calls.close(call_id)

    def _put(self, outbox: Outbox, encoded: bytes, *, alone: bool = False) -> bool:
        """`alone`: nothing that could share its frame is to be expected in this turn, so it leaves at once."""
        if len(encoded) > MESSAGE_MAX_BYTES:
            self._counters.increment(Count.TOO_LARGE)
            return False
        if not outbox.put(encoded):
            self._counters.increment(Count.QUEUE_FULL)
            return False
        if outbox not in self._dirty:
            if alone:
                outbox.flush(self._now())
            else:
                self._flush_soon(outbox)
        return True

    def _flush_soon(self, outbox: Outbox) -> None:
        if not self._dirty:
            self._loop.call_soon(self._flush)
        self._dirty[outbox] = None

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for outbox in dirty:
            outbox.flush(self._now())

    # --- who is there ---

    def peers(self) -> tuple[Peer, ...]:
        """The peers that are up, by name."""
        return tuple(_peer(hello) for hello in self._peering.up())

    def members(self) -> tuple[Member, ...]:
        """Every node that is known, by name, then addresses that have led to nobody yet."""
        nodes = [
            Member(name=hello.node, region=hello.region, address=hello.address, state=self._state(hello.node, ever_up))
            for hello, ever_up in self._peering.known()
        ]
        known = {member.address for member in nodes}
        addresses = [
            Member(name=None, region=None, address=str(address), state=PeerState.CONNECTING)
            for address in self._book.connecting()
            if str(address) not in known
        ]
        return (*nodes, *addresses)

    def _state(self, node: str, ever_up: bool) -> PeerState:
        if not self._peering.is_up(node):
            return PeerState.DOWN if ever_up else PeerState.CONNECTING
        return PeerState.SUSPECT if self._detector.opinion(node) is Opinion.SUSPECT else PeerState.UP

    # --- what the transport tells (transport.Listener) ---

    def opened(self, connection: Connection) -> None:
        """A dialled connection stands."""
        dial = self._dials.get(connection)
        if dial is not None:
            dial.opened_s = self._now()
            self._apply(self._peering.opened(connection))

    def lost(self, connection: Connection, reason: LostReason) -> None:
        """A dialled connection failed or ended."""
        self._by_connection.pop(connection, None)
        dial = self._dials.pop(connection, None)
        if dial is None:
            return
        if not dial.welcomed:
            self._counters.increment(Count.DIAL_FAILED)
            if reason is LostReason.SECRET:  # or a node that ended, or began anew, in the middle of the handshake
                self._seldom.repeated(
                    f"secret {dial.address}",
                    f"the node at {dial.address} does not accept our keys: most likely it has another secret or "
                    "another cluster name, or one of the two has no secret; give both the same bus.secret and "
                    "cluster.name",
                )
        self._book.lost(dial.address, self._now())
        self._apply(self._peering.lost(connection))

    def writable(self, connection: Connection) -> None:
        """A connection takes frames again."""
        outbox = self._by_connection.get(connection)
        if outbox is not None:
            outbox.flush(self._now())

    def answered(self, connection: Connection, frame: bytes) -> None:
        """An answer on a connection that we dialled."""
        try:
            decoded = decode(frame)
        except WireError as exc:
            self._bad_frame(str(connection.address), exc)
            return
        self._apply(self._peering.answered(connection, decoded, self._now()))

    def received(self, sender: Sender, frame: bytes, source_host: str | None) -> None:
        """A frame at our inbox."""
        now_s = self._now()
        try:
            decoded = decode(frame)
        except WireError as exc:
            self._bad_frame(self._peering.peer_of(sender) or "a node that did not say who it is", exc)
            return
        match decoded:
            case Batch():
                effects = self._peering.batch(sender, decoded, now_s)
            case Heartbeat():
                effects = self._peering.heartbeat(sender, decoded, now_s)
            case Hello():
                effects = self._peering.hello(sender, decoded, now_s, source_host)
            case Begin():
                effects = self._peering.begin(sender, decoded, now_s)
            case Goodbye():
                effects = self._peering.goodbye(sender)
            case _:
                self._counters.increment(Count.BAD_FRAME)
                return
        node = self._peering.peer_of(sender)
        if node is not None:
            self._detector.heard(node, now_s)
        self._apply(effects)

    def refused(self, cause: InboxRefusal, source: str) -> None:
        """The transport refused something itself."""
        if cause is InboxRefusal.STRANGER:
            self._counters.increment(Count.STRANGER_REFUSED)
            self._seldom.repeated(
                "stranger",
                f"refused a connection to {source}: whoever dialled has another secret or cluster name, or is no node",
            )
        else:
            self._counters.increment(Count.BAD_PARTS)
            self._seldom.warning("parts", f"dropped a message of more than one part from {source}")

    def _bad_frame(self, source: str, exc: WireError) -> None:
        self._counters.increment(Count.BAD_FRAME)
        self._seldom.warning("bad frame", f"dropped a frame from {source}: {exc}")

    # --- what follows ---

    def _apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Deliver(node, batch):
                    self._deliver(node, batch.messages)
                case Send(connection, frame):
                    connection.send(encode(frame))
                case Reply(sender, frame):
                    self._transport.reply(sender, encode(frame))
                case Close(connection):
                    self._close(connection)
                case Up():
                    self._up(effect)
                case Down():
                    self._down(effect)
                case Found(address):
                    self._book.hurry(address, self._now())
                    self._dial_due()
                case Dialled(connection, node):
                    self._dialled(connection, node)
                case Conflict():
                    self._conflict(effect)
                case Refused():
                    self._log_refusal(effect)
                case _:
                    assert_never(effect)

    def _deliver(self, node: str, messages: Sequence[Message]) -> None:
        for message in messages:
            match message:
                case Casts(actor, payloads):
                    self._deliver_casts(node, actor, payloads)
                case Cast(actor, payload):
                    self._deliver_casts(node, actor, (payload,))
                case _:
                    self._deliver_other(node, message)

    def _deliver_casts(self, node: str, actor: str, payloads: Sequence[object]) -> None:
        process = self._local.processes.get(actor)
        if process is None:
            self._counters.increment(Count.NO_ACTOR, len(payloads))
            return
        taken = process.put_casts(payloads, node)
        if taken:
            self._counters.increment(Count.CASTS_RECEIVED, taken)
        if taken < len(payloads):
            self._counters.increment(Count.MAILBOX_FULL, len(payloads) - taken)

    def _deliver_other(self, node: str, message: Call | Answer | Failure | Ask | Vouch) -> None:
        match message:
            case Call(call_id, actor, payload):
                self._deliver_call(node, call_id, actor, payload)
            case Answer(call_id, value):
                if not self._calls.answered(node, call_id, value):
                    self._counters.increment(Count.LATE_REPLY)
            case Failure(call_id, reason):
                if not self._calls.failed(node, call_id, reason):
                    self._counters.increment(Count.LATE_REPLY)
            case Ask(about, incarnation):
                self._asked(node, about, incarnation)
            case Vouch():
                self._vouched(message)
            case _:
                assert_never(message)

    def _deliver_call(self, node: str, call_id: int, actor: str, payload: object) -> None:
        outbox = self._outboxes[node]
        process = self._local.processes.get(actor)
        answer = _RemoteAnswer(call_id, lambda encoded: self._put_answer(node, outbox, process, encoded))
        if process is None:
            self._counters.increment(Count.NO_ACTOR)
            answer.failed(Gone.UNKNOWN)
        elif not process.put(payload, node, answer):
            self._counters.increment(Count.MAILBOX_FULL)

    def _put_answer(self, node: str, outbox: Outbox, process: Process | None, encoded: bytes) -> None:
        """Answers go to the session that asked, and to no later one."""
        if self._outboxes.get(node) is outbox:
            self._put(outbox, encoded, alone=process is not None and not process.waiting)

    def _up(self, effect: Up) -> None:
        hello = effect.hello
        outbox = self._by_connection[effect.connection]
        self._outboxes[hello.node] = outbox
        self._ever_up = True
        self._detector.watch(hello.node, self._now())
        log.info("node up: %s (%s) at %s", hello.node, hello.region, hello.address)
        self._local.announce(NodeUp(_peer(hello), hello.payload))

    def _down(self, effect: Down) -> None:
        hello = effect.hello
        outbox = self._outboxes.pop(hello.node, None)
        if outbox is not None:
            self._dirty.pop(outbox, None)
            if outbox.waiting:
                self._counters.increment(Count.LINK_LOST, outbox.waiting)
        self._detector.forget(hello.node)
        self._calls.node_down(hello.node)
        log.info("node down: %s (%s): %s", hello.node, hello.region, effect.reason.value)
        self._local.announce(NodeDownInfo(_peer(hello), effect.reason))

    def _dialled(self, connection: Connection, node: str | None) -> None:
        dial = self._dials.get(connection)
        if dial is None:
            return
        if node is None:
            # Itself or an alias: `Close` follows, and must not count as a loss.
            del self._dials[connection]
            self._book.rest(dial.address, self._now())
            connection.close()
            return
        dial.welcomed = True
        self._book.connected(dial.address, node)
        self._by_connection[connection] = Outbox(connection)

    def _close(self, connection: Connection) -> None:
        self._by_connection.pop(connection, None)
        dial = self._dials.pop(connection, None)
        if dial is not None:
            self._book.lost(dial.address, self._now())
            connection.close()

    def _conflict(self, effect: Conflict) -> None:
        text = (
            f"another node named {self._me.node!r} is running at {effect.other}: give this one another name "
            "(node.name or LITECAST_NODE__NAME) or stop the other"
        )
        established = self._ever_up or self._now() - self._started_s > ESTABLISHED_AFTER_S
        if effect.ours_to_yield and not established:
            self._local.fail(NameTaken(text))
        else:
            self._seldom.warning("name taken", text)

    def _log_refusal(self, effect: Refused) -> None:
        if effect.code is Refusal.NAME_BUSY:
            return  # asked again soon, and settled by then
        if effect.by_us:
            self._seldom.warning(f"refused {effect.code}", f"refused {effect.who}: {_REFUSALS[effect.code]}")
        else:
            self._seldom.warning(
                f"refused by {effect.code}", f"a node refused us ({_REFUSALS[effect.code]}): {effect.detail}"
            )

    # --- time ---

    def _tick(self) -> None:
        now_s = self._now()
        self._ticker = self._loop.call_later(self._settings.tick_interval_s, self._tick)
        stalls = self._detector.stalls
        for change in self._detector.tick(now_s):
            match change.opinion:
                case Opinion.SUSPECT:
                    self._ask_about(change.node)
                case Opinion.DOWN:
                    self._apply(self._peering.unreachable(change.node))
                case Opinion.ALIVE:
                    pass
                case _:
                    assert_never(change.opinion)
        if self._detector.stalls > stalls:
            self._counters.increment(Count.STALLS)
        for outbox in list(self._by_connection.values()):
            outbox.flush(now_s)
            if now_s - outbox.sent_s >= self._settings.heartbeat_interval_s - self._settings.tick_interval_s / 2:
                outbox.heartbeat(now_s)
        self._give_up_handshakes(now_s)
        self._dial_due()

    def _give_up_handshakes(self, now_s: float) -> None:
        for connection, dial in list(self._dials.items()):
            if not dial.welcomed and dial.opened_s is not None and now_s - dial.opened_s > HANDSHAKE_TIMEOUT_S:
                self._counters.increment(Count.DIAL_FAILED)
                self._close(connection)

    def _dial_due(self) -> None:
        for address in self._book.due(self._now()):
            self._dials[self._transport.dial(address)] = _Dial(address)

    # --- asking others about a suspect ---

    def _ask_about(self, node: str) -> None:
        incarnation = self._incarnation(node)
        if incarnation is None:
            return
        log.info("node suspect: %s is silent; asking the others", node)
        for other, outbox in self._outboxes.items():
            if other != node and self._detector.opinion(other) is Opinion.ALIVE:
                self._put(outbox, encode_message(Ask(node, incarnation)))

    def _asked(self, by: str, about: str, incarnation: str) -> None:
        ago_s = self._detector.heard_ago_s(about, self._now())
        known = self._incarnation(about)
        if ago_s is None or known is None or (ago_s > self._settings.suspect_after_s and known == incarnation):
            return  # nothing to say for it
        self._put(self._outboxes[by], encode_message(Vouch(about, known, int(ago_s * 1000))))

    def _vouched(self, vouch: Vouch) -> None:
        known = self._incarnation(vouch.node)
        if known is None or self._detector.opinion(vouch.node) is not Opinion.SUSPECT:
            return
        if known == vouch.incarnation:
            self._detector.vouched(vouch.node, vouch.age_ms / 1000, self._now())
        else:
            # Another run of it is alive, so the one we wait for is not.
            self._apply(self._peering.unreachable(vouch.node))

    def _incarnation(self, node: str) -> str | None:
        return next((hello.incarnation for hello in self._peering.up() if hello.node == node), None)


class _RemoteAnswer:
    """Sends the outcome of a call back to who asked."""

    __slots__ = ("_call_id", "_send")

    def __init__(self, call_id: int, send: Callable[[bytes], None]) -> None:
        self._call_id = call_id
        self._send = send

    def answered(self, value: object) -> None:
        encoded = encode_message(Answer(self._call_id, value))
        if len(encoded) > MESSAGE_MAX_BYTES:
            raise ValueError(f"an answer of {len(encoded)} bytes; at most {MESSAGE_MAX_BYTES} can be sent")
        self._send(encoded)

    def failed(self, reason: Gone) -> None:
        self._send(encode_message(Failure(self._call_id, reason)))


_REFUSALS = {
    Refusal.OTHER_CLUSTER: "it belongs to another cluster; clusters on one network need different secrets or ports",
    Refusal.PROTOCOL: "no protocol version in common; upgrade the older one",
    Refusal.NAME_TAKEN: "a live node has that name already; give one of them another node.name",
    Refusal.NAME_BUSY: "a node of that name was just seen",
}


def _peer(hello: Hello) -> Peer:
    return Peer(name=hello.node, region=hello.region, address=hello.address, incarnation=hello.incarnation)
