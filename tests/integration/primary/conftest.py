"""One cluster a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.primary_nodes import PrimaryCluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[PrimaryCluster]:
    cluster = PrimaryCluster(tmp_path)
    yield cluster
    await cluster.close()
