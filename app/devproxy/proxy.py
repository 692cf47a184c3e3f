"""Passes requests to nodes and their responses back, as they come: nothing is collected, in either direction.

A request is tried at another node only where the first one surely never saw it, that is, where no connection came
about. After that the outcome is unknown, and a view that may have been counted must not be counted again. So the
answers keep the nodes' promise: 503 says that nothing was done, 502 and 504 that nobody knows.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.devproxy.headers import for_client, for_node, has_body
from app.devproxy.pool import Backend, Pool
from app.web.answers import error
from cluster.address import Address

CONNECT_TIMEOUT_S = 1.0
# From the first byte of the request to the head of the response.
ANSWER_TIMEOUT_S = 30.0
# Between two pieces of a response. Live streams send something every few seconds.
SILENCE_TIMEOUT_S = 60.0
EVENT_STREAM = "text/event-stream"
UNKNOWN = "whether it did what was asked is unknown"

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

    def __init__(self, pool: Pool, client: httpx.AsyncClient, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._pool = pool
        self._client = client
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
        """The head of the response of the first node that takes the request. Raises _NotAnswered."""
        tried: set[Address] = set()
        while (backend := self._pool.choose(without=tried)) is not None:
            tried.add(backend.address)
            try:
                async with asyncio.timeout(self._answer_timeout_s):
                    return backend, await self._client.send(_translated(request, backend), stream=True)
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


def _translated(request: Request, backend: Backend) -> httpx.Request:
    """The request as the node gets it. Its target goes through byte by byte: to decode it is the node's business."""
    target: bytes = request.scope["raw_path"]
    if query := request.scope["query_string"]:
        target += b"?" + query
    raw = request.scope["headers"]
    return httpx.Request(
        request.method,
        backend.url,
        headers=for_node(raw, client=request.client.host if request.client else "", scheme=request.scope["scheme"]),
        content=_body(request) if has_body(raw) else None,
        extensions={"target": target},
    )


async def _body(request: Request) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(request.stream()) as pieces:
        async for piece in pieces:
            if piece:  # an empty one would end a chunked body
                yield piece


async def _pass_body(upstream: httpx.Response, send: Send) -> None:
    async for piece in upstream.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})


async def _left(receive: Receive) -> object:
    while (await receive())["type"] != "http.disconnect":
        pass
    return None


def _reason(failure: Exception) -> str:
    return " ".join(str(failure).split()) or type(failure).__name__
