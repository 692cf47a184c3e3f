"""Nodes that upload to one bucket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.convergent import ConvergentCluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ConvergentCluster]:
    cluster = ConvergentCluster(tmp_path)
    yield cluster
    await cluster.close()
