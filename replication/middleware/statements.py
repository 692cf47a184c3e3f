"""A program beside a node writes by statement: for what no request can be forwarded for, a WebSocket or a job.

The node does with them what it does with its own: they run in one transaction, on the primary, once. Values travel as
JSON; a BLOB as `{"base64": "..."}`."""

import base64
import binascii
import hmac
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, cast

from replication.acknowledging.levels import Ack
from replication.errors import NoPrimary, NotConfirmed, NotVisibleYet, OutcomeUnknown
from replication.middleware.desk import DATABASE_PATH, NoDatabase
from replication.middleware.node_file import NodeFile, NodeFileError, NodeSays
from replication.positions import Position
from replication.primary.refusals import raised
from replication.rows import Parameters

BODY_MAX_BYTES: Final = 4_000_000
"""What goes over the bus as one message."""
CONNECT_TIMEOUT_S: Final = 2.0
TIMEOUT_S: Final = 60.0
"""Longer than a node goes on trying, with any settings that make sense."""


class NotAStatement(ValueError):
    """What was sent is none, or a parameter of it has no form in JSON."""


def statements_token(key: bytes) -> str:
    """What the node wants to hear from a program that writes by statement. `key`: that of position tokens."""
    return hmac.digest(key, b"litecast statements", "sha256").hex()


class PrimaryStatements:
    """Writes by statement through the node beside which this program runs. Any thread may use it.

    Raises NoDatabase if neither `database` nor `DATABASE_PATH` says where the file is."""

    def __init__(self, database: Path | str | None = None, *, environ: Mapping[str, str] = os.environ) -> None:
        path = database or environ.get(DATABASE_PATH)
        if not path:
            raise NoDatabase
        self._node = NodeFile(Path(path))

    def execute(self, sql: str, params: Parameters = (), *, wait: bool = True, ack: Ack | str | None = None) -> int:
        """How many rows one statement changed. See `statements`."""
        (changed,) = self.statements([(sql, params)], wait=wait, ack=ack)
        return changed

    def statements(
        self, statements: Sequence[str | tuple[str, Parameters]], *, wait: bool = True, ack: Ack | str | None = None
    ) -> list[int]:
        """How many rows each of these changed: SQL, or pairs of SQL and parameters, in one transaction, on whichever
        node is the primary. Returns once that can be read in this node's file, unless it is not to `wait`, and is as
        sure as `ack` says, or the node's settings.

        Blocks: in an event loop, `await asyncio.to_thread(...)`. Raises what `Repo.statements` raises: DuplicateRow,
        ConstraintFailed, QueryFailed, CannotForward, CannotConfirm with nothing written; NoPrimary, also if the node
        does not run; NotVisibleYet, NotConfirmed, OutcomeUnknown; NotAStatement for a parameter that has no form in
        JSON."""
        import httpx

        says = self._says()
        sure = {} if ack is None else {"ack": str(ack)}
        body = json.dumps({"statements": [_to_json(one) for one in statements], "wait": wait, **sure})
        headers = {"authorization": f"Bearer {statements_token(says.key)}", "content-type": "application/json"}
        timeout = httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        try:
            # A proxy of the environment's is for the web, not for a node on this machine, which speaks without TLS: to
            # read all certificates that there are takes 40 ms.
            with httpx.Client(trust_env=False, verify=False, timeout=timeout) as client:
                answer = client.post(f"{says.url}/api/statements", content=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NoPrimary(f"the node at {says.url} does not answer: {error}", CONNECT_TIMEOUT_S, 1.0) from None
        except httpx.TransportError as error:
            raise OutcomeUnknown(f"the node at {says.url} did not answer: {error}") from None
        try:
            return _result(answer.status_code, answer.json(), says)
        except (ValueError, KeyError, TypeError) as error:
            raise OutcomeUnknown(f"what {says.url} answered cannot be read ({error})") from None

    def _says(self) -> NodeSays:
        try:
            standing = self._node.look()
        except NodeFileError as error:
            raise NoPrimary(str(error), 0.0, 1.0) from None
        if standing is None:
            raise NoPrimary("no node in mode primary ever ran beside this database", 0.0, 1.0)
        return standing.says


def statements_from_json(given: Sequence[object]) -> list[str | tuple[str, Any]]:
    """The statements that `PrimaryStatements` sent. Raises NotAStatement."""
    return [_from_json(one) for one in given]


def _result(status: int, found: Any, says: NodeSays) -> list[int]:
    match status:
        case 200:
            return [int(one) for one in found["changed"]]
        case 202:
            position, changed = Position.parse(found["position"]), [int(one) for one in found["changed"]]
            if "where" in found:
                raise NotConfirmed(position, changed, str(found["where"]), float(found["waited_s"]))
            raise NotVisibleYet(position, changed, says.visible_s)
        case 503 if "retry_after_s" in found:
            raise NoPrimary(str(found["error"]), float(found["waited_s"]), float(found["retry_after_s"]))
        case _ if "refused" in found:
            name, parts = found["refused"]
            raise raised(name, parts, node=str(says.primary))
        case _:
            raise ValueError(f"status {status}: {found['error']}")


def _to_json(statement: str | tuple[str, Parameters]) -> list[object]:
    sql, params = (statement, ()) if isinstance(statement, str) else statement
    if isinstance(params, Mapping):
        return [sql, {name: _value_to_json(one) for name, one in params.items()}]
    return [sql, [_value_to_json(one) for one in params]]


def _value_to_json(value: object) -> object:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case bytes() | bytearray() | memoryview():
            return {"base64": base64.b64encode(bytes(cast("bytes", value))).decode()}
        case _:
            raise NotAStatement(f"a {type(value).__name__} has no form in which it could be sent")


def _from_json(given: object) -> tuple[str, Any]:
    match given:
        case [str(sql), [*params]]:
            return sql, [_value_from_json(one) for one in params]
        case [str(sql), dict() as params]:
            return sql, {str(name): _value_from_json(one) for name, one in params.items()}
        case _:
            raise NotAStatement("a statement is its SQL and a list, or an object, of parameters")


def _value_from_json(value: object) -> object:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case {"base64": str(text)}:
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error:
                raise NotAStatement("a BLOB is not base64") from None
        case _:
            raise NotAStatement("a parameter is null, a number, text, or a BLOB in base64")
