"""The middleware for ASGI: Starlette, FastAPI, Django, and every other framework that speaks it."""

import asyncio
import contextlib
import http
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, assert_never

import httpx

from replication.middleware import forwarding
from replication.middleware.desk import Case, Desk, IsWrite, is_unsafe
from replication.middleware.forwarding import BUFFERED_MAX_BYTES, RETRY_S, NoAnswer, NotTaken, Own
from replication.middleware.received import FORWARDED, POSITION, PREFER_REGION, REPLAYED, Received
from replication.middleware.routing import POSITION_POLL_S, AnswerHere, Forward, Refuse, Replay, Wait

type Scope = MutableMapping[str, Any]
type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOOKED_AT = frozenset(
    name.encode()
    for name in (POSITION, PREFER_REGION, FORWARDED, *REPLAYED, "cookie", "content-length", "transfer-encoding")
)


class PrimaryAsgi:
    """Wraps an ASGI application that runs beside a node in mode primary, in this process of its own.

        app = PrimaryAsgi(app)                              # Starlette, FastAPI
        app.add_middleware(PrimaryAsgi)                     # the same
        application = PrimaryAsgi(get_asgi_application())   # Django

    What may write is answered on the primary, and by this node once its own file has it; reads are answered here. See
    docs/primary-http.md. WebSockets are the application's.

    `is_write` says of a method and a path whether they may write, without it those methods do that are not safe. With
    `forwards=False` no request goes elsewhere, for a program that writes with PrimaryStatements: clients get positions,
    and reads wait for theirs. Raises NoDatabase if neither `database` nor `DATABASE_PATH` says where the file is."""

    def __init__(
        self,
        app: AsgiApp,
        *,
        database: Path | str | None = None,
        is_write: IsWrite = is_unsafe,
        forwards: bool = True,
    ) -> None:
        self._app = app
        self._desk = Desk(database, is_write, forwards=forwards)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        case = self._desk.case(_received(scope))
        if case is None:
            return await self._app(scope, receive, send)
        return await self._answered(case, scope, _Body(receive, case.received.body_bytes), send)

    async def _answered(self, case: Case, scope: Scope, body: "_Body", send: Send) -> None:
        began_s = time.monotonic()
        while True:
            step = self._desk.step(case, waited_s=time.monotonic() - began_s)
            match step:
                case Wait():
                    await asyncio.sleep(step.seconds)
                case AnswerHere():
                    return await self._here(step, case, scope, body.receive, send)
                case Replay():
                    return await _own(forwarding.replayed(step), send)
                case Refuse():
                    if step.to_forwarder:
                        await body.discard()
                    return await _own(forwarding.refused(step), send)
                case Forward():
                    try:
                        return await self._elsewhere(step, case, scope, body, send)
                    except ClientGone:
                        return None
                    except NoAnswer as error:
                        return await _own(forwarding.own_answer(error.status, str(error)), send)
                    except NotTaken as error:
                        if body.is_gone:
                            return await _own(forwarding.refused(Refuse(str(error))), send)
                        case = case.staying()
                        if case.asked.writes:
                            await asyncio.sleep(RETRY_S)
                case _:
                    assert_never(step)

    async def _here(self, step: AnswerHere, case: Case, scope: Scope, receive: Receive, send: Send) -> None:
        if case.forwarded is not None:
            port = (scope.get("client") or ("", 0))[1]
            scope = {**scope, "client": (case.forwarded.client, port), "scheme": case.forwarded.scheme}
        if not step.with_position:
            return await self._app(scope, receive, send)
        is_void = False

        async def sending(message: Message) -> None:
            nonlocal is_void
            if message["type"] == "http.response.start":
                if step.is_write and not self._desk.may_still_write():
                    is_void = True
                    await _own(forwarding.not_acknowledged(), send)
                    return
                more = [(name.encode(), value.encode()) for name, value in self._desk.position_headers(case)]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            if not is_void:
                await send(message)

        return await self._app(scope, receive, sending)

    async def _elsewhere(self, to: Forward, case: Case, scope: Scope, body: "_Body", send: Send) -> None:
        """Raises NotTaken and NoAnswer, with nothing sent."""
        request = forwarding.request(
            to, case.received, scope["headers"], await body.content(), forwarded=self._desk.forwarded(case.received)
        )
        async with forwarding.async_client() as client:
            try:
                answer = await client.send(request, stream=True)
            except httpx.TransportError as error:
                raise forwarding.failure(to, error) from None
            try:
                if forwarding.is_refusal(answer.status_code, [name.lower() for name, _ in answer.headers.raw]):
                    raise NotTaken(f"node {to.node} is not the primary any more")
                status = answer.status_code
                if (
                    case.asked.writes
                    and not await self._is_visible(answer.headers.get(POSITION, ""))
                    and answer.is_success
                ):
                    status = http.HTTPStatus.ACCEPTED.value
                headers = forwarding.answer_headers(answer.headers.raw)
                await send({"type": "http.response.start", "status": status, "headers": headers})
                async for piece in answer.aiter_raw():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                await answer.aclose()

    async def _is_visible(self, text: str) -> bool:
        """Whether what the answer with this token is of can be read here, after a while perhaps. Raises NoAnswer if it
        was lost with the primary that wrote it."""
        position = self._desk.position_of(text)
        if position is None:
            return False
        deadline_s = time.monotonic() + self._desk.visible_s()
        while not (is_written := self._desk.has_written(position)):
            if is_written is None:
                raise forwarding.lost()
            if time.monotonic() >= deadline_s:
                return False
            await asyncio.sleep(POSITION_POLL_S)
        return True


