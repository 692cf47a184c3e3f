"""`GET /api/tails/NAME` shows whatever a database can hold, and `litecast tail show` prints it."""

import argparse
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette

from app.commands import tail
from app.web.admin import AdminGate
from app.web.tails import TailsApi
from replication.engine.stamps import Site, Stamp
from replication.rows import Row
from replication.tails.desk import TailsDesk
from replication.tails.unit import Change, Op, of_rows

UNIT = of_rows(Site("p0000000000011f09a2c4"), [(Stamp(1), 5)])
CHANGE = Change(
    table="t",
    key_columns=("id",),
    key=(1,),
    op=Op.UPDATE,
    life=1,
    cells={"blob": b"\xff", "text": "\udcff", "real": float("-inf"), "word": "ü"},
)


class Desk:
    async def changes(self, name: str) -> tuple[object, list[Change]]:
        return UNIT, [CHANGE]


class NoRows:
    async def all(self, sql: str, params: object = ()) -> list[Row]:
        return []


async def test_any_value_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    api = TailsApi(cast("TailsDesk", Desk()), NoRows(), AdminGate(None))
    transport = httpx.ASGITransport(app=Starlette(routes=api.routes()), client=("127.0.0.1", 5000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        answer = await client.get(f"/api/tails/{UNIT.name}")
    found: Any = answer.json()
    assert answer.status_code == 200
    (change,) = found["changes"]
    assert change["cells"] == {"blob": {"hex": "ff"}, "text": "\udcff", "real": {"float": "-inf"}, "word": "ü"}

    class Client:
        def tail(self, name: str, *, limit: int) -> Any:
            return found

    def return_client(args: argparse.Namespace) -> Client:
        return Client()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.commands.asking.admin_client", return_client)
        patch.setenv("COLUMNS", "250")
        assert tail.run(argparse.Namespace(verb="show", name=UNIT.name, limit=9, json=False)) == 0
    printed = capsys.readouterr().out
    assert '"\\udcff"' in printed
    assert '"ü"' in printed
