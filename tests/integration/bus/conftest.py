"""Every contract test runs twice: over the transport in memory, and over ZeroMQ on loopback."""

from collections.abc import AsyncIterator

import pytest

from tests.support.clusters import Harness, MemoryHarness, ZeroMqHarness


@pytest.fixture(params=[MemoryHarness, ZeroMqHarness], ids=["memory", "zeromq"])
async def harness(request: pytest.FixtureRequest) -> AsyncIterator[Harness]:
    harness: Harness = request.param()
    try:
        yield harness
    finally:
        await harness.close()


@pytest.fixture
async def sockets() -> AsyncIterator[ZeroMqHarness]:
    """For what only real sockets have."""
    harness = ZeroMqHarness()
    try:
        yield harness
    finally:
        await harness.close()
