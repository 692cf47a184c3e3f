"""A node that cannot go on takes its program with it. The node is a fake here, for real ones do not fail on demand."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from app.beside import supervising
from app.beside.supervising import run_beside
from app.config import Config, load_config
from app.running_node import RunningNode
from cluster.errors import ClusterError
from tests.support.eventually import eventually


class FailingNode:
    """Runs until the test lets it fail."""

    def __init__(self) -> None:
        self.failure: asyncio.Future[ClusterError] = asyncio.get_running_loop().create_future()
        self.unready: Callable[[], Sequence[str]] = tuple
        self.is_up = False

    async def failed(self) -> ClusterError:
        return await asyncio.shield(self.failure)

    @asynccontextmanager
    async def running_node(
        self, config: Config, *, counts: bool, also_unready: Callable[[], Sequence[str]]
    ) -> AsyncIterator[RunningNode]:
        assert not counts
        self.is_up, self.unready = True, also_unready
        try:
            yield cast("RunningNode", self)
        finally:
            self.is_up = False

    url = "http://127.0.0.1:8080"
    replication = None

    @property
    def node(self) -> "FailingNode":
        return self


@pytest.fixture
async def node(monkeypatch: pytest.MonkeyPatch) -> FailingNode:
    node = FailingNode()
    monkeypatch.setattr(supervising, "running_node", node.running_node)
    return node


PROGRAM = 'trap \'echo ended >> "$0"; exit 3\' TERM; echo began >> "$0"; while :; do sleep 0.05; done'


def start(tmp_path: Path, script: str = PROGRAM) -> "asyncio.Task[int]":
    config = load_config(None, {"LITECAST_NODE__DATA_DIR": str(tmp_path)}, own_tables=())
    return asyncio.create_task(run_beside(config, ["sh", "-c", script, str(tmp_path / "said")]))


def said(tmp_path: Path) -> list[str]:
    path = tmp_path / "said"
    return path.read_text().split() if path.exists() else []


async def test_when_the_node_cannot_go_on_the_program_is_ended_and_the_reason_told(
    node: FailingNode, tmp_path: Path
) -> None:
    running = start(tmp_path)
    await eventually(lambda: said(tmp_path) == ["began"])
    assert node.unready() == []
    node.failure.set_result(ClusterError("an actor crashed too often"))
    with pytest.raises(ClusterError, match="crashed too often"):
        await running
    assert said(tmp_path) == ["began", "ended"]
    assert not node.is_up


async def test_the_node_stays_up_until_the_program_has_ended(node: FailingNode, tmp_path: Path) -> None:
    running = start(tmp_path)
    await eventually(lambda: said(tmp_path) == ["began"])
    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: said(tmp_path) == ["began", "ended"])
    assert await running == 3
    assert not node.is_up


async def test_whatever_else_goes_wrong_no_program_is_left_behind(node: FailingNode, tmp_path: Path) -> None:
    running = start(tmp_path)
    await eventually(lambda: said(tmp_path) == ["began"])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert said(tmp_path) == ["began", "ended"]
