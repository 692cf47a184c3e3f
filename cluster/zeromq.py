"""The transport over ZeroMQ: one ROUTER socket as inbox, one DEALER socket for each connection that we dial.

ZeroMQ would reconnect by itself and hand what was queued for a dead process to its successor. Neither suits a bus whose
links are sessions, so every DEALER is used once (`RECONNECT_IVL=-1`), takes nothing before it is connected
(`IMMEDIATE=1`), and is watched through its monitor: a kill at the other end is seen within milliseconds.

No asyncio wrapper of pyzmq is used. Sockets are read where the event loop says that their descriptor is readable; the
descriptor is edge-triggered, so a reader goes on until nothing is left, and every send is followed by another look.
"""

import asyncio
import contextlib
import errno
import itertools
import socket
from collections.abc import Callable

import zmq
from zmq.utils.monitor import recv_monitor_message

from cluster.address import Address
from cluster.discovery.lookup import look_up
from cluster.errors import BindError, SecretError
from cluster.security import CurveKeys
from cluster.transport import InboxRefusal, Listener, LostReason, Sender
from cluster.wire import FRAME_MAX_BYTES, FrameType

QUEUE_MAX_FRAMES = 200  # per connection and direction; a full queue makes the bus batch more
HANDSHAKE_TIMEOUT_MS = 5_000
CONNECT_TIMEOUT_MS = 5_000
KEEPALIVE_IDLE_S = 5  # TCP's own: finds connections whose other end vanished without a word, 5 + 2 * 5 s later
KEEPALIVE_INTERVAL_S = 5
KEEPALIVE_PROBES = 2
UNACKNOWLEDGED_MAX_MS = 15_000  # the same where something was sent and nobody says that it came
CLOSE_LINGER_MS = 100  # lets a goodbye out
FRAMES_PER_TURN = 64  # read before the event loop gets a turn
PENDING_CONNECTIONS_MAX = 128
SOCKETS_MAX = 8_192  # a connection takes three; what really bounds them is the limit on open files
ZAP_DOMAIN = b"litecast"
_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_HELLO = FrameType.HELLO.value
_HEADER_BYTES = 3
_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)  # arithmetic of enums is slow, and this is done for every frame

_HANDSHAKE_FAILED = (
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_AUTH
)
_DIALLED_EVENTS = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED | zmq.Event.CLOSED | _HANDSHAKE_FAILED
_monitor_numbers = itertools.count()

type _Socket = zmq.Socket[bytes]
type _Context = zmq.Context[zmq.Socket[bytes]]


