"""The pages of a node beside a program, which has no counter."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.unit.app.web.fakes import FakeCluster


@pytest.fixture
async def beside(cluster: FakeCluster) -> AsyncIterator[httpx.AsyncClient]:
    cluster.nodes["alpha"].counts_nothing()
    transport = httpx.ASGITransport(app=cluster.web("alpha").asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        yield client


async def test_home_leads_to_the_live_page_which_shows_no_counts(beside: httpx.AsyncClient) -> None:
    home = await beside.get("/")
    assert (home.status_code, home.headers["location"]) == (307, "/cluster")
    assert 'data-counter="no"' in (await beside.get("/cluster")).text


async def test_the_live_page_of_a_node_that_counts_shows_counts(client: httpx.AsyncClient) -> None:
    assert 'data-counter="yes"' in (await client.get("/cluster")).text


async def test_nothing_can_be_counted_there(beside: httpx.AsyncClient) -> None:
    for path in ("/api/pages/home", "/api/pages/home/views"):
        assert (await beside.get(path)).status_code == 404
        assert (await beside.post(path)).status_code == 404


async def test_health_metrics_and_status_are_served(beside: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/api/cluster", "/api/drift"):
        assert (await beside.get(path)).status_code == 200, path


async def test_its_counts_are_unknown_to_nodes_that_count_and_make_no_drift(
    client: httpx.AsyncClient, cluster: FakeCluster
) -> None:
    cluster.nodes["beta"].counts_nothing()
    page = (await client.get("/")).text
    assert re.search(r'<tr><th scope="row">beta.*<td class="number">unknown<', page)
    assert "All nodes that answered agree" in page
