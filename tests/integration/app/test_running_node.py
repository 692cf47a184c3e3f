"""Nodes that a program runs in its own process, over real sockets, and what they do for each other."""

from collections.abc import Callable
from pathlib import Path

from app.config import Config, load_config
from app.counter import COUNT_VIEW
from app.running import running_node
from app.running_node import RunningNode
from tests.support.eventually import eventually
from tests.support.node_process import free_port


def config_of(name: str, folder: Path, bus: dict[str, int], **more: str) -> Config:
    """Of one of the nodes whose ports `bus` has; the first of them writes."""
    (folder / name).mkdir()
    return load_config(
        None,
        {
            "LITECAST_NODE__NAME": name,
            "LITECAST_NODE__REGION": f"region-{name}",
            "LITECAST_NODE__DATA_DIR": str(folder / name),
            "LITECAST_BUS__BIND": f"127.0.0.1:{bus[name]}",
            "LITECAST_HTTP__BIND": "127.0.0.1:0",
            "LITECAST_DISCOVERY__PEERS": ",".join(f"127.0.0.1:{port}" for port in bus.values()),
            "LITECAST_REPLICATION__MODE": "primary",
            "LITECAST_LEASE__PRIMARY": next(iter(bus)),
            **more,
        },
    )


async def test_nodes_run_functions_for_each_other(tmp_path: Path) -> None:
    bus = {"a": free_port(), "b": free_port()}
    async with (
        running_node(config_of("a", tmp_path, bus)) as a,
        running_node(config_of("b", tmp_path, bus)) as b,
    ):
        counts = {node.node.name: _counting(node) for node in (a, b)}
        await eventually(lambda: len(b.node.peers()) == 1)
        assert await b.rpc_and_wait(counts["b"], "home", 3) == "a"
        row = await b.repo.get("page_counts", "home")
        assert row is not None
        assert row["count"] == 3
        assert await b.rpc_primary("count", "home", 1) == "a"
        assert await a.rpc_region("region-b", "where") == "b"


def _counting(node: RunningNode) -> Callable[..., object]:
    @node.rpc
    def where() -> str:
        return node.node.name

    @node.rpc
    async def count(page: str, times: int) -> str:
        for _ in range(times):
            await node.repo.call(COUNT_VIEW, page)
        return node.node.name

    return count


async def test_a_write_waits_for_as_many_nodes_as_the_settings_say(tmp_path: Path) -> None:
    bus = {"a": free_port(), "b": free_port()}
    sure = {"LITECAST_REPLICATION__ACK": "all"}
    async with (
        running_node(config_of("a", tmp_path, bus, **sure)) as a,
        running_node(config_of("b", tmp_path, bus, **sure)) as b,
    ):
        await eventually(lambda: len(a.node.peers()) == 1)
        for number in range(10):
            page = f"page {number}"
            await a.repo.insert("page_counts", {"page": page, "count": number})
            assert await b.repo.get("page_counts", page) is not None