class ZeroMqTransport:
    """Listens at `bind`; without `keys` only on loopback."""

    def __init__(self, bind: Address, *, keys: CurveKeys | None = None) -> None:
        """Opens nothing yet. Raises SecretError for an address beyond loopback without keys."""
        if keys is None and not bind.is_loopback:
            raise SecretError(
                f"the bus at {bind} could be reached from other machines, and there is no secret: make one with "
                "'litecast keygen' and give it to every node as bus.secret, bus.secret_file or LITECAST_BUS__SECRET"
            )
        self._bind = bind
        self._keys = keys
        self._context: _Context | None = None
        self._zap: _Socket | None = None
        self._inbox_socket: _Socket | None = None
        self._inbox_monitor: _Socket | None = None
        self._inbox: _Reader | None = None
        self._readers: list[_Reader] = []
        self._connections: set[ZeroMqConnection] = set()
        self._listener: Listener | None = None

    async def bind(self) -> Address:
        """Take the address; returns it. Raises BindError if it cannot."""
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
        try:
            if self._keys is not None:
                # It must stand before the inbox is bound, else ZeroMQ lets everybody in.
                self._zap = self._context.socket(zmq.REP)
                self._zap.setsockopt(zmq.LINGER, 0)
                self._zap.bind(_ZAP_ENDPOINT)
            self._inbox_socket = self._open_inbox(self._context)
        except BaseException:
            await self.stop()
            raise
        endpoint = self._inbox_socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        return Address(self._bind.host, int(endpoint.rstrip(b"\0").rsplit(b":", 1)[1]))

    def _open_inbox(self, context: _Context) -> _Socket:
        inbox = context.socket(zmq.ROUTER)
        try:
            _set_common_options(inbox)
            inbox.setsockopt(zmq.BACKLOG, PENDING_CONNECTIONS_MAX)
            inbox.setsockopt(zmq.ROUTER_HANDOVER, 1)
            if self._keys is not None:
                inbox.setsockopt(zmq.CURVE_SERVER, 1)
                inbox.setsockopt(zmq.CURVE_SECRETKEY, self._keys.server_secret)
                inbox.setsockopt(zmq.ZAP_DOMAIN, ZAP_DOMAIN)
            self._inbox_monitor = _monitor(inbox, context, int(_HANDSHAKE_FAILED))
            inbox.bind(_bindable(self._bind))
        except zmq.ZMQError as exc:
            inbox.close()
            raise BindError(_why_not_bound(self._bind, exc)) from exc
        return inbox

    def open(self, listener: Listener) -> None:
        """Begin to read."""
        assert self._inbox_socket is not None, "open after bind"
        assert self._inbox_monitor is not None
        self._listener = listener
        if self._zap is not None and self._keys is not None:
            self._readers.append(_Reader(self._zap, _zap_reader(self._keys)))
        self._inbox = _Reader(self._inbox_socket, self._read_inbox)
        self._readers.append(self._inbox)
        self._readers.append(_Reader(self._inbox_monitor, self._read_inbox_monitor))

    def _read_inbox(self, inbox: _Socket) -> None:
        sender = inbox.recv(zmq.NOBLOCK)
        part = inbox.recv(zmq.NOBLOCK, copy=False)
        listener = self._listener
        if part.more:
            # Read on without keeping anything: MAXMSGSIZE bounds a part, not how many of them there are.
            while inbox.recv(zmq.NOBLOCK, copy=False).more:
                pass
            if listener is not None:
                listener.refused(InboxRefusal.PARTS, str(part.get("Peer-Address")))
            return
        frame = part.bytes
        host: str | None = None
        if len(frame) > _HEADER_BYTES and frame[2] == _HELLO:
            with contextlib.suppress(zmq.ZMQError):
                host = _plain_host(str(part.get("Peer-Address")))
        if listener is not None:
            listener.received(sender, frame, host)

    def _read_inbox_monitor(self, monitor: _Socket) -> None:
        event = recv_monitor_message(monitor, zmq.NOBLOCK)
        if self._listener is not None:
            self._listener.refused(InboxRefusal.STRANGER, event["endpoint"].decode(errors="replace"))

    def dial(self, address: Address) -> "ZeroMqConnection":
        """Begin to connect."""
        assert self._context is not None, "dial after bind and before stop"
        assert self._listener is not None, "dial after open"
        connection = ZeroMqConnection(self._context, address, self._keys, self._listener, self._connections.discard)
        self._connections.add(connection)
        return connection

    def reply(self, sender: Sender, frame: bytes) -> None:
        """Answer a caller. ZeroMQ drops it silently if the caller is gone or does not read."""
        assert isinstance(sender, bytes)
        if self._inbox is None:
            return
        with contextlib.suppress(zmq.ZMQError):
            self._inbox.socket.send_multipart([sender, frame], zmq.NOBLOCK)
        self._inbox.look_again()

    async def stop(self) -> None:
        """Close everything; goodbyes that were sent get 100 ms to leave."""
        self._listener = None
        for connection in list(self._connections):
            connection.close()
        if self._inbox_socket is not None and self._inbox_monitor is not None:
            self._inbox_socket.disable_monitor()
        for reader in self._readers:
            reader.close()
        self._readers.clear()
        self._inbox = None
        for sock in (self._zap, self._inbox_monitor, self._inbox_socket):
            if sock is not None:
                sock.close()
        self._zap = self._inbox_monitor = self._inbox_socket = None
        context, self._context = self._context, None
        if context is not None:
            # Waits for what lingers, so not in the event loop's thread.
            await asyncio.to_thread(context.term)


def _zap_reader(keys: CurveKeys) -> Callable[[_Socket], None]:
    """Answers ZeroMQ's question whether a public key may connect (RFC 27). Without it CURVE lets anybody in."""

    def read(zap: _Socket) -> None:
        request = zap.recv_multipart(zmq.NOBLOCK)
        request_id = request[1] if len(request) > 1 else b""
        admitted = (
            len(request) == 7  # version, request id, domain, address, identity, mechanism, key
            and request[0] == b"1.0"
            and request[2] == ZAP_DOMAIN
            and request[5] == b"CURVE"
            and keys.admits(request[6])
        )
        status = (b"200", b"OK") if admitted else (b"400", b"not of this cluster")
        zap.send_multipart([b"1.0", request_id, *status, b"", b""], zmq.NOBLOCK)

    return read


