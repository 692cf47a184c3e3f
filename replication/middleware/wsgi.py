"""The middleware for WSGI: Flask, Django, and every other framework that speaks it."""

import http
import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, assert_never
from urllib.parse import quote

import httpx

from replication.middleware import forwarding
from replication.middleware.desk import Case, Desk, IsWrite, is_unsafe
from replication.middleware.forwarding import BUFFERED_MAX_BYTES, RETRY_S, NoAnswer, NotTaken, Own
from replication.middleware.received import POSITION, Received
from replication.middleware.routing import POSITION_POLL_S, AnswerHere, Forward, Refuse, Replay, Wait

type Environ = dict[str, Any]
type StartResponse = Callable[..., Callable[[bytes], object]]
type WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]

_PIECE_BYTES: Final = 65_536
_FORWARDED_HEADER: Final = "HTTP_LITECAST_FORWARDED"


class PrimaryWsgi:
    """Wraps a WSGI application that runs beside a node in mode primary, in this process of its own.

        app.wsgi_app = PrimaryWsgi(app.wsgi_app)            # Flask
        application = PrimaryWsgi(get_wsgi_application())   # Django

    What may write is answered on the primary, and by this node once its own file has it; reads are answered here. See
    docs/primary-http.md.

    `is_write` says of a method and a path whether they may write, without it those methods do that are not safe. With
    `forwards=False` no request goes elsewhere, for a program that writes with PrimaryStatements: clients get positions,
    and reads wait for theirs. Raises NoDatabase if neither `database` nor `DATABASE_PATH` says where the file is."""

    def __init__(
        self,
        app: WsgiApp,
        *,
        database: Path | str | None = None,
        is_write: IsWrite = is_unsafe,
        forwards: bool = True,
    ) -> None:
        self._app = app
        self._desk = Desk(database, is_write, forwards=forwards)
        self._lock = threading.Lock()
        self._client: tuple[int, httpx.Client] | None = None

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        case = self._desk.case(_received(environ))
        if case is None:
            return self._app(environ, start_response)
        return self._answered(case, environ, start_response)

    def _answered(self, case: Case, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        began_s = time.monotonic()
        body = _Body(environ, case.received.body_bytes)
        while True:
            step = self._desk.step(case, waited_s=time.monotonic() - began_s)
            match step:
                case Wait():
                    time.sleep(step.seconds)
                case AnswerHere():
                    return self._here(step, case, body.given_back(), start_response)
                case Replay():
                    return _own(forwarding.replayed(step), start_response)
                case Refuse():
                    if step.to_forwarder:
                        body.discard()
                    return _own(forwarding.refused(step), start_response)
                case Forward():
                    try:
                        return self._elsewhere(step, case, body, start_response)
                    except NoAnswer as error:
                        return _own(forwarding.own_answer(error.status, str(error)), start_response)
                    except NotTaken as error:
                        if body.is_gone:
                            return _own(forwarding.refused(Refuse(str(error))), start_response)
                        case = case.staying()
                        if case.asked.writes:
                            time.sleep(RETRY_S)
                case _:
                    assert_never(step)

    def _here(self, step: AnswerHere, case: Case, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if case.forwarded is not None:
            environ["REMOTE_ADDR"], environ["wsgi.url_scheme"] = case.forwarded.client, case.forwarded.scheme
        if not step.with_position:
            return self._app(environ, start_response)
        said = _Said()
        pieces = self._app(environ, said)
        if said.status is None:  # an application that begins when it is first asked for a piece
            pieces = _begun(pieces)
        if step.is_write and not self._desk.may_still_write():
            _close(pieces)
            return _own(forwarding.not_acknowledged(), start_response)
        assert said.status is not None, "the application has called start_response"
        headers = [*said.headers, *self._desk.position_headers(case)]
        write = start_response(said.status, headers, *said.more)
        for piece in said.written:
            write(piece)
        return pieces

    def _elsewhere(self, to: Forward, case: Case, body: "_Body", start_response: StartResponse) -> Iterable[bytes]:
        """Raises NotTaken and NoAnswer."""
        request = forwarding.request(
            to, case.received, _headers(body.environ), body.content(), forwarded=self._desk.forwarded(case.received)
        )
        try:
            answer = self._http().send(request, stream=True)
        except httpx.TransportError as error:
            raise forwarding.failure(to, error) from None
        if forwarding.is_refusal(answer.status_code, [name.lower() for name, _ in answer.headers.raw]):
            answer.close()
            raise NotTaken(f"node {to.node} is not the primary any more")
        status = answer.status_code
        try:
            is_visible = not case.asked.writes or self._is_visible(answer.headers.get(POSITION, ""))
        except NoAnswer:
            answer.close()
            raise
        if not is_visible and answer.is_success:
            status = http.HTTPStatus.ACCEPTED.value
        headers = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in forwarding.answer_headers(answer.headers.raw)
        ]
        start_response(_status_line(status, answer.reason_phrase), headers)
        return _Relayed(answer)

    def _is_visible(self, text: str) -> bool:
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
            time.sleep(POSITION_POLL_S)
        return True

    def _http(self) -> httpx.Client:
        """One for each process: a server may have forked after this was made."""
        with self._lock:
            if self._client is None or self._client[0] != os.getpid():
                self._client = (os.getpid(), forwarding.client())
            return self._client[1]


class _Said:
    """What an application said to `start_response`, to be said later."""

    def __init__(self) -> None:
        self.status: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.more: tuple[object, ...] = ()
        self.written: list[bytes] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], *more: object) -> Callable[[bytes], object]:
        self.status, self.headers, self.more = status, headers, more
        return self.written.append


