"""The bus's frames, byte by byte. Pure: bytes in, frozen messages out, or `WireError` and nothing else.

A frame is one ZeroMQ message part:

    offset  size  what
         0     2  b"LC"
         2     1  frame type
         3     -  body, by type

    1 HELLO      msgpack map: who is dialling (see `Hello`)
    2 WELCOME    the same map: who was reached; and "session": the number that the next session has there
    3 REFUSE     msgpack [code, detail]
    4 RESET      msgpack [code]: the receiver does not know this link, or saw a gap in it; dial again
    5 BATCH      u64 big-endian sequence number of the first message, then one msgpack array of messages
    6 HEARTBEAT  u64 big-endian: the sequence number that the next message will have
    7 GOODBYE    empty: the sender is about to stop
    8 BEGIN      u64 big-endian: the number of the session that this link belongs to (see `peering`)

A message is a msgpack array that begins with its kind:

    [0, actor, payload, ...]         casts to one actor, one after another; each has its sequence number
    [1, call id, actor, payload]     call
    [2, call id, value]              answer
    [3, call id, reason]             failure: unknown, crashed or stopped
    [4, node, incarnation]           ask: have you heard that one lately?
    [5, node, incarnation, age_ms]   vouch: I heard it age_ms ago

HELLO and WELCOME never change their framing; everything after them is spoken in the highest protocol version that both
ranges contain.

Bytes are hostile until shown otherwise. msgpack's own limits bound each array, map and string, and no more: 0.9 MB of
empty maps become 65 MB of objects, and 5 kB that claim a thousand nested arrays of 100,000 elements allocate 800 MB
before the first is found missing. So every frame is first walked without building anything, which shows whether all it
claims is there and costs a twentieth of decoding it; and one that could hold too many containers is decoded under a
count, a suspicion that costs next to nothing to rule out for the frames that nodes really send.

The sender is held to the same limits, message by message, so that no cast of ours makes a peer refuse a frame.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

import msgpack

from cluster.errors import Gone, WireError

MAGIC = b"LC"
PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

FRAME_MAX_BYTES = 8 * 1024 * 1024  # what the transport accepts at all
MESSAGE_MAX_BYTES = 4 * 1024 * 1024  # what a cast or call may be; leaves room for batching
BATCH_TARGET_BYTES = 64 * 1024  # a batch is closed when it reaches this: large enough to amortise
PAYLOAD_MAX_DEPTH = 32  # containers within containers
MESSAGE_MAX_CONTAINERS = 50_000  # arrays and maps; about 4 MB of Python objects
# A batch is full but for one byte, each byte of it a container, and then gets one more message; two hold them all.
FRAME_MAX_CONTAINERS = BATCH_TARGET_BYTES + MESSAGE_MAX_CONTAINERS + 2
ELEMENTS_MAX = 100_000  # per array or map
ACTOR_MAX_BYTES = 1_024
TEXT_MAX_BYTES = 255  # names, regions, addresses in frames of our own
HELLO_PAYLOAD_MAX_BYTES = 64 * 1024
SESSION_MAX = 2**53

_U64 = struct.Struct(">Q")
_HEADER_BYTES = 3
_CONTAINER_BYTES = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])


class FrameType(IntEnum):
    """The byte after the magic."""

    HELLO = 1
    WELCOME = 2
    REFUSE = 3
    RESET = 4
    BATCH = 5
    HEARTBEAT = 6
    GOODBYE = 7
    BEGIN = 8


_BATCH = FrameType.BATCH.value  # most frames are batches, and to compare with an enum is slow


class Refusal(StrEnum):
    """Why a HELLO was refused."""

    OTHER_CLUSTER = "other_cluster"
    PROTOCOL = "protocol"
    NAME_TAKEN = "name_taken"  # the node of that name is alive
    NAME_BUSY = "name_busy"  # it may be; ask again


class Reset(StrEnum):
    """Why a link must be dialled anew."""

    UNKNOWN_LINK = "unknown_link"
    GAP = "gap"
    OVERRUN = "overrun"  # too much came before the handshake was complete in both directions


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who is at one end of a link. WELCOME carries the same."""

    cluster: str
    node: str
    incarnation: str
    region: str
    address: str  # where others reach it; a host of "*" means: where this came from
    started_at_ms: int  # since the epoch; tells the elder of two nodes with one name
    protocol_min: int = PROTOCOL_MIN
    protocol_max: int = PROTOCOL_MAX
    payload: bytes = b""  # of the layer above


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to a HELLO that was accepted."""

    hello: Hello
    session: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The answer to a HELLO that was not."""

    code: Refusal
    detail: str


