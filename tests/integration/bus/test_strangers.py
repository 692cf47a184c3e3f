"""Who has not the secret is refused before anything of his is decoded, and who floods harms nobody."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

import pytest
import zmq
import zmq.asyncio

from cluster import bus as bus_module
from cluster import zeromq
from cluster.address import Address
from cluster.counters import Count
from cluster.errors import BindError, SecretError
from cluster.node import Node
from cluster.security import CurveKeys, Secret, derive_curve_keys
from cluster.transport import Connection, InboxRefusal, LostReason, Sender
from cluster.wire import FRAME_MAX_BYTES, Cast, Hello, decode, encode, encode_batch, encode_message
from cluster.zeromq import ZeroMqTransport
from tests.support.clusters import DIALS, FAST, PATIENT, Life, Listed, ZeroMqHarness
from tests.support.eventually import eventually

SECRET = Secret("the secret of these tests, long enough")
OTHER = Secret("another secret of these tests, as long")
HELLO = Hello(cluster="test", node="x", incarnation="i", region="r", address="tcp://127.0.0.1:9", started_at_ms=1)


@pytest.fixture
async def secured() -> AsyncIterator[ZeroMqHarness]:
    harness = ZeroMqHarness(derive_curve_keys(SECRET, "test"))
    try:
        yield harness
    finally:
        await harness.close()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every frame that any bus of the test has begun to decode."""
    seen: list[bytes] = []

    def spy(frame: bytes) -> object:
        seen.append(frame)
        return decode(frame)

    monkeypatch.setattr(bus_module, "decode", spy)
    return seen


@asynccontextmanager
async def raw_dealer(
    to: Address, configure: Callable[[zmq.Socket[bytes]], None] = lambda _: None
) -> AsyncIterator[zmq.Socket[bytes]]:
    """A client that is no node."""
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.SNDHWM, 0)
    configure(dealer)
    dealer.connect(str(to))
    try:
        yield dealer
    finally:
        dealer.close()
        await asyncio.to_thread(context.term)


async def node_with(keys: CurveKeys | None, to: Address, *, cluster: str = "test") -> Node:
    node = Node(
        name="stranger",
        cluster=cluster,
        transport=ZeroMqTransport(Address("127.0.0.1", 0), keys=keys),
        discovery=Listed([to]),
        detector=FAST,
        dialing=DIALS,
    )
    await node.start()
    return node


def assert_knows_nobody(life: Life) -> None:
    assert life.node.peers() == ()
    assert [member for member in life.node.members() if member.name is not None] == []
    assert life.seen == []


async def test_nodes_with_the_secret_talk(secured: ZeroMqHarness) -> None:
    a, b, _ = await secured.trio()
    a.node.cast("b", "recorder", "secret")
    await eventually(lambda: b.casts() == ["secret"])
    assert await b.node.call("a", "recorder", 1) == 1
    assert a.count(Count.STRANGER_REFUSED) == 0


@pytest.mark.parametrize(
    ("keys", "cluster"),
    [
        (derive_curve_keys(OTHER, "test"), "test"),
        (derive_curve_keys(SECRET, "elsewhere"), "elsewhere"),
        (None, "test"),
    ],
    ids=["other secret", "other cluster", "no secret"],
)
async def test_node_without_the_keys_never_gets_as_far_as_hello(
    secured: ZeroMqHarness, decoded: list[bytes], keys: CurveKeys | None, cluster: str
) -> None:
    a = await secured.start("a")
    stranger = await node_with(keys, a.node.address, cluster=cluster)
    try:
        await eventually(lambda: stranger.counters.get(Count.DIAL_FAILED) >= 3)
        await eventually(lambda: a.count(Count.STRANGER_REFUSED) >= 1)
        assert stranger.peers() == ()
        assert decoded == []
        assert_knows_nobody(a)
    finally:
        await stranger.stop()


async def test_secured_node_that_dials_an_open_one_is_not_heard(sockets: ZeroMqHarness, decoded: list[bytes]) -> None:
    a = await sockets.start("a")
    stranger = await node_with(derive_curve_keys(SECRET, "test"), a.node.address)
    try:
        await eventually(lambda: stranger.counters.get(Count.DIAL_FAILED) >= 3)
        assert decoded == []
        assert_knows_nobody(a)
    finally:
        await stranger.stop()


