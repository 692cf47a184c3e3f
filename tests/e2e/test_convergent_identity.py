"""Copies, restores, forks and databases that were there before, with real nodes: nothing that was sent is lost, nothing
is counted twice, and all files end equal."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.convergent_nodes import VISITS, Make, cluster_of, create, introduce, rows, settle, start
from tests.support.node_process import NodeProcess, node_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ONE_MORE = "INSERT INTO visits (page, count) VALUES ('home', 1) ON CONFLICT (page) DO UPDATE SET count = count + 1"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def write(database: Path, *statements: str) -> None:
    """As any program would, whether a node runs or not."""
    with contextlib.closing(sqlite3.connect(database, timeout=20, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def count(node: NodeProcess, times: int) -> None:
    write(node.database, *[ONE_MORE] * times)


def copy_of(node: NodeProcess, to: Path) -> Path:
    """As any tool would make one, the node running or not."""
    with (
        contextlib.closing(sqlite3.connect(node.database, timeout=20)) as source,
        contextlib.closing(sqlite3.connect(to)) as target,
    ):
        source.backup(target)
    return to


def put_back(node: NodeProcess, copy: Path) -> None:
    """In the place of the file of a node that does not run."""
    for suffix in ("", "-wal", "-shm"):
        node.database.with_name(node.database.name + suffix).unlink(missing_ok=True)
    shutil.copyfile(copy, node.database)


def site(node: NodeProcess) -> str:
    return str(node.cluster()["replication"]["site"])


def home(node: NodeProcess) -> int:
    found = {page: count for page, count, _ in rows(node, "visits")}
    return int(found["home"])


def test_older_copies_put_back_into_stopped_and_running_nodes_and_into_another(make: Make, tmp_path: Path) -> None:
    nodes = cluster_of(make, "ab")
    a, b = nodes
    start(*nodes)
    count(a, 3)
    count(b, 2)
    settle(nodes)
    older = copy_of(a, tmp_path / "older.db")
    count(a, 4)
    settle(nodes)
    assert home(b) == 9
    former = site(a)

    a.stop()
    put_back(a, older)
    start(a)
    settle(nodes)
    assert home(a) == 9, "what the copy does not have, the others do"
    assert site(a) != former
    count(a, 1)
    settle(nodes)
    assert home(b) == 10

    former = site(a)
    with (
        contextlib.closing(sqlite3.connect(older)) as source,
        contextlib.closing(sqlite3.connect(a.database, timeout=20)) as live,
    ):
        source.backup(live)
    count(a, 1)
    a.until(lambda: site(a) != former)
    settle(nodes)
    assert home(b) == 11

    b.stop()
    put_back(b, copy_of(a, tmp_path / "of a.db"))
    start(b)
    count(b, 1)
    settle(nodes)
    assert home(a) == 12
    assert site(a) != site(b)


def test_a_copy_beside_the_original_and_an_empty_disk_join_as_nodes_of_their_own(make: Make, tmp_path: Path) -> None:
    nodes = [make(name, **VISITS) for name in "abc"]
    introduce(nodes)
    a, b, c = nodes
    create(a.database)
    start(a)
    count(a, 5)
    a.until(lambda: a.cluster()["replication"]["sites"] == 1)
    b.database.parent.mkdir(parents=True)
    copy_of(a, b.database)
    start(b)
    assert not c.database.exists()
    start(c)
    assert "the database is a copy of a peer's" in c.log
    for node in nodes:
        count(node, 1)
    settle(nodes)
    assert home(a) == 8
    assert len({site(node) for node in nodes}) == 3


def test_a_lone_node_that_was_put_back_meets_its_peers_again_and_both_histories_are_kept(
    make: Make, tmp_path: Path
) -> None:
    nodes = cluster_of(make, "ab")
    a, b = nodes
    start(*nodes)
    count(a, 1)
    settle(nodes)
    a.stop()
    machine = shutil.copytree(a.folder, tmp_path / "the whole machine, earlier")
    start(a)
    write(a.database, "INSERT INTO clicks VALUES ('first branch', 'home')")
    settle(nodes)
    forked = site(a)
    for node in nodes:
        node.stop()
    shutil.rmtree(a.folder / "data")
    shutil.copytree(machine / "data", a.folder / "data")
    a.start_and_wait()  # alone: nobody is there who could say that its site had gone on
    write(a.database, "INSERT INTO clicks VALUES ('second branch', 'home')")
    a.until(lambda: a.cluster()["replication"]["counts"].get("folded", 0) > 0)
    assert site(a) == forked
    start(b)
    settle(nodes)
    assert {click for click, _ in rows(b, "clicks")} == {"first branch", "second branch"}
    assert site(a) != forked
    assert any("forked" in note for note in a.cluster()["replication"]["notes"])
    count(a, 1)
    count(b, 1)
    settle(nodes)
    assert home(a) == 3


def test_files_with_rows_and_files_without_become_one_cluster_and_nothing_is_counted_twice(make: Make) -> None:
    nodes = cluster_of(make, "abc")
    a, b, c = nodes
    seeded = "INSERT INTO visits VALUES ('home', 30, 'Home'), ('same', 7, NULL)"
    write(a.database, seeded)
    write(b.database, seeded, "INSERT INTO visits VALUES ('only b', 2, NULL)")
    start(*nodes)  # c has no rows, b some of its own
    settle(nodes)
    assert rows(c, "visits") == [("home", 30, "Home"), ("only b", 2, None), ("same", 7, None)]
    for node in nodes:
        count(node, 2)
    settle(nodes)
    assert home(c) == 36


def test_a_naive_cluster_that_drifted_is_switched_and_ends_equal(make: Make) -> None:
    nodes = [make(name) for name in "ab"]
    introduce(nodes)
    for node in nodes:
        create(node.database)
    start(*nodes)
    a, b = nodes
    for node in nodes:
        assert node.count_view("home")[0] == 200
    write(a.database, "INSERT INTO page_counts (page, count) VALUES ('adrift', 30)")
    write(b.database, "INSERT INTO page_counts (page, count) VALUES ('adrift', 28)")
    write(b.database, ONE_MORE)  # naive mode sends nothing of this
    for node in nodes:
        node.stop()
        node.settings |= VISITS
    start(*nodes)
    settle(nodes)
    assert {page: count for page, count, *_ in rows(b, "page_counts")}["adrift"] == 30, "the larger one, not the sum"
    assert home(a) == 1
    for node in nodes:
        assert node.count_view("adrift")[0] == 200
    settle(nodes)
    assert {page: count for page, count, *_ in rows(a, "page_counts")}["adrift"] == 32