@dataclass(frozen=True, slots=True)
class ResetLink:
    """This link is of no use any more."""

    code: Reset


@dataclass(frozen=True, slots=True)
class Begin:
    """From here on the link carries the sender's messages of this session."""

    session: int


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A sign of life that also says how many messages there have been."""

    next_sequence: int


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The sender stops in order."""


class Cast(NamedTuple):
    """Fire and forget. (Messages are named tuples: a burst makes hundreds of thousands of them a second.)"""

    actor: str
    payload: object


class Casts(NamedTuple):
    """Two or more casts to one actor, one after another."""

    actor: str
    payloads: Sequence[object]


class Call(NamedTuple):
    """A request to be answered."""

    call_id: int
    actor: str
    payload: object


class Answer(NamedTuple):
    """What a call returned."""

    call_id: int
    value: object


class Failure(NamedTuple):
    """A call that nobody answered."""

    call_id: int
    reason: Gone


class Ask(NamedTuple):
    """Have you heard this incarnation of `node` lately?"""

    node: str
    incarnation: str


class Vouch(NamedTuple):
    """I heard this incarnation of `node` `age_ms` ago."""

    node: str
    incarnation: str
    age_ms: int


type Message = Cast | Casts | Call | Answer | Failure | Ask | Vouch


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages with consecutive sequence numbers from `first_sequence` on."""

    first_sequence: int
    messages: Sequence[Message]

    @property
    def count(self) -> int:
        """How many sequence numbers they take."""
        return sum([len(message.payloads) if type(message) is Casts else 1 for message in self.messages])


type Frame = Hello | Welcome | Refuse | ResetLink | Begin | Batch | Heartbeat | Goodbye


# --- writing ---------------------------------------------------------------------------------------------------------

_packer = msgpack.Packer(use_bin_type=True, autoreset=True)
_pack = _packer.pack


def _frame(kind: FrameType, body: bytes = b"") -> bytes:
    return MAGIC + bytes([kind]) + body


def encode_message(message: Message) -> bytes:
    """The bytes of one message, to be joined by `encode_batch`. Raises ValueError, TypeError or OverflowError if the
    payload is not made of plain values, or is beyond the limits above."""
    match message:
        case Cast():
            return encode_cast(message.actor, message.payload)
        case Casts(actor, payloads):
            head = encode_casts_head(encode_casts_name(actor), len(payloads))
            return b"".join([head, *map(encode_payload, payloads)])
        case Call():
            _check_plain(message.payload)
            return _packed([1, *message])
        case Answer():
            _check_plain(message.value)
            return _packed([2, *message])
        case Failure(call_id, reason):
            return _packed([3, call_id, reason.value])
        case Ask():
            return _packed([4, *message])
        case Vouch():
            return _packed([5, *message])


def encode_cast(actor: str, payload: object) -> bytes:
    """`encode_message(Cast(actor, payload))`."""
    return encode_casts_head(encode_casts_name(actor), 1) + encode_payload(payload)


def encode_payload(payload: object) -> bytes:
    """The bytes of what is cast. Raises as `encode_message` does. (By the shortest way: most messages are casts.)"""
    if type(payload) not in _SCALARS:
        _check_plain(payload)
    packed: bytes = _pack(payload)
    return packed


def encode_casts_name(actor: str) -> bytes:
    """The name of an actor, for `encode_casts_head`. Raises TypeError or ValueError if it is none."""
    if not isinstance(actor, str):
        raise TypeError(f"an actor's name that is {type(actor).__name__!r}, not a text")
    name = _packed(actor)
    if len(name) > ACTOR_MAX_BYTES:
        raise ValueError(f"an actor's name of {len(name)} bytes; at most {ACTOR_MAX_BYTES} can be sent")
    return name


def encode_casts_head(name: bytes, count: int) -> bytes:
    """What stands before the payloads of `count` casts to one actor."""
    head: bytes = _packer.pack_array_header(2 + count)
    return head + b"\x00" + name


_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_STR = frozenset({str})


def _check_plain(payload: object) -> None:
    """Raise TypeError or ValueError for what msgpack would write and a peer would not read. Level by level, so that it
    cannot recurse; what holds itself is found to be too deep or too much."""
    level: list[Sequence[object] | dict[object, object]] = []
    _collect((payload,), level)
    count = 0
    for _ in range(PAYLOAD_MAX_DEPTH):
        if not level:
            return
        count += len(level)
        if count > MESSAGE_MAX_CONTAINERS:
            raise ValueError(f"more than {MESSAGE_MAX_CONTAINERS} arrays and maps")
        below: list[Sequence[object] | dict[object, object]] = []
        for container in level:
            if len(container) > ELEMENTS_MAX:
                raise ValueError(f"an array or map of more than {ELEMENTS_MAX} elements")
            if isinstance(container, dict):
                if not _STR.issuperset(map(type, container)):
                    _check_keys(container)
                _collect(container.values(), below)
            else:
                _collect(container, below)
        level = below
    if level:
        raise ValueError(f"nested deeper than {PAYLOAD_MAX_DEPTH} levels")


def _collect(values: Iterable[object], into: list[Sequence[object] | dict[object, object]]) -> None:
    for value in values:
        if type(value) in _SCALARS:
            continue
        if isinstance(value, _EXTENSIONS):
            raise TypeError(f"can not serialize {type(value).__name__!r} object")
        if isinstance(value, list | dict | tuple):
            into.append(value)


_EXTENSIONS = (msgpack.ExtType, msgpack.Timestamp)


def _check_keys(keys: Iterable[object]) -> None:
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"a key that is {type(key).__name__!r}, not a text")


def _packed(value: object) -> bytes:
    packed = _pack(value)
    assert isinstance(packed, bytes)
    return packed


def encode_batch(first_sequence: int, messages: Sequence[bytes]) -> bytes:
    """A BATCH frame of messages that `encode_message` made."""
    return encode_batch_parts(first_sequence, len(messages), messages)


def encode_batch_parts(first_sequence: int, entries: int, parts: Sequence[bytes]) -> bytes:
    """The same for messages in pieces: `entries` says how many arrays the parts are in all."""
    return b"".join((b"LC\x05", _U64.pack(first_sequence), b"\xdd", entries.to_bytes(4, "big"), *parts))


def encode(frame: Frame) -> bytes:
    """The bytes of a frame."""
    match frame:
        case Hello():
            return _frame(FrameType.HELLO, _packed(_hello_map(frame)))
        case Welcome(hello, session):
            return _frame(FrameType.WELCOME, _packed({**_hello_map(hello), "session": session}))
        case Refuse(code, detail):
            return _frame(FrameType.REFUSE, _packed([code.value, _fit(detail)]))
        case ResetLink(code):
            return _frame(FrameType.RESET, _packed([code.value]))
        case Batch(first_sequence, messages):
            return encode_batch(first_sequence, [encode_message(message) for message in messages])
        case Begin(session):
            return _frame(FrameType.BEGIN, _U64.pack(session))
        case Heartbeat(next_sequence):
            return _frame(FrameType.HEARTBEAT, _U64.pack(next_sequence))
        case Goodbye():
            return _frame(FrameType.GOODBYE)


def _fit(text: str) -> str:
    return text.encode()[:TEXT_MAX_BYTES].decode(errors="ignore")


def _hello_map(hello: Hello) -> dict[str, object]:
    return {name: getattr(hello, name) for name in _HELLO_FIELDS}


_HELLO_FIELDS: dict[str, type] = {
    "cluster": str,
    "node": str,
    "incarnation": str,
    "region": str,
    "address": str,
    "started_at_ms": int,
    "protocol_min": int,
    "protocol_max": int,
    "payload": bytes,
}


# --- reading ---------------------------------------------------------------------------------------------------------


def decode(frame: bytes) -> Frame:
    """The frame that these bytes are. Raises WireError, and nothing else, if they are none."""
    if len(frame) > FRAME_MAX_BYTES:
        raise WireError(f"a frame of {len(frame)} bytes")
    if frame[:2] != MAGIC or len(frame) < _HEADER_BYTES:
        raise WireError("not a frame of this protocol")
    body = frame[_HEADER_BYTES:]
    if frame[2] == _BATCH:
        return _decode_batch(body)
    match frame[2]:
        case FrameType.HEARTBEAT:
            return Heartbeat(_decode_u64(body))
        case FrameType.BEGIN:
            return Begin(_session(_decode_u64(body)))
        case FrameType.HELLO:
            return _hello(_decode_map(body))
        case FrameType.WELCOME:
            fields = _decode_map(body)
            return Welcome(_hello(fields), _session(fields.get("session")))
        case FrameType.REFUSE:
            code, detail = _decode_texts(body, 2)
            return Refuse(_member(Refusal, code), detail)
        case FrameType.RESET:
            (code,) = _decode_texts(body, 1)
            return ResetLink(_member(Reset, code))
        case FrameType.GOODBYE if not body:
            return Goodbye()
        case kind:
            raise WireError(f"unknown frame type {kind}")


def _decode_u64(body: bytes) -> int:
    if len(body) != _U64.size:
        raise WireError("a sequence number of the wrong size")
    (value,) = _U64.unpack(body)
    return int(value)


def _unpack(body: bytes) -> object:
    try:
        _prove_complete(body)
        count = _ContainerCount() if _could_hold_too_many(body) else None
        return msgpack.unpackb(
            body,
            raw=False,
            strict_map_key=True,
            max_str_len=MESSAGE_MAX_BYTES,
            max_bin_len=MESSAGE_MAX_BYTES,
            max_array_len=ELEMENTS_MAX,
            max_map_len=ELEMENTS_MAX,
            max_ext_len=0,
            ext_hook=_no_extension,
            object_hook=count,
            list_hook=count,
        )
    except WireError:
        raise
    except Exception as exc:
        # msgpack raises a dozen kinds here (its own, ValueError, UnicodeDecodeError, OverflowError, TypeError).
        raise WireError(f"not msgpack within the limits: {type(exc).__name__}") from exc


def _prove_complete(body: bytes) -> None:
    """Raise if the bytes end before what they claim to hold. Builds nothing."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(body))
    unpacker.feed(body)
    unpacker.skip()


