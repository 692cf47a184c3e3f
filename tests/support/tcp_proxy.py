"""A TCP proxy of the tests: the network between two nodes, which a test can cut, hold, slow down and heal."""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from enum import Enum

_LATE_S = 0.01
_CHUNK_BYTES = 16 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close sends RST


class Way(Enum):
    """What the proxy does with bytes."""

    PASS = "pass"
    HOLD = "hold"  # connections stand, bytes stay where they are
    CUT = "cut"  # connections are reset, and so is every new one


class TcpProxy:
    """Forwards one port of its own to `target`. Used inside one event loop; `close` ends everything."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.delay_s = 0.0
        self.accepted = 0  # connections so far
        self._way = Way.PASS
        self._open = asyncio.Event()
        self._open.set()
        self._budget_bytes: int | None = None  # forwarded towards the target before the link is cut by itself
        self._to_corrupt = 0  # chunks
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._start = asyncio.get_running_loop().create_task(self._listen())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, sock=self._listening)

    def cut(self) -> None:
        """Reset what is connected, and whoever connects, until `heal`."""
        self._way = Way.CUT
        self._budget_bytes = None
        for writer in list(self._writers):
            _reset(writer)
        self._open.set()

    def cut_after(self, size_bytes: int) -> None:
        """Let so many bytes through to the target, then cut: somewhere in the middle of a stream."""
        self._budget_bytes = size_bytes

    def corrupt(self, chunks: int) -> None:
        """Flip a bit in each of so many of the chunks that come next, in either direction."""
        self._to_corrupt = chunks

    @property
    def corrupted_all(self) -> bool:
        """True once that has been done."""
        return self._to_corrupt == 0

    def hold(self) -> None:
        """A black hole: nobody is told anything, and nothing arrives until `heal`."""
        self._way = Way.HOLD
        self._open.clear()

    def heal(self) -> None:
        """Forward again, beginning with what was held, and without a limit."""
        self._way = Way.PASS
        self._budget_bytes = None
        self._open.set()

    async def close(self) -> None:
        """End it."""
        self.cut()
        await self._start
        assert self._server is not None
        # In this order: a server that is closed forgets a connection that it has accepted and not taken in, unclosed.
        asyncio.get_running_loop().remove_reader(self._listening)
        await asyncio.sleep(_LATE_S)  # a connection that is being accepted begins, and ends itself
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        await asyncio.sleep(0)  # what was aborted is closed

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.accepted += 1
        self._connections.add(task)
        self._writers.add(writer)
        try:
            await self._connect(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the other end went away, or the test is over
        finally:
            self._connections.discard(task)
            self._writers.discard(writer)
            _reset(writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut():
            return
        await self._open.wait()
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        self._writers.add(there_writer)
        try:
            if self._is_cut():
                return
            pumps = [
                asyncio.ensure_future(self._pump(reader, there_writer, counted=True)),
                asyncio.ensure_future(self._pump(there_reader, writer, counted=False)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._writers.discard(there_writer)
            _reset(there_writer)

    def _is_cut(self) -> bool:
        return self._way is Way.CUT

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        while data := await reader.read(_CHUNK_BYTES):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._open.wait()
            if self._to_corrupt:
                self._to_corrupt -= 1
                data = _with_a_flipped_bit(data)
            if counted and self._budget_bytes is not None:
                data = data[: self._budget_bytes]
                self._budget_bytes -= len(data)
            writer.write(data)
            await writer.drain()
            if counted and self._budget_bytes == 0:
                await asyncio.sleep(0.01)  # lets the bytes go before the reset overtakes them
                if self._budget_bytes == 0:  # not healed meanwhile
                    self.cut()
                return


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.transport.is_closing():
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


def _with_a_flipped_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]


class ProxyThread:
    """Proxies that run in a thread of their own, for tests that wait for processes. Used as a context."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._proxies: list[TcpProxy] = []

    def __enter__(self) -> "ProxyThread":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self._proxies:
            asyncio.run_coroutine_threadsafe(proxy.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def proxy(self, port: int) -> TcpProxy:
        """A proxy before a port of this machine."""

        async def made() -> TcpProxy:
            return TcpProxy(("127.0.0.1", port))

        proxy = asyncio.run_coroutine_threadsafe(made(), self._loop).result(10)
        self._proxies.append(proxy)
        return proxy

    def do(self, step: Callable[[], object]) -> None:
        """Has the thread do something to a proxy, and waits until it is done."""

        async def done() -> None:
            step()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(10)