async def test_stranger_with_valid_keys_of_his_own_is_refused_before_decoding(
    secured: ZeroMqHarness, decoded: list[bytes]
) -> None:
    """He even knows the public key of the inbox: CURVE alone would let him in."""
    a = await secured.start("a")
    assert secured.keys is not None
    server_public = secured.keys.server_public
    public, secret = zmq.curve_keypair()

    def configure(dealer: zmq.Socket[bytes]) -> None:
        dealer.setsockopt(zmq.CURVE_SERVERKEY, server_public)
        dealer.setsockopt(zmq.CURVE_PUBLICKEY, public)
        dealer.setsockopt(zmq.CURVE_SECRETKEY, secret)

    async with raw_dealer(a.node.address, configure) as dealer:
        for _ in range(20):
            dealer.send(encode(HELLO))
            dealer.send(b"garbage")
        await eventually(lambda: a.count(Count.STRANGER_REFUSED) >= 1)
        b = await secured.start("b")  # whoever belongs to the cluster is served meanwhile
        await secured.settled()
        assert b.node.peers()
    assert a.count(Count.BAD_FRAME) == 0
    assert encode(HELLO) not in decoded
    assert b"garbage" not in decoded
    assert {member.name for member in a.node.members()} == {"b"}


async def test_another_clusters_name_without_secrets_is_refused_by_hello(sockets: ZeroMqHarness) -> None:
    a = await sockets.start("a")
    stranger = await node_with(None, a.node.address, cluster="elsewhere")
    try:
        await eventually(lambda: a.count(Count.OTHER_CLUSTER) >= 1)
        await eventually(lambda: stranger.counters.get(Count.REFUSED_BY_PEER) >= 1)
        assert_knows_nobody(a)
        assert stranger.peers() == ()
    finally:
        await stranger.stop()


async def test_peer_of_a_newer_protocol_is_refused_and_told_why(
    sockets: ZeroMqHarness, caplog: pytest.LogCaptureFixture
) -> None:
    a = await sockets.start("a")
    async with raw_dealer(a.node.address) as dealer:
        newer = Hello(**{**{f: getattr(HELLO, f) for f in HELLO.__slots__}, "protocol_min": 7, "protocol_max": 9})
        dealer.send(encode(newer))
        await eventually(lambda: a.count(Count.OTHER_PROTOCOL) == 1)
        await eventually(lambda: dealer.poll(0))
        assert "speaks protocol" in str(decode(dealer.recv()))
    assert_knows_nobody(a)
    assert "upgrade the older one" in caplog.text


async def test_bus_beyond_loopback_without_a_secret_is_refused() -> None:
    for host in ("0.0.0.0", "*", "::", "192.0.2.1"):
        with pytest.raises(SecretError, match="litecast keygen"):
            await ZeroMqTransport(Address(host, 0)).bind()


async def test_port_in_use_and_address_of_another_machine_are_one_line_errors() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        with pytest.raises(BindError, match="in use") as caught:
            await ZeroMqTransport(Address("127.0.0.1", taken.getsockname()[1])).bind()
        assert "\n" not in str(caught.value)
        assert "bus.bind" in str(caught.value)
    keys = derive_curve_keys(SECRET, "test")
    with pytest.raises(BindError, match=r"bus\.bind"):
        await ZeroMqTransport(Address("192.0.2.1", 0), keys=keys).bind()
    with pytest.raises(BindError, match=r"bus\.bind"):
        await ZeroMqTransport(Address("no-such-host.invalid", 0), keys=keys).bind()


# --- bad input from who gets as far as the inbox ---


async def test_garbage_is_counted_and_disturbs_nobody(sockets: ZeroMqHarness, caplog: pytest.LogCaptureFixture) -> None:
    a, b = await sockets.pair()
    async with raw_dealer(a.node.address) as dealer:
        for number in range(300):
            dealer.send(bytes([number % 256]) * (number % 50))
        await eventually(lambda: a.count(Count.BAD_FRAME) == 300)
        b.node.cast("a", "recorder", "still here")
        await eventually(lambda: a.casts() == ["still here"])
    assert caplog.text.count("dropped a frame") == 1
    assert a.news("b") == ["up"]


async def test_frames_without_a_hello_are_answered_with_a_reset_and_not_delivered(sockets: ZeroMqHarness) -> None:
    a = await sockets.start("a")
    async with raw_dealer(a.node.address) as dealer:
        dealer.send(encode_batch(0, [encode_message(Cast("recorder", "sneaked in"))]))
        await eventually(lambda: a.count(Count.UNKNOWN_LINK) == 1)
    assert_knows_nobody(a)