def _could_hold_too_many(body: bytes) -> bool:
    """Whether as many bytes look like the beginning of an array or map; most of them will not be one."""
    if len(body) <= FRAME_MAX_CONTAINERS:
        return False
    return len(body) - len(body.translate(None, _CONTAINER_BYTES)) > FRAME_MAX_CONTAINERS


class _ContainerCount:
    """Called by msgpack for each array and map that it has built."""

    def __init__(self) -> None:
        self._count = 0

    def __call__[T](self, container: T) -> T:
        self._count += 1
        if self._count > FRAME_MAX_CONTAINERS:
            raise WireError(f"more than {FRAME_MAX_CONTAINERS} arrays and maps in a frame")
        return container


def _no_extension(code: int, data: bytes) -> object:
    raise WireError("an extension type")


_CONTAINERS = frozenset({list, dict, tuple})


def _check_depth(value: object, levels_max: int = PAYLOAD_MAX_DEPTH) -> None:
    """Raise WireError if containers nest deeper than that. Level by level: it cannot recurse."""
    level: list[object] = [value] if type(value) in _CONTAINERS else []
    for _ in range(levels_max):
        if not level:
            return
        below: list[object] = []
        for container in level:
            children = container.values() if isinstance(container, dict) else container
            below.extend([child for child in children if type(child) in _CONTAINERS])  # type: ignore[attr-defined]
        level = below
    if level:
        raise WireError(f"nested deeper than {PAYLOAD_MAX_DEPTH} levels")


