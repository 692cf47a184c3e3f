"""The visitors' side of HTTP: connections that are open before they are needed, and a POST on one of them.

A general HTTP client takes longer to send a request than a node to answer it. Visitors behind it would come one after
the other however many there are, and views at the same moment are what the demo is about.
"""

import asyncio
import contextlib
import time
from collections import defaultdict

IDLE_MAX_S = 5.0  # a node closes what is idle for longer than it likes; ours must not be closed under a request
_HEAD_MAX_BYTES = 16 * 1024


class NotSent(Exception):
    """There was no connection, so that the request was never sent."""


class NoAnswer(Exception):
    """The request was sent, perhaps only in part, and no answer came."""


class Connections:
    """Open connections to several hosts, each used by one request at a time. Close it at the end."""

    def __init__(self) -> None:
        self._idle: defaultdict[tuple[str, int], list[_Connection]] = defaultdict(list)

    async def open(self, host: str, port: int, count: int) -> None:
        """Has `count` idle connections ready, as far as the host accepts them."""
        idle = self._idle[host, port]
        with contextlib.suppress(NotSent):
            while len(idle) < count:
                idle.append(await _connect(host, port))

    async def post(self, host: str, port: int, path: str, headers: str = "") -> int:
        """POST without a body; the status of the answer. `headers`: more of them, each with its end of line. Raises
        NotSent or NoAnswer. Wants a deadline around it."""
        connection = self._take(host, port) or await _connect(host, port)
        try:
            status = await connection.post(host, port, path, headers)
        except BaseException:
            connection.close()  # half an answer may still come, which is nobody's
            raise
        self._idle[host, port].append(connection)
        return status

    def close(self) -> None:
        """Closes all that are idle."""
        for connections in self._idle.values():
            while connections:
                connections.pop().close()

    def _take(self, host: str, port: int) -> "_Connection | None":
        idle = self._idle[host, port]
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return None


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._used_at_s = time.monotonic()

    @property
    def usable(self) -> bool:
        return not self._reader.at_eof() and time.monotonic() - self._used_at_s < IDLE_MAX_S

    async def post(self, host: str, port: int, path: str, headers: str) -> int:
        try:
            head = f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\n{headers}content-length: 0\r\n\r\n"
            self._writer.write(head.encode())
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = head.split("\r\n")
            status = int(lines[0].split(" ")[1])
            lengths = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length:")]
            await self._reader.readexactly(int(lengths[0]))
        except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as error:
            raise NoAnswer(str(error)) from error
        self._used_at_s = time.monotonic()
        return status

    def close(self) -> None:
        self._writer.close()


async def _connect(host: str, port: int) -> _Connection:
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=_HEAD_MAX_BYTES)
    except OSError as error:
        raise NotSent(str(error)) from error
    return _Connection(reader, writer)
