"""The limits of the codec: what is beyond them is a WireError, and costs little to find out."""

import struct
import tracemalloc

import msgpack
import pytest

from cluster.address import Address
from cluster.errors import WireError
from cluster.outbox import Outbox
from cluster.wire import (
    BATCH_TARGET_BYTES,
    ELEMENTS_MAX,
    FRAME_MAX_BYTES,
    MESSAGE_MAX_BYTES,
    MESSAGE_MAX_CONTAINERS,
    PAYLOAD_MAX_DEPTH,
    Ask,
    Batch,
    Call,
    Cast,
    Casts,
    Hello,
    Refusal,
    Refuse,
    decode,
    encode,
    encode_batch,
    encode_cast,
    encode_message,
    encode_payload,
)

HELLO = Hello(
    cluster="c", node="n", incarnation="i", region="r", address="tcp://127.0.0.1:7400", started_at_ms=1, payload=b"p"
)
HELLO_TYPE, WELCOME_TYPE, BATCH_TYPE = 1, 2, 5


def packed(value: object) -> bytes:
    data = msgpack.packb(value)
    assert isinstance(data, bytes)
    return data


def frame(kind: int, body: bytes) -> bytes:
    return b"LC" + bytes([kind]) + body


def batch(messages: bytes, *, first_sequence: int = 0) -> bytes:
    return frame(BATCH_TYPE, struct.pack(">Q", first_sequence) + messages)


def hello_with(**changes: object) -> bytes:
    fields = {name: getattr(HELLO, name) for name in HELLO.__slots__}
    return frame(HELLO_TYPE, packed({name: v for name, v in {**fields, **changes}.items() if v is not ...}))


def refused(data: bytes) -> str:
    with pytest.raises(WireError) as caught:
        decode(data)
    return str(caught.value)


def peak_bytes(data: bytes) -> int:
    """The memory that decoding takes at its highest, whether or not it succeeds."""
    tracemalloc.start()
    try:
        try:
            decoded = decode(data)
        except WireError:
            decoded = None
        peak = tracemalloc.get_traced_memory()[1]
        del decoded
    finally:
        tracemalloc.stop()
    return peak


# --- shape ---


@pytest.mark.parametrize(
    "data", [b"", b"L", b"LC", b"XX\x05", b"LC\x00", b"LC\x63", b"LC\x07x", b"LC\x06\x00", b"LC\x05"]
)
def test_bytes_that_are_no_frame_are_refused(data: bytes) -> None:
    refused(data)


def test_frame_beyond_the_size_limit_is_refused_before_it_is_read() -> None:
    assert "bytes" in refused(b"LC\x07" + b"\x00" * FRAME_MAX_BYTES)


@pytest.mark.parametrize(
    "message",
    [
        [],
        [0],
        [0, "actor"],
        [0, 1, "payload"],
        [False, "actor", "payload"],
        [0.0, "actor", "payload"],
        [True, 1, "actor", "payload"],
        [1, -1, "actor", "payload"],
        [1, True, "actor", "payload"],
        [1, 1.0, "actor", "payload"],
        [1, "id", "actor", "payload"],
        [2, 1],
        [3, 1, "no such reason"],
        [3, 1, None],
        [4, "node", 1],
        [5, "node", "incarnation", -1],
        [5, "node", "incarnation", 1.5],
        [6, "unknown", "kind"],
        "text",
        None,
        {"0": "actor"},
    ],
    ids=str,
)
def test_what_is_no_message_is_refused(message: object) -> None:
    refused(batch(packed([message])))


def test_batch_that_is_no_array_is_refused() -> None:
    refused(batch(packed({"a": 1})))
    refused(batch(packed(0)))


def test_bytes_after_the_end_are_refused() -> None:
    refused(encode(Batch(0, [Cast("a", 1)])) + b"\x00")


# --- limits on what is read ---


def nested(depth: int, *, maps: bool = False) -> object:
    value: object = 0
    for _ in range(depth):
        value = {"k": value} if maps else [value]
    return value


