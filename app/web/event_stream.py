"""Server-sent events: one response that does not end by itself, to one client.

A response that never ends would keep the server from stopping, so each one ends when `stopping` is set. A client that
takes nothing for `send_deadline_s` is as good as gone, and is cut off: until then the server's own buffer for it is all
that it takes up here."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

RECONNECT_MS: Final = 1000
KEEP_ALIVE: Final = b": still here\n\n"
KEEP_ALIVE_S: Final = 10.0
"""Proxies commonly close what has been silent for a minute."""
SEND_DEADLINE_S: Final = 20.0
STREAM_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
}

type SendBytes = Callable[[bytes], Awaitable[None]]


class EventStream(Response):
    """`write` is given a function that sends bytes, and sends until it returns; what it raises cuts the connection."""

    def __init__(
        self,
        write: Callable[[SendBytes], Awaitable[None]],
        *,
        stopping: asyncio.Event,
        send_deadline_s: float = SEND_DEADLINE_S,
    ) -> None:
        self._write = write
        self._stopping = stopping
        self._send_deadline_s = send_deadline_s
        super().__init__(headers=STREAM_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return

        async def body(chunk: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(self._send_deadline_s):
                await send({"type": "http.response.body", "body": chunk, "more_body": more})

        async def all_of_it() -> None:
            await body(b"retry: %d\n\n" % RECONNECT_MS)
            await self._write(body)

        writing = asyncio.create_task(all_of_it(), name="event stream")
        others = [
            asyncio.create_task(_disconnected(receive), name="event stream's client"),
            asyncio.create_task(_set(self._stopping), name="event stream's end"),
        ]
        try:
            await asyncio.wait({writing, *others}, return_when=asyncio.FIRST_COMPLETED)
            is_whole = self._stopping.is_set() or (writing.done() and writing.exception() is None)
        finally:
            for task in (writing, *others):
                task.cancel()
            await asyncio.gather(writing, *others, return_exceptions=True)
        if is_whole:
            await body(b"", more=False)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _set(event: asyncio.Event) -> None:
    await event.wait()