async def test_message_of_twenty_thousand_parts_is_dropped_whole(sockets: ZeroMqHarness) -> None:
    a, b = await sockets.pair()
    async with raw_dealer(a.node.address) as dealer:
        dealer.send_multipart([encode(HELLO)] + [b"x" * 100] * 20_000)
        await eventually(lambda: a.count(Count.BAD_PARTS) == 1)
        dealer.send_multipart([encode(HELLO), b""])
        await eventually(lambda: a.count(Count.BAD_PARTS) == 2)
        b.node.cast("a", "recorder", "still here")
        await eventually(lambda: a.casts() == ["still here"])
    assert {member.name for member in a.node.members()} == {"b"}


async def test_part_beyond_the_frame_limit_never_reaches_the_bus(sockets: ZeroMqHarness, decoded: list[bytes]) -> None:
    a = await sockets.start("a")
    async with raw_dealer(a.node.address) as dealer:
        dealer.send(b"x" * (FRAME_MAX_BYTES + 1))
        b = await sockets.start("b")
        await sockets.settled()
        assert b.node.peers()
    assert max(map(len, decoded)) < 1_000


async def test_many_that_say_hello_and_vanish_leave_a_bounded_trace(sockets: ZeroMqHarness) -> None:
    sockets.detector = PATIENT
    a = await sockets.start("a")
    async with raw_dealer(a.node.address) as dealer:
        for number in range(2_000):
            fields = {f: getattr(HELLO, f) for f in HELLO.__slots__}
            dealer.send(encode(Hello(**{**fields, "node": f"n{number}", "address": f"tcp://127.0.0.1:{number + 1}"})))
        bus = a.node._bus
        assert bus is not None
        await eventually(lambda: any(member.name == "n1999" for member in a.node.members()))
        assert len(bus._peering._peers) <= 512
        assert len(bus._peering._by_offer) <= 512
        assert len(bus._book) <= 1_024


async def test_value_that_msgpack_knows_and_we_do_not_ends_one_frame_and_not_the_node(sockets: ZeroMqHarness) -> None:
    a, b = await sockets.pair()
    async with raw_dealer(a.node.address) as dealer:
        dealer.send(b"LC\x01\x81\xa4node\xd4\x04x")  # {"node": ExtType(4, b"x")}
        await eventually(lambda: a.count(Count.BAD_FRAME) == 1)
    assert a.news("b") == b.news("a") == ["up"]


class Clumsy:
    """A listener with a mistake in it."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def opened(self, connection: Connection) -> None: ...

    def lost(self, connection: Connection, reason: LostReason) -> None: ...

    def writable(self, connection: Connection) -> None: ...

    def answered(self, connection: Connection, frame: bytes) -> None: ...

    def refused(self, cause: InboxRefusal, source: str) -> None: ...

    def received(self, sender: Sender, frame: bytes, source_host: str | None) -> None:
        self.frames.append(frame)
        if frame != b"last":
            raise RuntimeError("a mistake")


async def test_mistake_in_handling_one_frame_does_not_make_the_inbox_deaf() -> None:
    reports: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    transport = ZeroMqTransport(Address("127.0.0.1", 0))
    address = await transport.bind()
    async with raw_dealer(address) as dealer:
        for _ in range(20):
            dealer.send(b"bad")
        dealer.send(b"last")
        await asyncio.sleep(0.05)  # all have come before the reader first looks, so nothing wakes it again
        listener = Clumsy()
        transport.open(listener)
        await eventually(lambda: listener.frames == [*[b"bad"] * 20, b"last"])
        assert len(reports) == 20
        await transport.stop()


async def test_process_that_hangs_in_the_handshake_is_unreachable_and_no_stranger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(zeromq, "HANDSHAKE_TIMEOUT_MS", 100)
    lost: list[LostReason] = []

    class Noting(Clumsy):
        def lost(self, connection: Connection, reason: LostReason) -> None:
            lost.append(reason)

    with closing(socket.create_server(("127.0.0.1", 0))) as silent:  # the kernel connects, nobody answers
        transport = ZeroMqTransport(Address("127.0.0.1", 0), keys=derive_curve_keys(SECRET, "test"))
        await transport.bind()
        transport.open(Noting())
        transport.dial(Address("127.0.0.1", silent.getsockname()[1]))
        await eventually(lambda: lost)
        await transport.stop()
    assert lost == [LostReason.UNREACHABLE]