@pytest.mark.parametrize("maps", [False, True])
def test_nesting_is_allowed_to_its_limit_and_no_further(maps: bool) -> None:
    allowed = nested(PAYLOAD_MAX_DEPTH, maps=maps)
    read = Batch(0, [Cast("a", allowed), Casts("a", [0, allowed]), Call(1, "a", allowed)])
    assert decode(encode(read)) == read
    too_deep = nested(PAYLOAD_MAX_DEPTH + 1, maps=maps)
    for message in ([0, "a", too_deep], [0, "a", 0, too_deep], [1, 1, "a", too_deep], [2, 1, too_deep]):
        assert "nested" in refused(batch(packed([message])))


@pytest.mark.parametrize("depth", [600, 2_000, 100_000])
def test_nesting_beyond_all_measure_is_one_error(depth: int) -> None:
    refused(batch(b"\x91" * depth + b"\xc0"))
    refused(batch(b"\x81\xa1k" * depth + b"\xc0"))


def test_many_empty_maps_are_refused_without_filling_the_memory() -> None:
    bomb = batch(b"\x91" + b"\x93\x00\xa1a" + b"\xdd" + (900_000).to_bytes(4, "big") + b"\x80" * 900_000)
    assert peak_bytes(bomb) < 4 * len(bomb)
    arrays = b"".join(b"\xdd" + (90_000).to_bytes(4, "big") + b"\x80" * 90_000 for _ in range(10))
    bomb = batch(b"\x91\x93\x00\xa1a\x9a" + arrays)
    assert "arrays and maps" in refused(bomb)
    assert peak_bytes(bomb) < 12_000_000  # 65 MB without the limit


def test_bytes_that_look_like_containers_are_counted_for_what_they_are() -> None:
    blob = b"\x80" * (MESSAGE_MAX_BYTES - 100)
    assert decode(encode(Batch(0, [Cast("a", blob)]))) == Batch(0, [Cast("a", blob)])
    numbers = [0x80] * 90_000  # two bytes each: 0xCC 0x80
    assert decode(encode(Batch(0, [Cast("a", [numbers, numbers])]))) == Batch(0, [Cast("a", [numbers, numbers])])


def test_claimed_lengths_are_believed_only_if_the_bytes_are_there() -> None:
    for header in (b"\xdd\x00\x01\x86\xa0", b"\xdc\xff\xff", b"\xdf\x00\x01\x86\xa0\xa1k", b"\xde\xff\xff\xa1k"):
        bomb = batch(header * 1_000)
        assert peak_bytes(bomb) < 20_000_000  # 800 MB if each of them is believed
        refused(bomb)


@pytest.mark.parametrize(
    "claim",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
    ],
)
def test_one_huge_claimed_length_is_refused_and_costs_nothing(claim: bytes) -> None:
    assert peak_bytes(batch(claim)) < 100_000
    refused(batch(claim))
    refused(frame(HELLO_TYPE, claim))


def test_array_and_map_beyond_the_limit_are_refused() -> None:
    refused(batch(packed([[0, "a", [0] * (ELEMENTS_MAX + 1)]])))
    refused(batch(packed([[0, "a", {str(n): 0 for n in range(ELEMENTS_MAX + 1)}]])))


def test_largest_frame_of_anything_takes_bounded_memory() -> None:
    two_letters = b"".join(b"\xdd\x00\x01\x86\xa0" + b"\xa2ab" * 100_000 for _ in range(26))
    floats = b"".join(b"\xdd\x00\x01\x86\xa0" + (b"\xcb" + struct.pack(">d", 0.1)) * 100_000 for _ in range(8))
    for body, count in ((two_letters, 26), (floats, 8)):
        data = batch(b"\x91\x93\x00\xa1a" + b"\xdc" + count.to_bytes(2, "big") + body)
        assert 7_000_000 < len(data) <= FRAME_MAX_BYTES
        assert peak_bytes(data) < 30 * len(data)


