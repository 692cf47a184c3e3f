"""`POST /api/promote`: for an admin, in mode primary, and with the reason where it cannot be."""

from typing import Any

import httpx
import pytest

from tests.unit.app.web.fakes import FakeCluster
from tests.unit.app.web.test_drift_api import TOKEN, client_of


async def post(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    options: dict[str, Any] = {"json": {"node": "beta"}, **changes}
    return await client.post("/api/promote", **options)


async def test_only_an_admin_promotes(cluster: FakeCluster) -> None:
    cluster.has_primary = True
    cluster.admin_token = TOKEN
    async with client_of(cluster) as client:
        assert (await post(client)).status_code == 401
        assert cluster.promoted == []
        answer = await post(client, headers={"authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.json()) == (200, {"primary": "beta"})
    assert cluster.promoted == ["beta"]


async def test_why_not_is_said(cluster: FakeCluster) -> None:
    async with client_of(cluster) as client:
        answer = await post(client)
        assert (answer.status_code, "mode primary" in answer.json()["error"]) == (409, True)
    cluster.has_primary = True
    cluster.cannot_promote = "beta is no candidate"
    async with client_of(cluster) as client:
        answer = await post(client)
    assert (answer.status_code, "beta is no candidate" in answer.json()["error"]) == (409, True)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"json": {"node": ""}}, 400),
        ({"json": {"node": 1}}, 400),
        ({"json": ["beta"]}, 400),
        ({"content": b"[" * 5000}, 400),
        ({"content": b" " * 20_000}, 413),
    ],
)
async def test_a_body_that_names_no_node_is_refused(cluster: FakeCluster, body: dict[str, Any], status: int) -> None:
    cluster.has_primary = True
    async with client_of(cluster) as client:
        answer = await client.post("/api/promote", headers={"content-type": "application/json"}, **body)
    assert answer.status_code == status
    assert cluster.promoted == []
