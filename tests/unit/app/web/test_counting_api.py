import sqlite3
from pathlib import Path

import httpx
import pytest

from replication.errors import DatabaseFailed, DatabaseReadOnly
from tests.unit.app.web.fakes import BUSY, FakeCluster


async def test_post_counts_and_get_does_not(client: httpx.AsyncClient) -> None:
    first = await client.post("/api/pages/home/views")
    second = await client.post("/api/pages/home/views")
    read = await client.get("/api/pages/home")
    again = await client.get("/api/pages/home")
    assert first.status_code == second.status_code == 200
    assert first.json() == {"page": "home", "count": 1, "node": "alpha"}
    assert second.json() == read.json() == again.json() == {"page": "home", "count": 2, "node": "alpha"}


async def test_page_that_was_never_counted_is_404(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/pages/nobody")
    assert answer.status_code == 404
    assert "nobody" in answer.json()["error"]


async def test_counted_row_is_handed_to_replication(client: httpx.AsyncClient, cluster: FakeCluster) -> None:
    await client.post("/api/pages/home/views")
    await client.post("/api/pages/home/views")
    assert [(row["count"], op) for row, op in cluster.nodes["alpha"].repo.replicated] == [(1, "insert"), (2, "update")]


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("caf%C3%A9", "café"),
        ("a%2Fb", "a/b"),
        ("a%252Fb", "a%2Fb"),
        ("100%25", "100%"),
        ("views", "views"),
        ("a+b", "a+b"),
        ("%E2%9C%93" * 200, "✓" * 200),
    ],
)
async def test_page_names_are_percent_decoded_once(client: httpx.AsyncClient, path: str, page: str) -> None:
    counted = await client.post(f"/api/pages/{path}/views")
    assert counted.json() == {"page": page, "count": 1, "node": "alpha"}
    assert (await client.get(f"/api/pages/{path}")).json()["page"] == page


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/pages/" + "x" * 201, 400),
        ("/api/pages/", 400),
        ("/api/pages/%00", 400),
        ("/api/pages/a%09b", 400),
        ("/api/pages/%FF%FE", 400),
        ("/api/pages/%ED%A0%80", 400),
        ("/api/pages//views", 400),
        ("/api/pages/a/b/views", 404),
        ("/api/pages/a/view", 404),
        ("/api/pages/a/views/", 404),
        ("/api/nothing", 404),
    ],
)
async def test_bad_paths_count_nothing_and_say_why_in_json(
    client: httpx.AsyncClient, cluster: FakeCluster, path: str, status: int
) -> None:
    url = path if path.endswith(("views", "views/", "view")) else path + "/views"
    answer = await client.post(url)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert cluster.nodes["alpha"].repo.replicated == []
    assert (await client.get(path)).status_code in (400, 404, 405)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/api/pages/home", "GET, HEAD"),
        ("GET", "/api/pages/home/views", "POST"),
        ("HEAD", "/api/pages/home/views", "POST"),
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/api/cluster", "GET, HEAD"),
    ],
)
async def test_wrong_method_is_405_and_names_the_right_ones(
    client: httpx.AsyncClient, method: str, path: str, allow: str
) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 405
    assert sorted(answer.headers["allow"].split(", ")) == allow.split(", ")


@pytest.mark.parametrize("problem", [BUSY, DatabaseReadOnly(Path("/data/x.db"), "read-only", "make it writable")])
async def test_database_that_refuses_is_503_and_nothing_was_counted(
    client: httpx.AsyncClient, cluster: FakeCluster, problem: DatabaseReadOnly
) -> None:
    repo = cluster.nodes["alpha"].repo
    repo.failing = problem
    answer = await client.post("/api/pages/home/views")
    assert answer.status_code == 503
    assert answer.json()["error"].startswith("nothing was counted: ")
    assert "/data/" not in answer.text
    repo.failing = None
    assert (await client.get("/api/pages/home")).status_code == 404


async def test_write_whose_outcome_is_unknown_is_neither_4xx_nor_503(
    client: httpx.AsyncClient, cluster: FakeCluster
) -> None:
    cluster.nodes["alpha"].repo.failing = DatabaseFailed(Path("/data/x.db"), "disk I/O error")
    answer = await client.post("/api/pages/home/views")
    assert answer.status_code == 500
    assert "unknown" in answer.json()["error"]


async def test_error_of_our_own_is_500_in_json_without_its_text(
    client: httpx.AsyncClient, cluster: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(row: object, op: object) -> None:
        raise sqlite3.InterfaceError("the secret of the house")

    cluster.nodes["alpha"].repo.replicating = broken
    answer = await client.post("/api/pages/home/views")
    assert answer.status_code == 500
    assert set(answer.json()) == {"error"}
    assert "secret" not in answer.text
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_stopping_node_counts_nothing(cluster: FakeCluster) -> None:
    web = cluster.web("alpha")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=web.asgi), base_url="http://alpha") as client:
        web.stop()
        assert (await client.post("/api/pages/home/views")).status_code == 503
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
    assert cluster.nodes["alpha"].repo.replicated == []
