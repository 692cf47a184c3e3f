"""Mode primary with real processes: one node writes, the others forward; when it is killed another one follows."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.convergent_nodes import introduce, kill, opened
from tests.support.node_process import NodeProcess, node_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TTL_S = 2.0
WITHIN_S = 40.0


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[NodeProcess]]:
    (tmp_path / "lease").mkdir()
    settings = {
        "replication__mode": "primary",
        "cluster__size": 3,
        "lease__provider": "object_store",
        "lease__url": f"file://{tmp_path / 'lease'}",
        "lease__ttl_s": TTL_S,
    }
    with node_processes(tmp_path) as make:
        found = [make(name, **settings) for name in "abc"]
        introduce(found)
        for node in found:
            node.start()
        yield found


def primary_of(nodes: Sequence[NodeProcess]) -> NodeProcess:
    """Waits until all of these nodes say that the same one of them is the primary, and that they are ready."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        said = [node.cluster() for node in nodes]
        told = {one["replication"]["primary"] for one in said if one}
        if len(told) == 1 and all(said) and all(node.get("/readyz")[0] == 200 for node in nodes):
            for node in nodes:
                if node.name in told:
                    return node
        assert time.monotonic() < deadline, [one and one["replication"] for one in said]
        time.sleep(0.05)


def count_views(node: NodeProcess, times: int) -> int:
    """Counts views until so many are acknowledged: how many tries were not."""
    unknown = 0
    for _ in range(times):
        while node.count_view("home")[0] != 200:
            unknown += 1
            time.sleep(0.1)
    return unknown


def shown(node: NodeProcess) -> int:
    with contextlib.closing(opened(node)) as file:
        row = file.execute("SELECT count FROM page_counts WHERE page = 'home'").fetchone()
    return 0 if row is None else int(row[0])


def test_each_node_counts_replicas_are_fenced_and_a_killed_primary_is_followed(nodes: list[NodeProcess]) -> None:
    first = primary_of(nodes)
    epoch = first.cluster()["replication"]["epoch"]
    for number, node in enumerate(nodes, start=1):
        assert count_views(node, 5) == 0
        assert shown(node) == 5 * number  # it can be read where it was asked for
    replica = next(node for node in nodes if node is not first)
    assert (replica.database.parent / ".primary").read_text().strip() == first.name
    assert not (first.database.parent / ".primary").exists()
    with contextlib.closing(sqlite3.connect(replica.database, isolation_level=None)) as program:
        with pytest.raises(sqlite3.IntegrityError, match=f"is written on the primary, which is node {first.name}"):
            program.execute("UPDATE page_counts SET count = 1000")
        replica.until(lambda: program.execute("SELECT count FROM page_counts").fetchall() == [(15,)])
    kill(first)
    others = [node for node in nodes if node is not first]
    unknown = count_views(others[0], 5)  # held meanwhile, and carried out by the next one
    second = primary_of(others)
    assert second is not first
    assert second.cluster()["replication"]["epoch"] > epoch
    first.start()
    assert primary_of(nodes) is second
    assert count_views(first, 5) == 0  # it forwards now
    for node in nodes:
        node.until(lambda node=node: 25 <= shown(node) <= 25 + unknown, WITHIN_S)  # type: ignore[misc]