class ZeroMqConnection:
    """One DEALER socket, used for one connection and no more."""

    def __init__(
        self,
        context: _Context,
        address: Address,
        keys: CurveKeys | None,
        listener: Listener,
        ended: Callable[["ZeroMqConnection"], None],
    ) -> None:
        self.address = address
        self._listener = listener
        self._ended = ended
        self._full = False
        self._closed = False
        self._dealer: _Reader | None = None
        self._monitor: _Reader | None = None
        self._looking_up: asyncio.Task[None] | None = None
        try:
            self._open(context, keys)
        except zmq.ZMQError:
            # No such host, or no socket or descriptor left. Told later, as any other failure is.
            asyncio.get_running_loop().call_soon(self._lose, LostReason.UNREACHABLE)

    def _open(self, context: _Context, keys: CurveKeys | None) -> None:
        dealer = context.socket(zmq.DEALER)
        try:
            _set_common_options(dealer)
            dealer.setsockopt(zmq.IMMEDIATE, 1)
            dealer.setsockopt(zmq.RECONNECT_IVL, -1)
            dealer.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS)
            if keys is not None:
                dealer.setsockopt(zmq.CURVE_SERVERKEY, keys.server_public)
                dealer.setsockopt(zmq.CURVE_PUBLICKEY, keys.client_public)
                dealer.setsockopt(zmq.CURVE_SECRETKEY, keys.client_secret)
            monitor = _monitor(dealer, context, int(_DIALLED_EVENTS))
        except zmq.ZMQError:
            dealer.close(0)
            raise
        self._monitor = _Reader(monitor, self._read_monitor)
        self._dealer = _Reader(dealer, self._read, self._look_at_writable)
        if self.address.is_ip:
            dealer.connect(str(self.address))
        else:
            self._looking_up = asyncio.create_task(self._connect_by_name(dealer), name=f"look up {self.address}")

    async def _connect_by_name(self, dealer: _Socket) -> None:
        """ZeroMQ would ask the name server in its only I/O thread, and nothing of the bus would move meanwhile."""
        try:
            found = await look_up(self.address.host, self.address.port)
            dealer.connect(str(found[0]))
        except (OSError, zmq.ZMQError):
            self._lose(LostReason.UNREACHABLE)

    def send(self, frame: bytes) -> bool:
        """Hand a frame to ZeroMQ; False if its queue is full or the connection is gone."""
        if self._closed or self._dealer is None:
            return False
        try:
            self._dealer.socket.send(frame, zmq.NOBLOCK)
        except zmq.ZMQError:
            self._full = True
            self._dealer.look_again(_POLLIN | _POLLOUT)
            return False
        self._dealer.look_again(_POLLIN | _POLLOUT if self._full else _POLLIN)
        return True

    def close(self) -> None:
        """End it; frames that were handed over get 100 ms to leave."""
        if self._closed:
            return
        self._closed = True
        if self._looking_up is not None:
            self._looking_up.cancel()
        if self._dealer is not None and self._monitor is not None:
            self._dealer.socket.disable_monitor()
            self._monitor.close()
            self._dealer.close()
        self._ended(self)

    def _read(self, dealer: _Socket) -> None:
        part = dealer.recv(zmq.NOBLOCK, copy=False)
        if not part.more:
            self._listener.answered(self, part.bytes)
            return
        while dealer.recv(zmq.NOBLOCK, copy=False).more:
            pass
        self._listener.refused(InboxRefusal.PARTS, str(self.address))

    def _look_at_writable(self, events: int) -> None:
        if self._full and events & _POLLOUT:
            self._full = False
            self._listener.writable(self)

    def _read_monitor(self, monitor: _Socket) -> None:
        message = recv_monitor_message(monitor, zmq.NOBLOCK)
        event = message["event"]
        if event == zmq.Event.HANDSHAKE_SUCCEEDED:
            self._listener.opened(self)
        elif event == zmq.Event.HANDSHAKE_FAILED_NO_DETAIL and message["value"] == errno.EAGAIN:
            self._lose(LostReason.UNREACHABLE)  # connected, and then silent: a process that hangs is no stranger
        elif event & _HANDSHAKE_FAILED:
            self._lose(LostReason.SECRET)
        elif event == zmq.Event.DISCONNECTED:
            self._lose(LostReason.DISCONNECTED)
        else:
            self._lose(LostReason.UNREACHABLE)

    def _lose(self, reason: LostReason) -> None:
        if not self._closed:
            self.close()
            self._listener.lost(self, reason)