class _Body:
    """A request's body: kept if it is small, so that it can be sent again, else passed on once."""

    def __init__(self, environ: Environ, size: int | None) -> None:
        self.environ = environ
        self.is_gone = False
        """Whether it was passed on and cannot be had again."""
        self._size = size
        self._kept: bytes | None = None

    def content(self) -> bytes | Iterator[bytes] | None:
        """To be sent."""
        if self._size == 0:
            return None
        if self._size is None or self._size > BUFFERED_MAX_BYTES:
            return self._once(self._size)
        if self._kept is None:
            self._kept = self.environ["wsgi.input"].read(self._size)
        return self._kept

    def given_back(self) -> Environ:
        """The environment of a request that can be read as if nobody had."""
        if self._kept is not None:
            self.environ["wsgi.input"] = io.BytesIO(self._kept)
        return self.environ

    def discard(self) -> None:
        """Reads it to its end: a connection that is closed before may lose the answer on its way to the forwarder."""
        if self._size != 0:
            for _ in self._once(self._size):
                pass

    def _once(self, size: int | None) -> Iterator[bytes]:
        left, stream = size, self.environ["wsgi.input"]
        self.is_gone = True
        while left is None or left > 0:
            piece = stream.read(_PIECE_BYTES if left is None else min(_PIECE_BYTES, left))
            if not piece:
                return
            left = None if left is None else left - len(piece)
            yield piece


class _Relayed:
    """The body of another program's answer, as it comes."""

    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_raw()

    def close(self) -> None:
        """The server is done with it."""
        self._answer.close()


def _received(environ: Environ) -> Received:
    get = environ.get
    query = get("QUERY_STRING", "")
    size: str = get("CONTENT_LENGTH", "")
    is_chunked = bool(get("HTTP_TRANSFER_ENCODING"))
    return Received(
        method=environ["REQUEST_METHOD"],
        path=get("PATH_INFO", ""),
        target=get("RAW_URI") or get("REQUEST_URI") or _target(environ, query),
        query=query,
        scheme=environ["wsgi.url_scheme"],
        client=get("REMOTE_ADDR", ""),
        position=get("HTTP_LITECAST_POSITION", ""),
        cookie=get("HTTP_COOKIE", ""),
        prefer_region=get("HTTP_FLY_PREFER_REGION", ""),
        forwarded=get(_FORWARDED_HEADER, ""),
        was_replayed="HTTP_FLY_REPLAY_SRC" in environ or "HTTP_FLY_REPLAY_FAILED" in environ,
        body_bytes=int(size) if size.isdecimal() else None if is_chunked else 0,
    )


def _target(environ: Environ, query: str) -> str:
    path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"))
    return f"{path or '/'}?{query}" if query else path or "/"


def _headers(environ: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            name = name.removeprefix("HTTP_")
        elif name not in ("CONTENT_TYPE", "CONTENT_LENGTH") or not value:
            continue
        yield name.replace("_", "-").lower().encode("latin-1"), value.encode("latin-1")


def _begun(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """The same pieces; the first is there already."""
    iterator = iter(pieces)
    first = next(iterator, b"")

    def rest() -> Iterator[bytes]:
        try:
            yield first
            yield from iterator
        finally:
            _close(pieces)

    return rest()


def _close(pieces: Iterable[bytes]) -> None:
    close = getattr(pieces, "close", None)
    if close is not None:
        close()


def _own(answer: Own, start_response: StartResponse) -> Iterable[bytes]:
    status, headers, body = answer
    start_response(_status_line(status, ""), headers)
    return [body]


def _status_line(status: int, reason: str) -> str:
    try:
        return f"{status} {http.HTTPStatus(status).phrase}"
    except ValueError:  # a status of somebody's own
        return f"{status} {reason or 'Unknown'}"
