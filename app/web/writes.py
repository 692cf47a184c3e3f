"""`POST /api/statements`, `{"statements": [[SQL, [PARAMETER, ...]], ...], "wait": true, "ack": "quorum"}`.

A program beside the node writes by statement, on whichever node is the primary. Only who can read the file
`<database>-node` may, and where the cluster has no secret, only from this machine.

All statements are one transaction. Without `ack` it is as sure as the node's own writes. 200 with `{"changed": [...]}`
once it can be read here, 202 if that took too long, or if it is not as sure yet as it was to be (`where` it was to be
durable). Any other status comes with `refused`, from which `replication.middleware.statements` makes the error; 503
says that there was nobody to write, 500 that the outcome is unknown, the rest that nothing was written."""

import json
from collections.abc import Sequence
from typing import Any, Final, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.web.admin import AdminGate
from app.web.answers import no_store
from replication.errors import (
    CannotConfirm,
    CannotForward,
    NoPrimary,
    NotConfirmed,
    NotVisibleYet,
    ReplicationError,
    RepoError,
)
from replication.middleware.statements import BODY_MAX_BYTES, NotAStatement, statements_from_json
from replication.primary.operations import statements as operation_of
from replication.primary.refusals import plain_error
from replication.rows import Parameters


class Statements(Protocol):
    """What is needed of a Repo."""

    async def statements(
        self, statements: Sequence[str | tuple[str, Parameters]], *, wait: bool = True, ack: str | None = None
    ) -> list[int]: ...


_SHAPE: Final = 'the body is {"statements": [["SQL", [PARAMETER, ...]], ...], "wait": true, "ack": "quorum"}'


class StatementsApi:
    """The route. `repo`: None in the modes in which every node writes its own file."""

    def __init__(self, repo: Statements | None, gate: AdminGate) -> None:
        self._repo = repo
        self._gate = gate

    async def post(self, request: Request) -> Response:
        """`POST /api/statements`."""
        self._gate.check_change(request)
        asked, wait, ack = _read(await _body(request))
        if self._repo is None:
            raise HTTPException(409, "only in mode primary do writes go to another node: write to the file itself")
        try:
            operation_of(asked).check()
            return no_store({"changed": await self._repo.statements(asked, wait=wait, ack=ack)})
        except NotVisibleYet as late:
            return no_store({"changed": late.result, "position": str(late.position)}, 202)
        except NotConfirmed as late:
            return no_store(
                {
                    "changed": late.result,
                    "position": str(late.position),
                    "where": late.where,
                    "waited_s": late.timeout_s,
                },
                202,
            )
        except NoPrimary as error:
            return _refusal(503, error, retry_after_s=error.retry_after_s, waited_s=error.waited_s)
        except ReplicationError as error:
            return _refusal(_status(error), error)


def _status(error: ReplicationError) -> int:
    match error:
        case _ if error.outcome_unknown:
            return 500
        case CannotForward() | CannotConfirm():
            return 400
        case RepoError():
            return 409
        case _:
            return 502


def _refusal(status: int, error: ReplicationError, **more: float) -> Response:
    _, name, parts = plain_error(error)
    return no_store({"error": str(error), "refused": [name, parts], **more}, status)


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX_BYTES:
            raise HTTPException(413, f"the body is longer than {BODY_MAX_BYTES} bytes: send it in parts")
    return body


def _read(body: bytes) -> tuple[list[str | tuple[str, Any]], bool, str | None]:
    try:
        match json.loads(body):
            case {"statements": [*given], "wait": bool(wait), "ack": str() | None as ack}:
                return statements_from_json(given), wait, ack
            case {"statements": [*given], "wait": bool(wait)} as asked if "ack" not in asked:
                return statements_from_json(given), wait, None
    except NotAStatement as error:
        raise HTTPException(400, f"{error}; {_SHAPE}") from None
    except (ValueError, RecursionError):
        pass
    raise HTTPException(400, _SHAPE)
