"""Nodes of the demo that do not come up: one line says why, and none of them is left."""

from pathlib import Path

import httpx
import pytest

from app.demo.cluster import DemoCluster
from app.demo.errors import DemoError
from app.demo.plan import Options, Plan


async def test_a_node_that_cannot_start_ends_the_start_with_its_own_words(tmp_path: Path) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        cluster = DemoCluster(tmp_path, Plan(Options(nodes=2, seed=1)).nodes, client, "nonsense")
        with pytest.raises(DemoError, match=r"^node \w+ did not start: .*nonsense") as caught:
            await cluster.start()
        assert "nonsense" in caught.value.log_tail
        assert cluster.running == []


async def test_a_node_that_never_answers_ends_the_start_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.demo.cluster.START_WITHIN_S", 0.0)
    async with httpx.AsyncClient(trust_env=False) as client:
        cluster = DemoCluster(tmp_path, Plan(Options(nodes=2, seed=1)).nodes, client, "naive")
        with pytest.raises(DemoError, match=r"^node alpha does not answer after 0 s"):
            await cluster.start()
        assert cluster.running == []
