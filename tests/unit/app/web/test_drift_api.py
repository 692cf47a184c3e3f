"""Drift over HTTP: anybody may ask whether nodes are equal; only an admin sees into tables."""

from typing import Any

import httpx
import pytest

from replication.drift import DriftReport
from replication.measuring.questions import Repair
from tests.unit.app.web.fakes import FakeCluster
from tests.unit.app.web.reports import DRIFT_REPORT, DRIFT_REPORT_WITH_ROWS, DRIFTED
from tests.unit.app.web.statuses import WELL

TOKEN = "7" * 64


def client_of(cluster: FakeCluster, *, host: str = "127.0.0.1", client: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=cluster.web("alpha").asgi, client=(client, 5000))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8080")


async def test_a_report_survives_the_trip_whatever_is_in_it(cluster: FakeCluster) -> None:
    cluster.drift.found = DRIFT_REPORT_WITH_ROWS
    async with client_of(cluster) as client:
        answer = await client.get("/api/drift")
    assert DriftReport.from_json(answer.json()) == DRIFT_REPORT_WITH_ROWS, "also text that is not UTF-8"
    assert answer.headers["cache-control"] == "no-store"


async def test_anybody_may_ask_whether_nodes_are_equal(cluster: FakeCluster) -> None:
    cluster.admin_token = TOKEN
    async with client_of(cluster, host="example.org", client="203.0.113.9") as client:
        assert (await client.get("/api/drift")).status_code == 200
        assert (await client.get("/api/drift?rows=0")).status_code == 200
        assert (await client.get("/api/drift?rows=yes")).status_code == 400
    assert cluster.drift.measured == [False, False]


@pytest.mark.parametrize(
    "sent", ["", f"Bearer {'8' * 64}", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN[:-1]}", "Bearer ü"]
)
async def test_rows_are_shown_to_an_admin_only(cluster: FakeCluster, sent: str) -> None:
    cluster.admin_token = TOKEN
    async with client_of(cluster) as client:
        answer = await client.get("/api/drift?rows=1", headers={b"authorization": sent.encode()})
        assert answer.status_code == 401
        assert "LITECAST_BUS__SECRET" in answer.json()["error"]
        assert cluster.drift.measured == []
        allowed = await client.get("/api/drift?rows=1", headers={"authorization": f"bearer {TOKEN}"})
        assert allowed.status_code == 200
    assert cluster.drift.measured == [True]


@pytest.mark.parametrize(
    ("host", "client", "header", "status"),
    [
        ("127.0.0.1", "127.0.0.1", "", 200),
        ("localhost", "127.0.0.1", "", 200),
        ("[::1]", "::1", "", 200),
        ("127.0.0.1", "192.0.2.1", "", 403),
        ("evil.example", "127.0.0.1", "", 403),
        ("127.0.0.1", "127.0.0.1", "x-forwarded-for", 403),
        ("127.0.0.1", "127.0.0.1", "fly-client-ip", 403),
    ],
)
async def test_without_a_secret_only_this_machine_may(
    cluster: FakeCluster, host: str, client: str, header: str, status: int
) -> None:
    headers = {header: "192.0.2.1"} if header else {}
    async with client_of(cluster, host=host, client=client) as http:
        assert (await http.get("/api/drift?rows=1", headers=headers)).status_code == status


async def test_metrics_have_what_was_found_last_and_count_as_a_look(cluster: FakeCluster) -> None:
    async with client_of(cluster) as client:
        assert "litecast_drift" not in (await client.get("/metrics")).text, "nothing was compared yet"
        assert cluster.drift.looks == 1
        cluster.drift.latest = DRIFTED
        lines = (await client.get("/metrics")).text.splitlines()
    for line in (
        'litecast_drift_verdict{verdict="drift"} 1.0',
        'litecast_drift_verdict{verdict="equal"} 0.0',
        'litecast_drift_rows{table="page_counts"} 2.0',
        'litecast_drift_rows{table="notes"} 0.0',
        'litecast_drift_counter{column="count",table="page_counts"} 41.0',
        "litecast_drift_measured_timestamp_seconds 1.7000000005e+09",
    ):
        assert line in lines, line
    assert not any(line.startswith('litecast_drift_rows{table="events"}') for line in lines), "too many to be counted"


async def test_the_live_page_hears_what_was_found_last(cluster: FakeCluster) -> None:
    cluster.drift.latest = DRIFTED
    web = cluster.web("alpha")
    state: Any = await web._state()
    assert state["drift"] == {**DRIFT_REPORT.as_json(), "at": 1_700_000_000_500}
    assert cluster.drift.looks == 1


async def post(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    options: dict[str, Any] = {"json": {"how": "adopt"}, **changes}
    return await client.post("/api/drift/repair", **options)


async def test_repair_is_for_an_admin_and_changes_nothing_for_others(cluster: FakeCluster) -> None:
    cluster.nodes["alpha"].stands(WELL)
    cluster.admin_token = TOKEN
    async with client_of(cluster) as client:
        assert (await post(client)).status_code == 401
        assert (await client.get("/api/drift/repair")).status_code == 405
        assert cluster.drift.repairs == []
        answer = await post(client, headers={"authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
        assert answer.json() == {"repair": cluster.drift.repaired.as_json(), "drift": cluster.drift.found.as_json()}
    assert cluster.drift.repairs == [Repair.ADOPT]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"json": {"how": "restore"}}, 200),
        ({"json": {"how": "burn"}}, 400),
        ({"json": ["adopt"]}, 400),
        ({"json": None}, 415),
        ({"data": {"how": "adopt"}}, 415),
        ({"content": b'{"how": "adopt"}', "headers": {"content-type": "text/plain"}}, 415),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ({"content": b"[" * 5_000, "headers": {"content-type": "application/json"}}, 413),
        ({"content": b"[" * 900, "headers": {"content-type": "application/json"}}, 400),
    ],
)
async def test_what_a_page_of_another_site_can_send_repairs_nothing(
    cluster: FakeCluster, body: dict[str, Any], status: int
) -> None:
    cluster.nodes["alpha"].stands(WELL)
    async with client_of(cluster) as client:
        assert (await post(client, **{"json": None, **body})).status_code == status
    assert len(cluster.drift.repairs) == (status == 200)


async def test_without_entries_there_is_nothing_to_repair_from(cluster: FakeCluster) -> None:
    async with client_of(cluster) as client:
        answer = await post(client)
    assert answer.status_code == 409
    assert "modes convergent and primary" in answer.json()["error"]
    assert cluster.drift.repairs == []
