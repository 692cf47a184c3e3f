"""Drift over HTTP: whether all nodes hold the same, and mending what was damaged.

`GET /api/drift` compares all nodes now and answers with the report that `litecast drift --json` prints. It may be asked
by anybody, as the counters may; with `?rows=1` it shows what is in tables, which only an admin may see.

`POST /api/drift/repair`, `{"how": "adopt"}` or `{"how": "restore"}`, has every node mend its damaged rows, and answers
with what became of them and with a new report. Only an admin may.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.web.admin import AdminGate
from app.web.answers import ascii_json
from replication.drift import DriftReport
from replication.measuring.mending import ClusterRepair
from replication.measuring.questions import Repair
from replication.measuring.watching import Measured

BODY_MAX_BYTES = 1_000


class Drift(Protocol):
    """What the application needs of `replication.measuring.watching.DriftWatch`."""

    @property
    def latest(self) -> Measured | None: ...

    def looked(self) -> None: ...

    async def measure(self, *, rows: bool = False) -> DriftReport: ...

    async def repair(self, how: Repair) -> tuple[ClusterRepair, DriftReport]: ...


class DriftApi:
    """The routes. `repairs`: whether the mode is one in which a node knows what its rows should be."""

    def __init__(self, drift: Drift, gate: AdminGate, *, repairs: bool) -> None:
        self._drift = drift
        self._gate = gate
        self._repairs = repairs

    async def get(self, request: Request) -> Response:
        """`GET /api/drift`."""
        rows = request.query_params.get("rows", "0")
        if rows not in ("0", "1"):
            raise HTTPException(400, "rows is 0 or 1")
        if rows == "1":
            self._gate.check(request)
        return ascii_json((await self._drift.measure(rows=rows == "1")).as_json())

    async def repair(self, request: Request) -> Response:
        """`POST /api/drift/repair`."""
        self._gate.check_change(request)
        how = await _how(request)
        if not self._repairs:
            raise HTTPException(
                409, "only in the modes convergent and primary does a node know what its rows should be"
            )
        repaired, report = await self._drift.repair(how)
        return ascii_json({"repair": repaired.as_json(), "drift": report.as_json()})


async def _how(request: Request) -> Repair:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX_BYTES:
            raise HTTPException(413, "the body is too long")
    try:
        match json.loads(body):
            case {"how": str(how)}:
                return Repair(how)
    except (ValueError, RecursionError):  # not JSON, or neither of the two
        pass
    raise HTTPException(400, 'the body is {"how": "adopt"} or {"how": "restore"}')


def live_drift(measured: Measured | None) -> Mapping[str, Any] | None:
    """What the live page is told: the report, and when it was made, in milliseconds since 1970."""
    if measured is None:
        return None
    return {**measured.report.as_json(), "at": int(measured.at_s * 1000)}
