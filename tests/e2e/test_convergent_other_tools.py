"""What other tools do to the database of a convergent node, running or not: nothing is lost, and no node ends by it."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.convergent_nodes import Make, cluster_of, rows, settle, start
from tests.support.node_process import NodeProcess, node_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ONE_MORE = "INSERT INTO visits (page, count) VALUES ('home', 1) ON CONFLICT (page) DO UPDATE SET count = count + 1"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def write(node: NodeProcess, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(node.database, timeout=20, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def journal_mode(node: NodeProcess, wanted: str) -> str:
    """Asks for a journal mode, and says which one the file has then."""
    with contextlib.closing(sqlite3.connect(node.database, timeout=0, isolation_level=None)) as connection:
        with contextlib.suppress(sqlite3.OperationalError):  # locked: others have it open
            connection.execute(f"PRAGMA journal_mode = {wanted}")
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        return str(mode)


def test_a_file_that_is_vacuumed_and_whose_journal_mode_is_changed_loses_nothing(make: Make) -> None:
    nodes = cluster_of(make, "ab")
    a, b = nodes
    start(*nodes)
    write(a, ONE_MORE, "VACUUM", ONE_MORE)
    settle(nodes)
    assert journal_mode(a, "DELETE") == "wal", "not while a node has it open"
    write(a, ONE_MORE)
    settle(nodes)
    a.stop()
    assert journal_mode(a, "DELETE") == "delete"
    write(a, ONE_MORE, "VACUUM")
    start(a)
    assert journal_mode(a, "WAL") == "wal"
    write(a, ONE_MORE)
    write(b, ONE_MORE)
    settle(nodes)
    assert rows(b, "visits") == [("home", 6, None)]
    assert not a.cluster()["replication"]["counts"].get("new_sites")


def test_a_table_that_is_dropped_on_one_node_is_dropped_nowhere_else(make: Make) -> None:
    nodes = cluster_of(make, "ab")
    a, b = nodes
    start(*nodes)
    write(a, ONE_MORE)
    settle(nodes)
    write(b, "DROP TABLE visits")
    write(a, ONE_MORE, "INSERT INTO clicks VALUES ('later', 'home')")
    settle(nodes, tables=("clicks", "page_counts"))
    assert rows(a, "visits") == [("home", 2, None)]
    b.stop()
    start(b)
    settle(nodes, tables=("clicks", "page_counts"))
    assert rows(a, "visits") == [("home", 2, None)]
    assert b.cluster()["replication"]["counts"].get("actor_crashes") is None


def test_a_database_of_a_newer_litecast_or_of_another_cluster_does_not_start(make: Make) -> None:
    (node,) = cluster_of(make, "a")
    start(node)
    write(node, ONE_MORE)
    node.stop()
    node.settings["cluster__name"] = "another"
    node.start()
    assert node.ended() == 1
    assert "belongs to cluster litecast, not to another" in node.log.splitlines()[-1]
    del node.settings["cluster__name"]
    write(node, "UPDATE _litecast_state SET format = 99")
    node.start()
    assert node.ended() == 1
    assert "format 99" in node.log.splitlines()[-1]
    assert "upgrade litecast" in node.log.splitlines()[-1]
    assert "Traceback" not in node.log
    write(node, "UPDATE _litecast_state SET format = 3")
    start(node)
    assert rows(node, "visits") == [("home", 1, None)]
