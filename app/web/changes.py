"""The change feed over HTTP: `GET /api/changes?table=T`, server-sent events for who has the admin token.

Each change is an event `change` whose id is the position after it, so that a client which connects again and says what
it got last (`Last-Event-ID`, as every client of such streams does) goes on there: each change comes once. Without it,
and without `?since=POSITION`, the stream begins with the rows that are there; with `?since=now`, it gives what changes
from now on. An event `position` has no change, and moves the position past changes of other tables.

What is wrong with the request is answered before the stream begins: 400, 401 or 403, 404 (the table is not attached),
409 (a mode without a feed), 410 (start over), 503 (try again). A stream that must start over ends with an event
`start-over`; who connects again then gets the 410. A client that does not read holds up nobody, and is cut off after a
while; it loses nothing, since it can go on where it was."""

import asyncio
import base64
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.web.admin import AdminGate
from app.web.answers import error
from app.web.event_stream import KEEP_ALIVE, KEEP_ALIVE_S, SEND_DEADLINE_S, EventStream, SendBytes
from replication.engine.values import Value
from replication.errors import NoChangeFeed, NotReplicated, PositionTimeout, ReplicationError, StartOver
from replication.feed.change import Change
from replication.feed.feed import ChangeFeed
from replication.feed.position import FeedPosition
from replication.positions import PositionError

log = logging.getLogger(__name__)

CHUNK_BYTES: Final = 64 * 1024
"""Changes that are there already share a write of about so much."""
BEGIN_DEADLINE_S: Final = 10.0
NOW: Final = "now"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeLimits:
    """How many, how long. Each stream holds one page of changes."""

    streams_max: int = 32
    keep_alive_s: float = KEEP_ALIVE_S
    send_deadline_s: float = SEND_DEADLINE_S


class Changes(Protocol):
    """What the application needs of `Repo`."""

    def changes(self, table: str, *, since: FeedPosition | None = None) -> ChangeFeed: ...

    async def feed_position(self) -> FeedPosition: ...


class ChangesApi:
    """The route."""

    def __init__(self, repo: Changes, gate: AdminGate, limits: ChangeLimits | None = None) -> None:
        self.streams = 0
        self._repo = repo
        self._gate = gate
        self._limits = limits or ChangeLimits()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends every stream. New ones are refused."""
        self._stopping.set()

    async def get(self, request: Request) -> Response:
        """`GET /api/changes`."""
        self._gate.check(request)
        table = request.query_params.get("table", "")
        if not table:
            raise HTTPException(400, "which table? /api/changes?table=NAME")
        if self._stopping.is_set():
            raise HTTPException(503, "this node is stopping")
        feed = await self._begun(table, request.headers.get("last-event-id") or request.query_params.get("since", ""))
        return _Stream(self, feed)

    async def _begun(self, table: str, since: str) -> ChangeFeed:
        """The feed, with its first page read. Raises HTTPException for what is wrong with the request."""
        try:
            async with asyncio.timeout(BEGIN_DEADLINE_S):
                feed = self._repo.changes(table, since=await self._position(since))
                await feed.begin()
        except PositionError as exc:
            raise HTTPException(400, f"{exc}; it is what the id of an event says, or {NOW}") from exc
        except NotReplicated as exc:
            raise HTTPException(404, str(exc)) from exc
        except NoChangeFeed as exc:
            raise HTTPException(409, str(exc)) from exc
        except StartOver as exc:
            raise HTTPException(410, str(exc)) from exc
        except TimeoutError as exc:
            raise HTTPException(503, "this node is catching up", {"retry-after": "1"}) from exc
        except PositionTimeout as exc:
            message = f"this node has not merged yet what you were told on another one: {exc}"
            raise HTTPException(503, message, {"retry-after": "1"}) from exc
        except ReplicationError as exc:
            raise HTTPException(503, "the database cannot be read now", {"retry-after": "1"}) from exc
        return feed

    async def _position(self, text: str) -> FeedPosition | None:
        if text == NOW:
            return await self._repo.feed_position()
        return FeedPosition.parse(text) if text else None

    async def serve(self, feed: ChangeFeed, scope: Scope, receive: Receive, send: Send) -> None:
        """One stream; 503 if there are too many."""
        if self.streams >= self._limits.streams_max:
            message = f"this node already serves {self._limits.streams_max} streams of changes; ask another node"
            await error(503, message, {"retry-after": "5"})(scope, receive, send)
            return
        self.streams += 1
        try:
            stream = EventStream(
                lambda write: self._write(feed, write),
                stopping=self._stopping,
                send_deadline_s=self._limits.send_deadline_s,
            )
            await stream(scope, receive, send)
        finally:
            self.streams -= 1

    async def _write(self, feed: ChangeFeed, write: SendBytes) -> None:
        sent = ""
        while True:
            try:
                async with asyncio.timeout(self._limits.keep_alive_s):
                    change = await anext(feed)
            except TimeoutError:
                position = str(feed.position)
                await write(KEEP_ALIVE if position == sent else position_event(position))
                sent = position
                continue
            except StopAsyncIteration:
                return
            except StartOver as exc:
                await write(_event("start-over", {"error": str(exc)}))
                return
            except ReplicationError as exc:
                log.warning("a stream of changes ends: %s", exc)
                return
            events = [change_event(change)]
            size = len(events[0])
            while feed.buffered and size < CHUNK_BYTES:
                events.append(change_event(await anext(feed)))
                size += len(events[-1])
            await write(b"".join(events))
            sent = str(feed.position)


class _Stream(Response):
    def __init__(self, api: ChangesApi, feed: ChangeFeed) -> None:
        self._api = api
        self._feed = feed
        super().__init__()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._api.serve(self._feed, scope, receive, send)


def change_event(change: Change) -> bytes:
    """A change as an event."""
    origin = change.origin
    return _event(
        "change",
        {
            "table": change.table,
            "op": change.op,
            "key": json_values(change.key),
            "columns": json_values(change.columns),
            "origin": None if origin is None else {"site": origin.site, "node": origin.node},
        },
        str(change.position),
    )


def position_event(position: str) -> bytes:
    """Nothing changed in the table up to there."""
    return _event("position", {}, position)


def _event(name: str, data: object, number: str | None = None) -> bytes:
    """JSON of one line and ASCII: nothing in it ends the event early, and text that is not UTF-8 travels escaped."""
    head = "" if number is None else f"id: {number}\n"
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return f"{head}event: {name}\ndata: {text}\n\n".encode()


def json_values(values: Mapping[str, Value]) -> dict[str, object]:
    """Values as JSON has them, and `{"base64": ...}` for a blob, `{"float": "inf"}` for what JSON cannot say."""
    return {name: _json_value(value) for name, value in values.items()}


def _json_value(value: Value) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and math.isinf(value):
        return {"float": "inf" if value > 0 else "-inf"}
    return value