class ClientGone(Exception):
    """The client went away before its request was whole."""


class _Body:
    """A request's body: kept if it is small, so that it can be sent again, else passed on once."""

    def __init__(self, receive: Receive, size: int | None) -> None:
        self.is_gone = False
        """Whether it was passed on and cannot be had again."""
        self._receive = receive
        self._size = size
        self._kept: bytes | None = None
        self._was_given = False

    async def content(self) -> bytes | AsyncIterator[bytes] | None:
        """To be sent. Raises ClientGone."""
        if self._size == 0:
            return None
        if self._size is None or self._size > BUFFERED_MAX_BYTES:
            return self._once()
        if self._kept is None:
            self._kept = b"".join([piece async for piece in self._pieces()])
        return self._kept

    async def receive(self) -> Message:
        """For an application that reads as if nobody had."""
        if self._kept is None or self._was_given:
            return await self._receive()
        self._was_given = True
        return {"type": "http.request", "body": self._kept, "more_body": False}

    async def discard(self) -> None:
        """Reads it to its end: a connection that is closed before may lose the answer on its way to the forwarder."""
        with contextlib.suppress(ClientGone):
            async for _ in self._pieces():
                pass

    async def _once(self) -> AsyncIterator[bytes]:
        self.is_gone = True
        async for piece in self._pieces():
            yield piece

    async def _pieces(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            if piece := message.get("body", b""):  # an empty one would end a chunked body
                yield piece
            if not message.get("more_body", False):
                return


def _received(scope: Scope) -> Received:
    found: dict[bytes, bytes] = {name: value for name, value in scope["headers"] if name in _LOOKED_AT}

    def header(name: str) -> str:
        return found.get(name.encode(), b"").decode("latin-1")

    query = scope["query_string"].decode("latin-1")
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    size = header("content-length")
    return Received(
        method=scope["method"],
        path=scope["path"],
        target=f"{path}?{query}" if query else path,
        query=query,
        scheme=scope.get("scheme", "http"),
        client=(scope.get("client") or ("", 0))[0],
        position=header(POSITION),
        cookie=header("cookie"),
        prefer_region=header(PREFER_REGION),
        forwarded=header(FORWARDED),
        was_replayed=any(name.encode() in found for name in REPLAYED),
        body_bytes=int(size) if size.isdecimal() else None if header("transfer-encoding") else 0,
    )


async def _own(answer: Own, send: Send) -> None:
    status, headers, body = answer
    raw = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})