def _decode_map(body: bytes) -> dict[object, object]:
    value = _unpack(body)
    if not isinstance(value, dict):
        raise WireError("a HELLO that is not a map")
    return value


def _session(number: object) -> int:
    """It grows by one with each fault; what is beyond the bound is no such number, and could not be added to."""
    if type(number) is not int or not 0 <= number <= SESSION_MAX:
        raise WireError("not a session number")
    return number


def is_short_text(text: str) -> bool:
    """Whether `text` can be a name, region or address: neither empty nor long, and fit for logs and terminals."""
    return 0 < len(text.encode(errors="replace")) <= TEXT_MAX_BYTES and text.isprintable()


def _hello(value: dict[object, object]) -> Hello:
    # Fields that a later version adds are passed over; those of this version must be there.
    fields: dict[str, object] = {}
    for name, kind in _HELLO_FIELDS.items():
        field = value.get(name)
        if type(field) is not kind:
            raise WireError(f"HELLO without a proper {name}")
        if isinstance(field, str) and not is_short_text(field):
            raise WireError(f"HELLO with a {name} that is empty, too long, or cannot be printed")
        fields[name] = field
    if len(fields["payload"]) > HELLO_PAYLOAD_MAX_BYTES:  # type: ignore[arg-type]
        raise WireError("HELLO with too large a payload")
    return Hello(**fields)  # type: ignore[arg-type]


