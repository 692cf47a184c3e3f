"""What real nodes in mode primary say to programs beside them, and take from them."""

import contextlib
import signal
import sqlite3
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from litecast import PrimaryStatements, detach
from replication.epoch_position import EpochPosition
from replication.file_position import FilePosition
from replication.middleware.node_file import NodeFile, Standing, path_of
from tests.support.convergent_nodes import introduce, opened
from tests.support.node_process import NodeProcess, node_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[NodeProcess, NodeProcess]]:
    """`a`, which is always the primary, since no other is in that region, and `b`."""
    with node_processes(tmp_path) as make:
        found = [
            make(
                name,
                replication__mode="primary",
                lease__provider="static",
                lease__region="ams",
                node__region=region,
                http__program=f"127.0.0.1:{port}",
            )
            for name, region, port in (("a", "ams", 8001), ("b", "syd", 8002))
        ]
        introduce(found)
        for node in found:
            node.start()
        a, b = found
        b.until(lambda: said(b).says.primary == "a" and b.get("/readyz")[0] == 200 and "a" in b.peers_up())
        a.until(lambda: said(a).may_write)
        yield a, b


def said(node: NodeProcess) -> Standing:
    node.until(lambda: path_of(node.database).exists())
    found = NodeFile(node.database).look()
    assert found is not None
    return found


def shown(node: NodeProcess) -> int:
    with contextlib.closing(opened(node)) as file:
        row = file.execute("SELECT count FROM page_counts WHERE page = 'home'").fetchone()
    return 0 if row is None else int(row[0])


def wait_for(node: NodeProcess, position: EpochPosition) -> None:
    file = FilePosition(node.database)
    node.until(lambda: file.has_reached(position), 5.0)


def test_the_counters_page_which_writes_though_it_is_a_get_is_counted_on_the_primary_from_every_node(
    nodes: tuple[NodeProcess, NodeProcess],
) -> None:
    a, b = nodes
    for number, node in enumerate((b, a, b), start=1):
        with urllib.request.urlopen(f"{node.url}/", timeout=10) as page:
            assert page.status == 200
        assert shown(node) == number
    b.until(lambda: shown(b) == shown(a) == 3)


def test_programs_learn_where_others_are_and_whether_they_may_write(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    a, b = nodes
    b.until(lambda: said(b).says.others["a"].url == "http://127.0.0.1:8001")
    a.until(lambda: said(a).says.others["b"].url == "http://127.0.0.1:8002")
    assert said(a).says.others["b"].region == "syd"
    assert said(a).says.primary == said(b).says.primary == "a"
    assert not said(b).may_write
    assert said(a).says.key == said(b).says.key
    a.signal(signal.SIGSTOP)
    b.until(lambda: not said(a).may_write and not said(a).is_awake, 5.0)
    a.signal(signal.SIGCONT)
    a.until(lambda: said(a).may_write, 5.0)
    a.stop()
    stopped = NodeFile(a.database).look()
    assert stopped is not None
    assert not stopped.may_write
    detach(a.database)
    assert not path_of(a.database).exists()


def test_a_program_writes_by_statement_on_either_node(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    a, b = nodes
    insert = "INSERT INTO page_counts (page, count) VALUES (?, 1)"
    assert PrimaryStatements(b.database).execute(insert, ("by b",)) == 1
    assert PrimaryStatements(a.database).execute(insert, ("by a",)) == 1
    with contextlib.closing(opened(b)) as file:
        b.until(lambda: len(file.execute("SELECT * FROM page_counts").fetchall()) == 2)


def test_a_position_of_the_primarys_file_is_reached_on_the_other(nodes: tuple[NodeProcess, NodeProcess]) -> None:
    a, b = nodes
    with contextlib.closing(sqlite3.connect(a.database, isolation_level=None, timeout=10)) as program:
        for number in range(20):
            program.execute("INSERT INTO page_counts (page, count) VALUES (?, 1)", [f"p{number}"])
            program.execute("UPDATE page_counts SET count = count")  # changes nothing
            position = FilePosition(a.database).now()
            assert position is not None
            wait_for(b, position)
            with contextlib.closing(opened(b)) as file:
                assert len(file.execute("SELECT * FROM page_counts").fetchall()) == number + 1
