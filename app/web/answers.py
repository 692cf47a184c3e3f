"""Responses that several routes give: JSON that must not be cached, errors as JSON, what every response carries."""

import json
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message

# Everything a page of ours loads comes from this node: it works without any other network, and tells nobody.
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def no_store(content: object, status: int = 200) -> Response:
    """`content` as JSON that nobody may keep."""
    return JSONResponse(content, status_code=status, headers={"cache-control": "no-store"})


def ascii_json(content: object) -> Response:
    """Text that is not UTF-8 may stand in a database, and shows as lone surrogates: they travel escaped only."""
    return Response(
        json.dumps(content, allow_nan=False),
        headers={"content-type": "application/json", "cache-control": "no-store"},
    )


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """`{"error": message}`."""
    return JSONResponse(
        {"error": message}, status_code=status, headers={"cache-control": "no-store", **(headers or {})}
    )


async def http_error(request: Request, exc: Exception) -> Response:
    """The handler of every `HTTPException`, those of the router included."""
    assert isinstance(exc, HTTPException)
    return error(exc.status_code, exc.detail or "error", exc.headers)


def secure(message: Message) -> Message:
    """Add the security headers to the start of a response; any other message is returned as it is."""
    if message["type"] == "http.response.start":
        message = {**message, "headers": [*message.get("headers", []), *SECURITY_HEADERS]}
    return message