def _decode_texts(body: bytes, count: int) -> list[str]:
    value = _unpack(body)
    if not isinstance(value, list) or len(value) != count:
        raise WireError("a frame with the wrong number of fields")
    for text in value:
        if not isinstance(text, str) or len(text) > TEXT_MAX_BYTES:
            raise WireError("a field that is not a short text")
    return value


def _member[E: StrEnum](enum: type[E], value: object) -> E:
    try:
        return enum(str(value))
    except ValueError as exc:
        raise WireError(f"not a {enum.__name__}") from exc


def _decode_batch(body: bytes) -> Batch:
    first_sequence = _decode_u64(body[:8])
    items = _unpack(body[8:])
    if not isinstance(items, list):
        raise WireError("a batch that is not an array")
    messages: list[Message] = []
    append = messages.append
    for item in items:
        append(_decode_casts(item) if type(item) is list and item and item[0] == 0 else _decode_message(item))
    return Batch(first_sequence, messages)


def _decode_casts(item: list[object]) -> Cast | Casts:
    if len(item) < 3 or type(item[0]) is not int or type(item[1]) is not str:
        raise WireError("not a cast")
    actor = item[1]
    if len(item) == 3:
        payload = item[2]
        if type(payload) in _CONTAINERS:
            _check_depth(payload)
        return Cast(actor, payload)
    payloads = item[2:]
    if not _CONTAINERS.isdisjoint(map(type, payloads)):
        _check_depth(payloads, PAYLOAD_MAX_DEPTH + 1)
    return Casts(actor, payloads)


def _decode_message(item: object) -> Message:
    if type(item) is not list or not item or type(item[0]) is not int:
        raise WireError("not a message")  # True and 1.0 are no kinds, though they are equal to 1
    match item:
        case [1, int(call_id), str(actor), payload] if _whole(call_id):
            _check_depth(payload)
            return Call(call_id, actor, payload)
        case [2, int(call_id), value] if _whole(call_id):
            _check_depth(value)
            return Answer(call_id, value)
        case [3, int(call_id), reason] if _whole(call_id):
            return Failure(call_id, _member(Gone, reason))
        case [4, str(node), str(incarnation)]:
            return Ask(node, incarnation)
        case [5, str(node), str(incarnation), int(age_ms)] if _whole(age_ms):
            return Vouch(node, incarnation, age_ms)
        case _:
            raise WireError("not a message")


def _whole(number: int) -> bool:
    return type(number) is int and number >= 0
