"""Nodes that a program runs in its own process, over real sockets, and what they do for each other."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from app.config import Config, Mode, load_config
from app.counter import COUNT_VIEW
from app.running import running_node
from app.running_node import RunningNode
from cluster.errors import LeaseUrlError
from replication.backup.errors import BackupUrlError
from replication.database_file import attach
from replication.engine.refusals import TableChoice
from replication.errors import DatabaseError
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


@pytest.mark.parametrize("one_writer", [False, True])
async def test_tables_attached_for_another_mode_are_refused_in_naive_and_warned_of_in_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, one_writer: bool
) -> None:
    path, mode = tmp_path / "app.db", "primary" if one_writer else "convergent"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, text)")
    attach(path, [TableChoice(name="notes")], cluster="litecast", one_writer=one_writer)
    more = {"LITECAST_DATABASE__PATH": str(path), "LITECAST_DISCOVERY__PEERS": ""}
    config = config_of("a", tmp_path, {"a": free_port()}, **more, LITECAST_REPLICATION__MODE="naive")
    with pytest.raises(DatabaseError, match=f"attached for mode {mode}, .*litecast detach {path}.* mode = .{mode}"):
        async with running_node(config):
            pass
    async with running_node(replace(config, replication=replace(config.replication, mode=Mode.NONE))):
        assert f"attached for mode {mode}, and in mode none nobody sends what is written there" in caplog.text


@pytest.mark.parametrize(
    ("key", "url", "error"),
    [("LEASE__PROVIDER", "consul", LeaseUrlError), ("BACKUP__URL", "ftp://host/x", BackupUrlError)],
)
async def test_a_url_that_cannot_be_used_is_said_before_the_database_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, url: str, error: type[Exception]
) -> None:
    monkeypatch.delenv("FLY_CONSUL_URL", raising=False)
    more = {"LITECAST_DISCOVERY__PEERS": "", "LITECAST_CLUSTER__SIZE": "1", f"LITECAST_{key}": url}
    config = config_of("a", tmp_path, {"a": free_port()}, **more)
    config.database.path.touch()
    with pytest.raises(error):
        async with running_node(config):
            pass
    assert config.database.path.read_bytes() == b""


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
