"""A request on its way to the program of another node, and the answer on its way back.

Each request has a connection of its own. On a kept one, a program that has just closed it looks like one that may have
seen the request, and what could safely be sent again could not be. Nothing is sent again once it may have arrived."""

import http
import json
from collections.abc import AsyncIterable, Iterable
from typing import Final

import httpx

from replication.middleware.headers import Headers, end_to_end
from replication.middleware.received import FORWARDED, NOT_PRIMARY, Received
from replication.middleware.routing import Forward, Refuse, Replay

CONNECT_TIMEOUT_S: Final = 2.0
SILENCE_TIMEOUT_S: Final = 60.0
"""Between two pieces, of the request or of the answer."""
BUFFERED_MAX_BYTES: Final = 1_000_000
"""A request body up to here is kept, and can be sent again; a larger one goes through as it comes, once."""
RETRY_S: Final = 0.1
_TIMEOUT: Final = httpx.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=0)
# And of a client: a proxy of the environment's is for the web, not for nodes; and to read all certificates that there
# are, for a connection without any, takes 40 ms.
RETRY_AFTER_S: Final = 1


class NotTaken(Exception):
    """The other program surely did nothing with it: no connection came about, or it said that it is not the primary."""


class NoAnswer(Exception):
    """Whether the other program did what was asked is unknown. `status` is what the client gets."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        super().__init__(f"{why}; whether it did what was asked is unknown")


def request(
    to: Forward,
    received: Received,
    headers: Iterable[tuple[bytes, bytes]],
    content: bytes | Iterable[bytes] | AsyncIterable[bytes] | None,
    *,
    forwarded: str,
) -> httpx.Request:
    """The request as the other program gets it. Its target and its `Host` go through as they are: the client's."""
    mark = FORWARDED.encode()
    passed = [item for item in end_to_end(headers) if item[0] != mark]
    return httpx.Request(
        received.method,
        to.url,
        headers=[*passed, (mark, forwarded.encode("latin-1", "replace"))],
        content=content,
        extensions={"target": received.target.encode("latin-1", "replace")},
    )


def client() -> httpx.Client:
    """For programs of nodes, which speak HTTP without TLS. To be closed by the caller."""
    return httpx.Client(trust_env=False, verify=False, timeout=_TIMEOUT, limits=_LIMITS)


def async_client() -> httpx.AsyncClient:
    """The same for an event loop."""
    return httpx.AsyncClient(trust_env=False, verify=False, timeout=_TIMEOUT, limits=_LIMITS)


def failure(to: Forward, error: Exception) -> NotTaken | NoAnswer:
    """What an error of the client's means."""
    why = " ".join(str(error).split()) or type(error).__name__
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return NotTaken(f"the program of node {to.node} cannot be reached ({why})")
        case httpx.TimeoutException():
            return NoAnswer(504, f"the program of node {to.node} did not answer in time")
        case _:
            return NoAnswer(502, f"the program of node {to.node} did not answer ({why})")


def lost() -> NoAnswer:
    """It was written, and another node was the primary before it was sent to this one."""
    return NoAnswer(502, "the primary that answered was followed by another one before what it wrote came here")


def is_refusal(status: int, names: Iterable[bytes]) -> bool:
    """Whether an answer with these headers says that nothing was done, since it is not the primary's."""
    return status == http.HTTPStatus.SERVICE_UNAVAILABLE and NOT_PRIMARY.encode() in names


def answer_headers(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """What a client gets of another program's headers. `Date` and `Server` are those of this one's server."""
    return [item for item in end_to_end(raw) if item[0] not in (b"date", b"server")]


type Own = tuple[int, list[tuple[str, str]], bytes]
"""An answer of the middleware's own: status, headers, body."""


def own_answer(status: int, why: str, *more: tuple[str, str]) -> Own:
    """`{"error": why}`, as JSON that nobody may keep."""
    body = json.dumps({"error": why}).encode()
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("cache-control", "no-store"),
        *more,
    ]
    return status, headers, body


def refused(step: Refuse) -> Own:
    """503: nothing was done."""
    marks = ((NOT_PRIMARY, "1"),) if step.to_forwarder else ()
    return own_answer(503, f"nothing was done: {step.why}", ("retry-after", str(RETRY_AFTER_S)), *marks)


def replayed(step: Replay) -> Own:
    """What Fly's proxy acts on. Nobody else ever sees it."""
    return own_answer(
        409, "this request is for another machine; Fly's proxy brings it there", ("fly-replay", step.value)
    )


def not_acknowledged() -> Own:
    """The lease ran out while the program wrote."""
    return own_answer(500, "this node lost its lease while the request was answered; whether it will stay is unknown")
