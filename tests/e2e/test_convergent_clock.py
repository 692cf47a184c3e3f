"""A real node whose clock was far ahead, and is right again: what it wrote is everywhere at once, and counted once."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replication.convergent.for_file import connect
from replication.engine.folding import fold
from tests.support.convergent_nodes import Make, cluster_of, rows, settle, start
from tests.support.node_process import NodeProcess, node_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

AHEAD_MS = 3_600_000
COUNT = "INSERT INTO visits (page, count) VALUES ('home', {0}) ON CONFLICT (page) DO UPDATE SET count = count + {0}"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def write(node: NodeProcess, *statements: str, stamped_ms: int | None = None) -> None:
    """As any program would; with `stamped_ms` the changes are folded as by a node whose clock shows that."""
    with contextlib.closing(connect(node.database)) as connection:
        for statement in statements:
            connection.execute(statement)
        if stamped_ms is not None:
            assert fold(connection, now_ms=stamped_ms) is not None


def test_what_a_clock_an_hour_ahead_stamped_is_stamped_again_once_it_is_right(make: Make) -> None:
    nodes = cluster_of(make, "abc")
    a, b, c = nodes
    start(*nodes)
    write(a, COUNT.format(5))
    settle(nodes)
    a.stop()
    ahead_ms = time.time_ns() // 1_000_000 + AHEAD_MS
    write(a, COUNT.format(10), "INSERT INTO clicks VALUES ('ahead', 'home')", stamped_ms=ahead_ms)
    write(b, COUNT.format(100))
    start(a)
    write(a, COUNT.format(1000))
    settle(nodes)
    assert rows(b, "visits") == rows(c, "visits") == [("home", 1115, None)]
    assert rows(c, "clicks") == [("ahead", "home")]
    standing = a.cluster()["replication"]
    assert standing["counts"]["stamped_again"] == 1
    assert standing["notes"] == []
    write(a, COUNT.format(1))
    write(c, COUNT.format(1))
    settle(nodes)
    assert rows(b, "visits") == [("home", 1117, None)]
