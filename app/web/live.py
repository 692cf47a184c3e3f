"""The live page's stream: the cluster's state as server-sent events.

One loop asks the cluster while anybody watches, and ends when the last one leaves. A state is encoded once, however
many watch. Each stream takes the newest state there is when it can send again: a slow client sees fewer states, and
nothing piles up for it here. A response that never ends would keep the server from stopping, so every stream watches
the same stop signal.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.web.answers import error

log = logging.getLogger(__name__)

RECONNECT_MS = 1000
HEARTBEAT = b": still here\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimits:
    """How often, how many, how long."""

    interval_s: float = 0.5
    streams_max: int = 64
    heartbeat_s: float = 10.0  # proxies commonly close what has been silent for a minute
    send_deadline_s: float = 20.0  # a client that takes nothing for so long is as good as gone


class LiveFeed:
    """The newest state of the cluster for all who watch, asked for while somebody does."""

    def __init__(self, state: Callable[[], Awaitable[object]], limits: LiveLimits | None = None) -> None:
        self._state = state
        self.limits = limits or LiveLimits()
        self._event = b""
        self._number = 0
        self._changed = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self.streams = 0
        self.stopping = False

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Hold a place among the streams; the loop runs while any is held."""
        self.streams += 1
        if self._loop is None:
            self._loop = asyncio.create_task(self._run(), name="live feed")
        try:
            yield
        finally:
            self.streams -= 1
            if self.streams == 0:
                self._loop.cancel()
                self._loop = None
                self._event = b""  # the next watcher must not begin with a state of long ago

    async def newer_than(self, number: int) -> tuple[int, bytes]:
        """The newest state's number and event, once there is one after `number`; with no event if the feed stops."""
        while not self.stopping and (self._number <= number or not self._event):
            await self._changed.wait()
        return self._number, b"" if self.stopping else self._event

    def stop(self) -> None:
        """End every stream. New ones are refused."""
        self.stopping = True
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                state = await self._state()
            except Exception as exc:
                # This node's own database cannot be read. The streams stay open (heartbeats go on) and show it as old.
                log.warning("the live page gets no state: %s: %s", type(exc).__name__, exc)
            else:
                self._number += 1
                self._event = encode_event(state)
                self._tell()
            await asyncio.sleep(max(self.limits.interval_s / 5, self.limits.interval_s - (loop.time() - began)))


def encode_event(state: object) -> bytes:
    """`state` as one server-sent event. JSON of one line, so that nothing in it can end the event early."""
    return b"event: state\ndata: " + json.dumps(state, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class LiveStream(Response):
    """One endless response to one browser; 503 if there are too many, or the server is stopping."""

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        super().__init__(
            headers={
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-store, no-transform",
                "x-accel-buffering": "no",
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        feed = self._feed
        if feed.stopping:
            await error(503, "this node is stopping")(scope, receive, send)
            return
        if feed.streams >= feed.limits.streams_max:
            message = f"this node already serves {feed.limits.streams_max} live streams; close one, or ask another node"
            await error(503, message, {"retry-after": "5"})(scope, receive, send)
            return
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        start = {"type": "http.response.start", "status": 200, "headers": headers}
        if scope["method"] == "HEAD":
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        async with feed.watching():
            await send(start)
            pump = asyncio.create_task(self._pump(send), name="live stream")
            gone = asyncio.create_task(_disconnected(receive), name="live stream's client")
            try:
                await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                pump.cancel()
                gone.cancel()
                await asyncio.gather(pump, gone, return_exceptions=True)

    async def _pump(self, send: Send) -> None:
        feed = self._feed

        async def body(chunk: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(feed.limits.send_deadline_s):
                await send({"type": "http.response.body", "body": chunk, "more_body": more})

        await body(b"retry: %d\n\n" % RECONNECT_MS)
        number = 0
        while True:
            try:
                async with asyncio.timeout(feed.limits.heartbeat_s):
                    number, event = await feed.newer_than(number)
            except TimeoutError:
                await body(HEARTBEAT)
                continue
            if not event:
                break
            await body(event)
        await body(b"", more=False)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