@pytest.mark.parametrize(
    "extension",
    [msgpack.ExtType(5, b""), msgpack.ExtType(5, b"x"), msgpack.ExtType(5, b"x" * 300), msgpack.Timestamp(1, 2)],
    ids=str,
)
def test_extension_types_are_refused(extension: object) -> None:
    refused(batch(packed([[0, "a", extension]])))


@pytest.mark.parametrize("key", [1, None, 1.5, True, ("a",)], ids=str)
def test_map_keys_that_are_no_text_are_refused(key: object) -> None:
    refused(batch(packed([[0, "a", {key: 1}]])))


def test_text_that_is_not_utf8_is_refused() -> None:
    refused(batch(b"\x91\x93\x00\xa1a\xa2\xff\xff"))


# --- HELLO ---


@pytest.mark.parametrize(
    "changes",
    [
        {"node": ""},
        {"node": "x" * 256},
        {"node": "é" * 128},
        {"node": "two\nlines"},
        {"region": "\x1b[31mred"},
        {"node": 1},
        {"node": b"bytes"},
        {"node": ...},
        {"cluster": None},
        {"started_at_ms": 1.5},
        {"started_at_ms": True},
        {"protocol_min": "1"},
        {"payload": "text"},
        {"payload": b"x" * (64 * 1024 + 1)},
    ],
    ids=str,
)
def test_hello_with_an_improper_field_is_refused(changes: dict[str, object]) -> None:
    refused(hello_with(**changes))


def test_hello_of_a_later_version_may_say_more() -> None:
    assert decode(hello_with(colour="green", protocol_max=7)) == Hello(
        **{**{name: getattr(HELLO, name) for name in HELLO.__slots__}, "protocol_max": 7}
    )


def test_refusal_with_a_long_detail_is_shortened_between_characters() -> None:
    told = decode(encode(Refuse(Refusal.PROTOCOL, "é" * 1_000)))
    assert isinstance(told, Refuse)
    assert told.detail == "é" * 127


# --- the sender is held to what the receiver reads ---


def test_sender_and_receiver_agree_on_the_most_containers() -> None:
    most: list[object] = [[] for _ in range(MESSAGE_MAX_CONTAINERS - 1)]
    assert decode(encode_batch(0, [encode_cast("a", most)])) == Batch(0, [Cast("a", most)])
    with pytest.raises(ValueError, match="arrays and maps"):
        encode_cast("a", [*most, []])
    for message in (Call(1, "a", [*most, []]), Cast("a", [*most, []])):
        with pytest.raises(ValueError, match="arrays and maps"):
            encode_message(message)


class Taking:
    """A connection that takes everything."""

    def __init__(self) -> None:
        self.address = Address("127.0.0.1", 1)
        self.frames: list[bytes] = []

    def send(self, frame: bytes) -> bool:
        self.frames.append(frame)
        return True

    def close(self) -> None: ...


def test_fullest_batch_that_a_sender_makes_is_read() -> None:
    connection = Taking()
    outbox = Outbox(connection)
    smallest = BATCH_TARGET_BYTES - 2  # a byte less than full: each is a map, and so takes most to build
    for _ in range(smallest):
        assert outbox.put_cast("", encode_payload({}))
    largest = encode_payload([[] for _ in range(MESSAGE_MAX_CONTAINERS - 1)])
    assert outbox.put_cast("a", largest)
    outbox.flush(0.0)
    (frame,) = connection.frames
    decoded = decode(frame)
    assert isinstance(decoded, Batch)
    assert decoded.count == smallest + 1 < ELEMENTS_MAX


def test_text_subclass_as_key_is_a_text() -> None:
    assert decode(encode_batch(0, [encode_cast("a", {Refusal.PROTOCOL: 1})])) == Batch(0, [Cast("a", {"protocol": 1})])


def test_largest_ask_and_sequence_number_pass() -> None:
    assert decode(encode(Batch(2**64 - 2, [Ask("n", "i")]))) == Batch(2**64 - 2, [Ask("n", "i")])
