"""A cluster of three fake nodes, and a client of the first one's web application."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.unit.app.web.fakes import FakeCluster


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    made = FakeCluster("alpha", "beta", "gamma")
    yield made
    made.close()


@pytest.fixture
async def client(cluster: FakeCluster) -> AsyncIterator[httpx.AsyncClient]:
    web = cluster.web("alpha")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=web.asgi), base_url="http://alpha") as made:
        yield made
    web.stop()
