"""The procedures of docs/operations.md that no other test goes through, on real nodes, in the words of that page."""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e.test_backup import reported_safe
from tests.support.convergent_nodes import (
    TABLES,
    VISITS,
    Load,
    Make,
    cluster_of,
    introduce,
    rows,
    settle,
    start,
)
from tests.support.node_process import NodeProcess, node_processes
from tests.support.primary_processes import primary_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NEW_SECRET = "another secret of the tests, as long as the first"
RESTORE_ONE_TABLE = """
ATTACH '{restored}' AS old;
BEGIN IMMEDIATE;
DELETE FROM main.clicks WHERE id NOT IN (SELECT id FROM old.clicks);
INSERT OR REPLACE INTO main.clicks (id, page) SELECT id, page FROM old.clicks;
COMMIT;
DETACH old;
"""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def litecast(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(node: NodeProcess, script: str) -> None:
    """As the sqlite3 shell would."""
    with contextlib.closing(sqlite3.connect(node.database, isolation_level=None, timeout=20)) as shell:
        shell.executescript(script)


def content(node: NodeProcess) -> list[object]:
    return [rows(node, table) for table in TABLES]


def restored_to(moment: datetime, url: str, target: Path) -> Path:
    litecast("restore", "--from", url, "--at", moment.isoformat(), str(target))
    return target


def sees_all(nodes: Sequence[NodeProcess]) -> None:
    for node in nodes:
        node.until(lambda node=node: len(node.peers_up()) == len(nodes) - 1, 40)  # type: ignore[misc]


def test_nodes_get_a_new_secret_come_and_go_one_by_one_and_a_table_and_all_of_it_go_back_to_a_moment(
    make: Make, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/bucket"
    nodes = cluster_of(make, "abc", backup__url=url, backup__interval_s=0.3)
    start(*nodes)
    with Load(tmp_path, nodes, reads=False) as load:
        writers = [load.writer(node) for node in nodes]
        for node in nodes:  # another version, another secret: one after the other, while their programs write
            node.stop()
            node.settings["bus__secret"] = NEW_SECRET
            node.start_and_wait()
            writers[0].until_counted(5)
        added = make("d", **VISITS, bus__secret=NEW_SECRET, backup__url=url, backup__interval_s=0.3)  # grow
        introduce([*nodes, added])
        added.start_and_wait()
        sees_all([*nodes, added])
        writers[2].until_counted(20)
    settle([*nodes, added])
    load.check([added])

    reported_safe(nodes[0])
    before, moment = content(nodes[0]), datetime.now(UTC)
    write(nodes[1], "DELETE FROM clicks WHERE page = 'home'; INSERT INTO clicks VALUES ('mistaken', 'news')")
    settle([*nodes, added])
    assert content(nodes[0]) != before
    restored = restored_to(moment, url, tmp_path / "restored.db")
    write(nodes[2], RESTORE_ONE_TABLE.format(restored=restored))
    settle([*nodes, added])
    assert content(nodes[0]) == before

    added.stop()  # shrink
    nodes[0].until(lambda: "d" not in nodes[0].peers_up(), 40)
    litecast("peers", "--config", str(nodes[0].config_file), "--forget", "d")
    settle(nodes)
    assert json.loads(litecast("drift", "--config", str(nodes[1].config_file), "--json"))["verdict"] == "equal"

    write(nodes[1], "UPDATE visits SET count = 0; DELETE FROM clicks")
    settle(nodes)
    for node in nodes:  # everything back to that moment
        node.stop()
        node.settings["backup__url"] = f"file://{tmp_path}/new-bucket"
        for file in node.database.parent.glob("litecast.db*"):
            file.unlink()
    shutil.copy(restored, nodes[0].database)
    nodes[0].start_and_wait()
    start(*nodes[1:])
    settle(nodes)
    assert content(nodes[0]) == before


def test_a_cluster_of_mode_primary_is_stopped_for_a_new_secret_and_grows_meanwhile(make: Make, tmp_path: Path) -> None:
    (tmp_path / "lease").mkdir()
    settings = {
        "replication__mode": "primary",
        "lease__provider": "object_store",
        "lease__url": f"file://{tmp_path / 'lease'}",
        "lease__ttl_s": 2.0,
        "cluster__size": 3,
    }
    nodes = [make(name, **settings) for name in "abc"]
    introduce(nodes)
    for node in nodes:
        node.start()
    for node in (primary_of(nodes), *nodes):
        assert node.count_view("home")[0] == 200
    for node in nodes:  # nobody writes any more: all have all
        node.until(lambda node=node: [count for _, count, *_ in rows(node, "page_counts")] == [4], 40)  # type: ignore[misc]
    for node in nodes:
        node.stop()
    nodes.append(make("d", **settings))
    introduce(nodes)
    for node in nodes:
        node.settings |= {"bus__secret": NEW_SECRET, "cluster__size": 4}
        node.start()
    primary_of(nodes)
    assert nodes[3].count_view("home")[0] == 200
    settle(nodes, tables=("page_counts",))
    assert [count for _, count, *_ in rows(nodes[0], "page_counts")] == [5]
    assert [node.cluster()["replication"]["tails"] for node in nodes] == [0, 0, 0, 0]