class _Reader:
    """Calls `read` for each message of a socket, from the event loop."""

    def __init__(
        self,
        sock: _Socket,
        read: Callable[[_Socket], None],
        after: Callable[[int], None] | None = None,
    ) -> None:
        self.socket = sock
        self._read = read
        self._after = after
        self._loop = asyncio.get_running_loop()
        self._descriptor = int(sock.getsockopt(zmq.FD))
        self._scheduled = False
        self._closed = False
        self._loop.add_reader(self._descriptor, self._turn)
        self.look_again()  # what came before is not announced

    def look_again(self, events: int = _POLLIN) -> None:
        """Something was done with the socket that may have used up the descriptor's edge.

        To ask for its events makes the descriptor announce whatever comes from now on. So a turn is needed only if one
        of the wanted events has come already.
        """
        if not self._scheduled and not self._closed and self._events() & events:
            self._turn_soon()

    def _turn_soon(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self._turn)

    def _events(self) -> int:
        return int(self.socket.getsockopt(zmq.EVENTS))

    def _turn(self) -> None:
        self._scheduled = False
        for _ in range(FRAMES_PER_TURN):
            if self._closed:
                return
            events = self._events()
            if not events & _POLLIN:
                if self._after is not None:
                    self._after(events)
                return
            try:
                self._read(self.socket)
            except zmq.Again:
                return
            except Exception as exc:
                # A mistake of ours. It must not end the reading: the descriptor will not announce again what has come.
                self._loop.call_exception_handler({"message": "a frame could not be handled", "exception": exc})
        if not self._closed:
            self._turn_soon()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._descriptor)
            self.socket.close()


def _set_common_options(sock: _Socket) -> None:
    sock.setsockopt(zmq.LINGER, CLOSE_LINGER_MS)
    sock.setsockopt(zmq.IPV6, 1)
    sock.setsockopt(zmq.MAXMSGSIZE, FRAME_MAX_BYTES)
    sock.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_TIMEOUT_MS)
    # Not ZMTP's heartbeats: where nothing is read for a while (the queue is full) and the connection is reset then,
    # their timer ends the whole process (libzmq issue 4364: "Assertion failed: !_io_error").
    sock.setsockopt(zmq.HEARTBEAT_IVL, 0)
    sock.setsockopt(zmq.TCP_KEEPALIVE, 1)
    sock.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
    sock.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
    sock.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_PROBES)
    sock.setsockopt(zmq.TCP_MAXRT, UNACKNOWLEDGED_MAX_MS)
    sock.setsockopt(zmq.SNDHWM, QUEUE_MAX_FRAMES)
    sock.setsockopt(zmq.RCVHWM, QUEUE_MAX_FRAMES)


def _monitor(sock: _Socket, context: _Context, events: int) -> _Socket:
    """Where the events of a socket can be read.

    ZeroMQ's only I/O thread writes them there and waits while it cannot: nothing of the bus moves until it can. So the
    queue has no limit, and `disable_monitor` must be called before this end is closed: a socket that lingers has events
    to tell, and nobody would ever read them.
    """
    endpoint = f"inproc://litecast-monitor-{next(_monitor_numbers)}"
    sock.monitor(endpoint, events)
    monitor = context.socket(zmq.PAIR)
    try:
        monitor.setsockopt(zmq.LINGER, 0)
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.connect(endpoint)
    except zmq.ZMQError:
        sock.disable_monitor()
        monitor.close()
        raise
    return monitor


def _bindable(address: Address) -> str:
    """ZeroMQ binds to numbers and interface names only; host names (localhost, fly-local-6pn) are looked up here."""
    if address.host in ("*", "::"):
        return f"tcp://*:{address.port}"
    with contextlib.suppress(OSError):
        family, _, _, _, resolved = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        del family
        return str(Address(str(resolved[0]), address.port))
    return str(address)


def _plain_host(host: str) -> str:
    """An IPv4 peer of an IPv6 socket shows as ::ffff:1.2.3.4."""
    return host.removeprefix("::ffff:")


def _why_not_bound(bind: Address, exc: zmq.ZMQError) -> str:
    if exc.errno == errno.EADDRINUSE:
        return f"the bus cannot listen at {bind}: the port is in use by another program; stop it or change bus.bind"
    if exc.errno in (errno.EADDRNOTAVAIL, errno.ENODEV):
        return f"the bus cannot listen at {bind}: this machine has no such address; change bus.bind"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"the bus cannot listen at {bind}: not permitted (ports below 1024 need root); change bus.bind"
    return f"the bus cannot listen at {bind}: {exc.strerror}; change bus.bind"
