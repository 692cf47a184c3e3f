"""The live page's stream: the cluster's state as server-sent events.

One loop asks the cluster while anybody watches, and ends when the last one leaves. A state is encoded once, however
many watch. Each stream takes the newest state there is when it can send again: a slow client sees fewer states, and
nothing piles up for it here.

Where this node can tell that something changed, in mode convergent, it is asked then, and otherwise seldom, for what
changes unnoticed: who is up, and what peers have that has not come here. Elsewhere it is asked again and again.
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
from app.web.event_stream import KEEP_ALIVE, KEEP_ALIVE_S, SEND_DEADLINE_S, EventStream, SendBytes

log = logging.getLogger(__name__)

type NextChange = Callable[[], asyncio.Event]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLimits:
    """How often, how many, how long. `interval_s`: between two states, and `idle_s` while nothing changes here."""

    interval_s: float = 0.5
    idle_s: float = 2.0
    streams_max: int = 64
    heartbeat_s: float = KEEP_ALIVE_S
    send_deadline_s: float = SEND_DEADLINE_S


class LiveFeed:
    """The newest state of the cluster for all who watch, asked for while somebody does."""

    def __init__(
        self,
        state: Callable[[], Awaitable[object]],
        limits: LiveLimits | None = None,
        *,
        next_change: NextChange | None = None,
    ) -> None:
        """`next_change` gives an event that is set when something changes here from now on; None where none tells."""
        self._state = state
        self._next_change = next_change
        self.limits = limits or LiveLimits()
        self._event = b""
        self._number = 0
        self._changed = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self.streams = 0
        self.stopping = asyncio.Event()

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
        """The newest state's number and event, once there is one after `number`."""
        while self._number <= number or not self._event:
            await self._changed.wait()
        return self._number, self._event

    def stop(self) -> None:
        """End every stream. New ones are refused."""
        self.stopping.set()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            change = None if self._next_change is None else self._next_change()
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
            if change is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.limits.idle_s - self.limits.interval_s):
                        await change.wait()


def encode_event(state: object) -> bytes:
    """`state` as one server-sent event. JSON of one line, so that nothing in it can end the event early."""
    return b"event: state\ndata: " + json.dumps(state, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class LiveStream(Response):
    """One endless response to one browser; 503 if there are too many, or the server is stopping."""

    def __init__(self, feed: LiveFeed) -> None:
        self._feed = feed
        super().__init__()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        feed = self._feed
        if feed.stopping.is_set():
            await error(503, "this node is stopping")(scope, receive, send)
            return
        if feed.streams >= feed.limits.streams_max:
            message = f"this node already serves {feed.limits.streams_max} live streams; close one, or ask another node"
            await error(503, message, {"retry-after": "5"})(scope, receive, send)
            return
        stream = EventStream(self._write, stopping=feed.stopping, send_deadline_s=feed.limits.send_deadline_s)
        if scope["method"] == "HEAD":
            await stream(scope, receive, send)
            return
        async with feed.watching():
            await stream(scope, receive, send)

    async def _write(self, write: SendBytes) -> None:
        number = 0
        while True:
            try:
                async with asyncio.timeout(self._feed.limits.heartbeat_s):
                    number, event = await self._feed.newer_than(number)
            except TimeoutError:
                event = KEEP_ALIVE
            await write(event)
