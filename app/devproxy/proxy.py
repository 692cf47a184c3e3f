"""Passes requests to nodes and their responses back, as they come: nothing is collected, in either direction.

A request is tried at another node only where the first one surely never saw it, that is, where no connection came
about, or where a node asks for it by `fly-replay`. After that the outcome is unknown, and a view that may have been
counted must not be counted again. So the answers keep the nodes' promise: 503 says that nothing was done, 502 and 504
that nobody knows.

Bodies up to a megabyte are the exception: they are read before they are passed on, as a replay needs them again.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.devproxy.headers import for_client, for_node, has_body
from app.devproxy.pool import Backend, Pool
from app.devproxy.replaying import (
    BODY_MAX_BYTES,
    REPLAY,
    REPLAY_FAILED,
    REPLAY_SRC,
    REPLAYS_MAX,
    BadReplay,
    failed,
    parse_replay,
    source,
)
from app.devproxy.wishes import Latencies, Wish, wish_of
from app.web.answers import error
from cluster.address import Address

CONNECT_TIMEOUT_S = 1.0
# From the first byte of the request to the head of the response.
ANSWER_TIMEOUT_S = 30.0
# Between two pieces of a response. Live streams send something every few seconds.
SILENCE_TIMEOUT_S = 60.0
EVENT_STREAM = "text/event-stream"
UNKNOWN = "whether it did what was asked is unknown"

NO_LATENCIES = Latencies()

_END: Message = {"type": "http.response.body", "body": b"", "more_body": False}

log = logging.getLogger(__name__)


def make_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """The client that the entry speaks to nodes with. To be closed by the caller.

    Each request gets a connection of its own. On a kept one, a node that just closed it looks like a node that may have
    seen the request, and what could safely go to another node would be answered 502.
    """
    return httpx.AsyncClient(
        # A proxy of the environment's is for the web, not for nodes.
        trust_env=False,
        transport=transport,
        timeout=httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
    )


class DevProxy:
    """An ASGI application, and its end (`stop`)."""

    def __init__(
        self,
        pool: Pool,
        client: httpx.AsyncClient,
        *,
        region: str = "",
        latencies: Latencies = NO_LATENCIES,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        """`region` is where clients are that do not say it themselves. Between regions there are `latencies`."""
        self._pool = pool
        self._client = client
        self._region = region
        self._latencies = latencies
        self._answer_timeout_s = answer_timeout_s
        self._stopping = asyncio.Event()

    @property
    def asgi(self) -> ASGIApp:
        """What the server runs: itself."""
        return self

    def stop(self) -> None:
        """End the endless responses. Returns at once; responses that have an end may still reach it."""
        self._stopping.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request: with a node's response, or with 502, 503 or 504 and the reason as JSON."""
        request = Request(scope, receive)
        try:
            backend, upstream = await self._ask(request)
        except _NotAnswered as refusal:
            headers = {"retry-after": "1"} if refusal.status == 503 else {}
            await error(refusal.status, str(refusal), headers)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        try:
            await self._relay(backend, upstream, receive, send)
        finally:
            await upstream.aclose()

    async def _ask(self, request: Request) -> tuple[Backend, httpx.Response]:
        """The head of the response that is for the client. Raises _NotAnswered."""
        wish = wish_of(request.headers, region=self._region)
        body = await _Body.of(request)
        backend, answer = await self._ask_one(request, body, wish, wish.fits, wish.distance(self._latencies))
        for _ in range(REPLAYS_MAX):
            value = answer.headers.get(REPLAY)
            if value is None:
                return backend, answer
            await answer.aclose()
            if not body.is_kept:
                raise _NotAnswered(413, f"node {backend.label} asks for a replay, and the body is too large for one")
            backend, answer = await self._replay(request, body, wish, backend, value)
        await answer.aclose()
        raise _NotAnswered(503, f"the request was replayed {REPLAYS_MAX} times, and goes round: nothing was done")

    async def _replay(
        self, request: Request, body: "_Body", wish: Wish, asker: Backend, value: str
    ) -> tuple[Backend, httpx.Response]:
        try:
            replay = parse_replay(value)
        except BadReplay as error:
            log.warning("node %s: %s", asker.label, error)
            raise _NotAnswered(503, f"node {asker.label}: {error}; nothing was done") from None
        near = wish.distance(self._latencies)
        marks = [(REPLAY_SRC, source(asker, replay, at_us=time.time_ns() // 1000))]
        try:
            return await self._ask_one(
                request,
                body,
                wish,
                replay.fits(asker),
                lambda one: (replay.prefer_instance is not None and one.name != replay.prefer_instance, near(one)),
                marks=marks,
            )
        except _NotAnswered as refusal:
            if replay.fallback is None or refusal.status != 503:
                raise
            marks = [(REPLAY_FAILED, failed(replay, reason="no_instance"))]
        is_forced = replay.fallback == "force_self"
        backend, answer = await self._ask_one(
            request,
            body,
            wish,
            lambda one: not is_forced or one.address == asker.address,
            lambda one: (one.address != asker.address, near(one)),
            marks=marks,
        )
        if REPLAY in answer.headers:
            await answer.aclose()
            raise _NotAnswered(503, f"node {backend.label} asks for a replay again after one failed: nothing was done")
        return backend, answer

    async def _ask_one(
        self,
        request: Request,
        body: "_Body",
        wish: Wish,
        fits: Callable[[Backend], bool],
        distance: Callable[[Backend], Any],
        marks: Sequence[tuple[bytes, bytes]] = (),
    ) -> tuple[Backend, httpx.Response]:
        """The head of the response of the first node that takes the request. Raises _NotAnswered."""
        tried: set[Address] = set()
        while (backend := self._pool.choose(without=tried, fits=fits, distance=distance)) is not None:
            tried.add(backend.address)
            one_way_s = self._latencies.round_trip_s(wish.region, backend.region) / 2
            try:
                async with asyncio.timeout(self._answer_timeout_s):
                    await asyncio.sleep(one_way_s)
                    answer = await self._client.send(_translated(request, backend, body, marks), stream=True)
                    await asyncio.sleep(one_way_s)
                    return backend, answer
            except (httpx.ConnectError, httpx.ConnectTimeout) as failure:
                self._pool.is_not_ready(backend.address)
                log.info("node %s cannot be reached (%s): left out until it can", backend.label, _reason(failure))
            except TimeoutError:
                raise _NotAnswered(504, f"node {backend.label} did not answer in time; {UNKNOWN}") from None
            except httpx.TransportError as failure:
                why = _reason(failure)
                raise _NotAnswered(502, f"node {backend.label} did not answer ({why}); {UNKNOWN}") from None
        if tried:
            raise _NotAnswered(503, "no node can be reached; nothing was done")
        raise _NotAnswered(503, "no node is ready; nothing was done")

    async def _relay(self, backend: Backend, upstream: httpx.Response, receive: Receive, send: Send) -> None:
        """Sends the response as it comes, until it ends, the client leaves, or the entry stops."""
        headers = for_client(upstream.headers.raw, served_by=backend.label)
        await send({"type": "http.response.start", "status": upstream.status_code, "headers": headers})
        body = asyncio.create_task(_pass_body(upstream, send))
        others: list[asyncio.Task[object]] = [asyncio.create_task(_left(receive))]
        if upstream.headers.get("content-type", "").startswith(EVENT_STREAM):
            others.append(asyncio.create_task(self._stopping.wait()))
        try:
            await asyncio.wait({body, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (body, *others):
                task.cancel()
            await asyncio.gather(body, *others, return_exceptions=True)
        if body.cancelled():
            if self._stopping.is_set():
                await send(_END)
        elif isinstance(failure := body.exception(), httpx.TransportError):
            # The head is out, so the client learns of it by a connection that ends too early: nothing completes it.
            log.warning("the response of node %s broke off: %s", backend.label, _reason(failure))
        elif failure is not None:
            raise failure
        else:
            await send(_END)


class _NotAnswered(Exception):
    """No node's answer can be passed on; the client gets this status and text instead."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _Body:
    """A request's body. `is_kept`: it was read, and can be passed on again."""

    def __init__(self, request: Request, content: bytes | None, *, is_kept: bool) -> None:
        self.is_kept = is_kept
        self._request = request
        self._content = content

    @classmethod
    async def of(cls, request: Request) -> "_Body":
        """Reads it, if it says that it is small enough. Raises ClientDisconnect."""
        if not has_body(request.scope["headers"]):
            return cls(request, None, is_kept=True)
        size = request.headers.get("content-length", "")
        if size.isdecimal() and int(size) <= BODY_MAX_BYTES:
            return cls(request, await request.body(), is_kept=True)
        return cls(request, None, is_kept=False)

    def content(self) -> bytes | AsyncIterator[bytes] | None:
        """To be passed on."""
        return self._content if self.is_kept else self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        async with contextlib.aclosing(self._request.stream()) as pieces:
            async for piece in pieces:
                if piece:  # an empty one would end a chunked body
                    yield piece


def _translated(request: Request, backend: Backend, body: _Body, marks: Sequence[tuple[bytes, bytes]]) -> httpx.Request:
    """The request as the node gets it. Its target goes through byte by byte: to decode it is the node's business."""
    target: bytes = request.scope["raw_path"]
    if query := request.scope["query_string"]:
        target += b"?" + query
    client = request.client.host if request.client else ""
    passed = for_node(request.scope["headers"], client=client, scheme=request.scope["scheme"])
    own = (REPLAY_SRC, REPLAY_FAILED)  # a client's own would have nodes believe what no proxy says
    return httpx.Request(
        request.method,
        backend.url,
        headers=[*(item for item in passed if item[0] not in own), *marks],
        content=body.content(),
        extensions={"target": target},
    )


async def _pass_body(upstream: httpx.Response, send: Send) -> None:
    async for piece in upstream.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _left(receive: Receive) -> object:
    while (await receive())["type"] != "http.disconnect":
        pass
    return None


def _reason(failure: Exception) -> str:
    return " ".join(str(failure).split()) or type(failure).__name__
