"""`POST /api/peers/forget`: for an admin, in mode convergent, and with the reason where it cannot be."""

from typing import Any

import httpx
import pytest

from tests.unit.app.web.fakes import FakeCluster
from tests.unit.app.web.statuses import WELL
from tests.unit.app.web.test_drift_api import TOKEN, client_of


async def post(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    options: dict[str, Any] = {"json": {"nodes": ["gamma"]}, **changes}
    return await client.post("/api/peers/forget", **options)


async def test_only_an_admin_forgets(cluster: FakeCluster) -> None:
    cluster.nodes["alpha"].stands(WELL)
    cluster.admin_token = TOKEN
    async with client_of(cluster) as client:
        assert (await post(client)).status_code == 401
        assert cluster.forgotten == []
        answer = await post(client, headers={"authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.json()) == (200, {"forgotten": ["gamma"]})
    assert cluster.forgotten == ["gamma"]


async def test_why_not_is_said(cluster: FakeCluster) -> None:
    cluster.nodes["alpha"].stands(WELL)
    cluster.cannot_forget = "gamma is up: stop it first, for good"
    async with client_of(cluster) as client:
        answer = await post(client)
    assert (answer.status_code, answer.json()) == (409, {"error": cluster.cannot_forget})


async def test_other_modes_wait_for_nobody(cluster: FakeCluster) -> None:
    async with client_of(cluster) as client:
        answer = await post(client)
    assert answer.status_code == 409
    assert "modes convergent and primary" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"json": {"nodes": []}}, 400),
        ({"json": {"nodes": "gamma"}}, 400),
        ({"json": {"nodes": [1]}}, 400),
        ({"json": ["gamma"]}, 400),
        ({"json": None}, 415),
        ({"content": b"[" * 1_000, "headers": {"content-type": "application/json"}}, 400),
        ({"content": b"[" * 200_000, "headers": {"content-type": "application/json"}}, 413),
    ],
)
async def test_what_is_not_asked_for_rightly_forgets_nobody(
    cluster: FakeCluster, body: dict[str, Any], status: int
) -> None:
    cluster.nodes["alpha"].stands(WELL)
    async with client_of(cluster) as client:
        assert (await post(client, **{"json": None, **body})).status_code == status
    assert cluster.forgotten == []
