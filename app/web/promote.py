"""`POST /api/promote`, `{"node": "b"}`: that node becomes the primary. Only an admin may.

200 with `{"primary": "b"}` once it is; 409 with the reason where it is not."""

import json
from collections.abc import Awaitable, Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.web.admin import AdminGate
from replication.errors import CannotPromote

BODY_MAX_BYTES = 10_000

type Promote = Callable[[str], Awaitable[None]]


class PromoteApi:
    """The route. `promote`: None in the modes that know no primary."""

    def __init__(self, promote: Promote | None, gate: AdminGate) -> None:
        self._promote = promote
        self._gate = gate

    async def post(self, request: Request) -> Response:
        """`POST /api/promote`."""
        self._gate.check_change(request)
        node = await _node(request)
        if self._promote is None:
            raise HTTPException(409, "only in mode primary is there a lease to hand over")
        try:
            await self._promote(node)
        except CannotPromote as error:
            raise HTTPException(409, str(error)) from error
        return JSONResponse({"primary": node})


async def _node(request: Request) -> str:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX_BYTES:
            raise HTTPException(413, "the body is too long")
    try:
        match json.loads(body):
            case {"node": str(node)} if node:
                return node
    except (ValueError, RecursionError):
        pass
    raise HTTPException(400, 'the body is {"node": "NAME"}')
