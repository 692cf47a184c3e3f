"""Whatever comes from the wire is a frame or a WireError; whatever is written is read back as it was."""

import contextlib
import math
import struct

import msgpack
from hypothesis import example, given
from hypothesis import strategies as st

from cluster.errors import Gone, WireError
from cluster.wire import (
    Answer,
    Ask,
    Batch,
    Begin,
    Call,
    Cast,
    Casts,
    Failure,
    Frame,
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    Refusal,
    Refuse,
    Reset,
    ResetLink,
    Vouch,
    Welcome,
    decode,
    encode,
)

TYPES = (Hello, Welcome, Refuse, ResetLink, Begin, Batch, Heartbeat, Goodbye)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cf", "Co", "Cn", "Zs", "Zl", "Zp"]), min_size=1, max_size=60
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=60),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
whole = st.integers(0, 2**63)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Cast, texts, plain),
    st.builds(Casts, texts, st.lists(plain, min_size=2, max_size=5)),
    st.builds(Call, whole, texts, plain),
    st.builds(Answer, whole, plain),
    st.builds(Failure, whole, st.sampled_from(Gone)),
    st.builds(Ask, texts, texts),
    st.builds(Vouch, texts, texts, whole),
)
hellos = st.builds(
    Hello,
    cluster=names,
    node=names,
    incarnation=names,
    region=names,
    address=names,
    started_at_ms=whole,
    protocol_min=st.integers(0, 9),
    protocol_max=st.integers(0, 9),
    payload=st.binary(max_size=100),
)
frames: st.SearchStrategy[Frame] = st.one_of(
    hellos,
    st.builds(Welcome, hellos, st.integers(0, 2**53)),
    st.builds(Begin, st.integers(0, 2**53)),
    st.builds(Refuse, st.sampled_from(Refusal), st.text("abc é", max_size=60)),
    st.builds(ResetLink, st.sampled_from(Reset)),
    st.builds(Batch, whole, st.lists(messages, max_size=6)),
    st.builds(Heartbeat, whole),
    st.just(Goodbye()),
)


def packed(value: object) -> bytes:
    data = msgpack.packb(value)
    assert isinstance(data, bytes)
    return data


def frame_or_nothing(data: bytes) -> None:
    with contextlib.suppress(WireError):
        assert isinstance(decode(data), TYPES)


@given(frames)
def test_what_is_written_is_read_back(frame: Frame) -> None:
    assert decode(encode(frame)) == frame


@given(st.floats())
def test_every_float_keeps_its_bits(number: float) -> None:
    decoded = decode(encode(Batch(0, [Cast("a", number)])))
    assert isinstance(decoded, Batch)
    (message,) = decoded.messages
    assert isinstance(message, Cast)
    assert isinstance(message.payload, float)
    assert message.payload == number or (math.isnan(message.payload) and math.isnan(number))
    assert math.copysign(1, message.payload) == math.copysign(1, number)


@given(st.binary(max_size=300))
def test_random_bytes_are_a_frame_or_a_wire_error(data: bytes) -> None:
    frame_or_nothing(data)


@given(st.integers(0, 255), st.binary(max_size=300))
@example(5, struct.pack(">Q", 0) + b"\xdc\x00\x10" * 40)
@example(5, struct.pack(">Q", 0) + b"\xc7\x00\xff")
@example(1, b"\xc1")
def test_random_body_behind_a_proper_header_is_a_frame_or_a_wire_error(kind: int, body: bytes) -> None:
    frame_or_nothing(b"LC" + bytes([kind]) + body)


@given(st.integers(1, 8), plain)
def test_any_plain_value_as_a_body_is_a_frame_or_a_wire_error(kind: int, value: object) -> None:
    body = packed(value)
    frame_or_nothing(b"LC" + bytes([kind]) + body)
    frame_or_nothing(b"LC" + bytes([kind]) + struct.pack(">Q", 1) + body)
    frame_or_nothing(b"LC\x05" + struct.pack(">Q", 1) + packed([value]))


@given(frames, st.data())
def test_damaged_frame_is_a_frame_or_a_wire_error(frame: Frame, data: st.DataObject) -> None:
    damaged = bytearray(encode(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert", "remove"])):
            case "change":
                damaged[where] = data.draw(st.integers(0, 255))
            case "cut":
                del damaged[where + 1 :]
            case "insert":
                damaged[where:where] = data.draw(st.binary(min_size=1, max_size=9))
            case _:
                del damaged[where : where + 1]
                damaged = damaged or bytearray(b"L")
    frame_or_nothing(bytes(damaged))
