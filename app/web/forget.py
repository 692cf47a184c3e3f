"""`POST /api/peers/forget`, `{"nodes": ["c"]}`: these nodes are gone for good. Only an admin may.

200 with `{"forgotten": [...]}` when it is done; 409 with the reason, and nothing done, where it cannot be."""

import json
from collections.abc import Awaitable, Callable, Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.web.admin import AdminGate
from replication.errors import CannotForget

BODY_MAX_BYTES = 100_000

type Forget = Callable[[Sequence[str]], Awaitable[None]]


class ForgetApi:
    """The route. `forget`: None in the modes that know no members."""

    def __init__(self, forget: Forget | None, gate: AdminGate) -> None:
        self._forget = forget
        self._gate = gate

    async def post(self, request: Request) -> Response:
        """`POST /api/peers/forget`."""
        self._gate.check_change(request)
        nodes = await _nodes(request)
        if self._forget is None:
            raise HTTPException(
                409, "only in the modes convergent and primary does a node wait for members that are away"
            )
        try:
            await self._forget(nodes)
        except CannotForget as error:
            raise HTTPException(409, str(error)) from error
        return JSONResponse({"forgotten": nodes})


async def _nodes(request: Request) -> list[str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX_BYTES:
            raise HTTPException(413, "the body is too long")
    try:
        match json.loads(body):
            case {"nodes": [*names]} if names and all(isinstance(name, str) for name in names):
                return [str(name) for name in names]
    except (ValueError, RecursionError):
        pass
    raise HTTPException(400, 'the body is {"nodes": ["NAME", ...]}')
