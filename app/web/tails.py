"""The tails that this node keeps, in mode primary. Only an admin may.

`GET /api/tails` lists them, `GET /api/tails/NAME?limit=100` shows what one comes to, row by row, with what the cluster
has in its place; `POST /api/tails/NAME/apply` and `.../drop` decide. 404 for a name that is no tail's, 409 with the
reason where it cannot be done."""

import math
from collections.abc import Mapping
from typing import Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.web.admin import AdminGate
from app.web.answers import ascii_json, no_store
from replication.errors import NoSuchTail, ReplicationError
from replication.rows import Parameters, Row
from replication.tables import quoted
from replication.tails.desk import TailsDesk
from replication.tails.unit import Change, Unit

LIMIT = 100
LIMIT_MAX = 10_000


class Reader(Protocol):
    """What is needed of a Repo."""

    async def all(self, sql: str, params: Parameters = ()) -> list[Row]: ...


class TailsApi:
    """The routes. `desk`: None in the modes that know no tails."""

    def __init__(self, desk: TailsDesk | None, reader: Reader, gate: AdminGate) -> None:
        self._desk = desk
        self._reader = reader
        self._gate = gate

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/api/tails", self.list, methods=["GET"]),
            Route("/api/tails/{name}", self.show, methods=["GET"]),
            Route("/api/tails/{name}/apply", self.apply, methods=["POST"]),
            Route("/api/tails/{name}/drop", self.drop, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """`GET /api/tails`."""
        self._gate.check(request)
        units = [{**_unit(unit), "rows": await self._tails.rows(unit)} for unit in await self._tails.units()]
        return no_store({"tails": units})

    async def show(self, request: Request) -> Response:
        """`GET /api/tails/NAME`."""
        self._gate.check(request)
        limit = _limit(request)
        try:
            unit, changes = await self._tails.changes(request.path_params["name"])
        except NoSuchTail as error:
            raise HTTPException(404, str(error)) from None
        shown = [{**_change(change), "now": await self._now(change)} for change in changes[:limit]]
        return ascii_json({"tail": _unit(unit), "rows": len(changes), "changes": shown})

    async def apply(self, request: Request) -> Response:
        """`POST /api/tails/NAME/apply`."""
        self._gate.check_change(request)
        try:
            return no_store({"rows": await self._tails.apply(request.path_params["name"])})
        except NoSuchTail as error:
            raise HTTPException(404, str(error)) from None
        except ReplicationError as error:
            raise HTTPException(409, str(error)) from None

    async def drop(self, request: Request) -> Response:
        """`POST /api/tails/NAME/drop`."""
        self._gate.check_change(request)
        try:
            return no_store({"dropped": _unit(await self._tails.drop(request.path_params["name"]))})
        except NoSuchTail as error:
            raise HTTPException(404, str(error)) from None

    @property
    def _tails(self) -> TailsDesk:
        if self._desk is None:
            raise HTTPException(409, "only in mode primary are there tails")
        return self._desk

    async def _now(self, change: Change) -> Mapping[str, object] | None:
        """The row as the cluster has it; None if it has none."""
        where = " AND ".join(f"{quoted(name)} = ?" for name in change.key_columns)
        try:
            rows = await self._reader.all(f"SELECT * FROM main.{quoted(change.table)} WHERE {where}", change.key)
        except ReplicationError:  # a table that is there no more
            return None
        return {name: _plain(value) for name, value in rows[0].items()} if rows else None


def _limit(request: Request) -> int:
    given = request.query_params.get("limit", str(LIMIT))
    if not given.isascii() or not given.isdigit() or not 0 <= int(given[:9]) <= LIMIT_MAX:
        raise HTTPException(400, f"limit is a number of rows, {LIMIT_MAX} at most")
    return int(given)


def _unit(unit: Unit) -> dict[str, object]:
    return {
        "name": unit.name,
        "site": unit.site,
        "epoch": unit.epoch,
        "changesets": unit.changesets,
        "bytes": unit.bytes,
        "from_ms": unit.from_ms,
        "upto_ms": unit.upto_ms,
    }


def _change(change: Change) -> dict[str, object]:
    return {
        "table": change.table,
        "key": [_plain(value) for value in change.key],
        "op": str(change.op),
        "cells": {name: _plain(value) for name, value in change.cells.items()},
        "counts": dict(change.counts),
    }


def _plain(value: object) -> object:
    """JSON knows neither bytes nor infinity."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, float) and math.isinf(value):
        return {"float": str(value)}
    return value
