import asyncio
import re

import httpx
import pytest

from app.web.assets import FOLDER
from cluster.counters import Count
from replication.errors import ReplicationError
from replication.rows import Op, Row
from tests.unit.app.web.fakes import BUSY, FakeCluster


async def test_home_counts_a_view_and_head_does_not(client: httpx.AsyncClient, cluster: FakeCluster) -> None:
    assert (await client.head("/")).status_code == 200
    assert (await client.get("/api/pages/home")).status_code == 404
    await client.get("/")
    page = await client.get("/")
    assert re.search(r'id="count">2<', page.text)
    assert (await client.get("/api/pages/home")).json()["count"] == 2


async def test_home_shows_node_region_and_what_each_node_believes(
    client: httpx.AsyncClient, cluster: FakeCluster
) -> None:
    cluster.replicate = False
    cluster.nodes["beta"].repo.set("home", 41)
    cluster.member("gamma").state = "down"
    page = (await client.get("/")).text
    rows = dict(re.findall(r'<tr><th scope="row">(\w+).*?<td class="number">(.*?)</td></tr>', page))
    assert rows == {"alpha": "1", "beta": "41", "gamma": "unknown"}
    assert "<strong>alpha</strong> in <strong>fra</strong>" in page
    assert "disagree by <strong>40</strong>" in page


async def test_view_that_is_still_on_its_way_is_not_called_drift(
    client: httpx.AsyncClient, cluster: FakeCluster
) -> None:
    alpha = cluster.nodes["alpha"]
    cluster.replicate = False

    def arrives_after_the_first_question(row: Row, op: Op) -> None:
        loop = asyncio.get_running_loop()
        for name in ("beta", "gamma"):
            loop.call_later(0.01, cluster.nodes[name].repo.set, "home", row["count"])

    alpha.repo.replicating = arrives_after_the_first_question
    assert "All nodes that answered agree" in (await client.get("/")).text


async def test_names_are_escaped_in_html(cluster: FakeCluster) -> None:
    evil = FakeCluster("<script>alert(1)</script>")
    web = evil.web("<script>alert(1)</script>")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=web.asgi), base_url="http://n") as client:
        for path in ("/", "/cluster"):
            assert "<script>alert" not in (await client.get(path)).text
    evil.close()


async def test_home_says_when_its_view_was_not_counted(client: httpx.AsyncClient, cluster: FakeCluster) -> None:
    cluster.nodes["alpha"].repo.failing = BUSY
    page = await client.get("/")
    assert page.status_code == 503
    assert "was not counted" in page.text


async def test_cluster_api_has_the_documented_shape(client: httpx.AsyncClient, cluster: FakeCluster) -> None:
    cluster.member("gamma").state = "suspect"
    cluster.nodes["alpha"].counters.increment(Count.NO_PEER, 3)
    answer = (await client.get("/api/cluster")).json()
    assert answer == {
        "node": {"name": "alpha", "region": "fra", "incarnation": "7f3a", "program": ""},
        "mode": "naive",
        "peers": [
            {"name": "beta", "region": "ord", "address": "tcp://127.0.0.1:7401", "state": "up"},
            {"name": "gamma", "region": "syd", "address": "tcp://127.0.0.1:7402", "state": "suspect"},
        ],
        "counters": {"dropped_no_peer": 3},
    }


async def test_ready_only_when_nothing_is_missing(cluster: FakeCluster) -> None:
    missing = ["the database is not open", "the bus is not up"]
    web = cluster.web("alpha", unready=lambda: missing)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=web.asgi), base_url="http://n") as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["reasons"] == missing
        assert (await client.get("/healthz")).status_code == 200
        missing.clear()
        assert (await client.get("/readyz")).status_code == 200


async def test_every_response_forbids_other_origins(client: httpx.AsyncClient) -> None:
    for path in ("/", "/cluster", "/api/cluster", "/static/live.js", "/nothing", "/metrics"):
        answer = await client.get(path)
        assert "default-src 'self'" in answer.headers["content-security-policy"], path
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_no_page_or_file_names_anything_outside_this_node() -> None:
    for path in [*(FOLDER / "static").iterdir(), *(FOLDER / "templates").iterdir()]:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.[a-z]", text), path
        if path.suffix == ".html":
            # The policy would block them: no style or script inside a page.
            assert not re.search(r"\sstyle=|\son[a-z]+=|<style", text), path


async def test_static_file_is_not_sent_twice_to_one_who_has_it(client: httpx.AsyncClient) -> None:
    first = await client.get("/static/style.css")
    assert first.headers["content-type"] == "text/css; charset=utf-8"
    again = await client.get("/static/style.css", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("..%2Fserver.py", "%2e%2e%2fserver.py", "nothing.css"):
        assert (await client.get(f"/static/{name}")).status_code == 404


async def test_metrics_count_what_happened(client: httpx.AsyncClient, cluster: FakeCluster) -> None:
    await client.post("/api/pages/home/views")
    cluster.nodes["alpha"].repo.failing = BUSY
    await client.post("/api/pages/home/views")
    cluster.member("gamma").state = "down"
    cluster.nodes["alpha"].counters.increment(Count.QUEUE_FULL, 5)
    text = (await client.get("/metrics")).text
    for line in (
        'litecast_page_views_total{outcome="counted"} 1.0',
        'litecast_page_views_total{outcome="refused"} 1.0',
        'litecast_peers{state="up"} 1.0',
        'litecast_peers{state="down"} 1.0',
        'litecast_bus_events_total{cause="dropped_queue_full"} 5.0',
        'litecast_node_info{incarnation="7f3a",mode="naive",node="alpha",region="fra"} 1.0',
        "litecast_ready 1.0",
        "litecast_live_streams 0.0",
    ):
        assert line in text.splitlines(), line
    assert "process_cpu_seconds_total" in text


async def test_metrics_speak_openmetrics_when_asked(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("error", [ReplicationError("x"), BUSY])
async def test_count_that_cannot_be_read_is_503(
    client: httpx.AsyncClient, cluster: FakeCluster, error: ReplicationError
) -> None:
    cluster.nodes["alpha"].repo.failing = error
    assert (await client.get("/api/pages/home")).status_code == 503
