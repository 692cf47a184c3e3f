"""`litecast drift` on real nodes: exact numbers where there is drift, and no word of drift where there is none."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.node_process import SECRET, NodeProcess, node_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

type Make = Callable[..., NodeProcess]

NAMES = ("one", "two", "three")
NOTES = "CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, body, seen)"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def same_count(page: str, one: NodeProcess, other: NodeProcess) -> bool:
    return len({node.get(f"/api/pages/{page}")[1].get("count") for node in (one, other)}) == 1


def trio(make: Make, mode: str, *, schema: str = "", **settings: Any) -> list[NodeProcess]:
    nodes = [make(name, replication__mode=mode, **settings) for name in NAMES]
    addresses = [node.bus_address for node in nodes]
    for node in nodes:
        node.settings |= {"discovery__method": "static", "discovery__peers": addresses}
        if schema:
            node.database.parent.mkdir(parents=True)
            with opened(node) as connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(schema)
        node.start()
    for node in nodes:
        node.until(partial(is_whole, node), within_s=60)
    return nodes


def is_whole(node: NodeProcess) -> bool:
    return node.peers_up() == set(NAMES) - {node.name} and node.get("/readyz")[0] == 200


@contextlib.contextmanager
def opened(node: NodeProcess) -> Iterator[sqlite3.Connection]:
    """As any other process opens the file."""
    connection = sqlite3.connect(node.database, isolation_level=None, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def write(node: NodeProcess, sql: str, *, captured: bool = True) -> None:
    with opened(node) as connection:
        if not captured:
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)
        connection.execute(sql)


def litecast(*arguments: str, secret: bool = True) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"LITECAST_BUS__SECRET": SECRET} if secret else {})
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env=environment,
    )


def drift(node: NodeProcess, *arguments: str) -> tuple[int, Any]:
    done = litecast("drift", "--url", node.url, "--json", *arguments)
    return done.returncode, json.loads(done.stdout)


def asked(node: NodeProcess, path: str) -> Any:
    with urllib.request.urlopen(node.url + path, timeout=60) as answer:
        return json.loads(answer.read())


def rows_of(node: NodeProcess, sql: str) -> list[Any]:
    with opened(node) as connection:
        return connection.execute(sql).fetchall()


def test_a_naive_cluster_that_drifted_shows_exact_numbers(make: Make) -> None:
    one, two, three = trio(make, "naive")
    assert drift(one)[0] == 0
    three.signal(signal.SIGKILL)
    three.ended()
    one.until(lambda: one.peers_up() == {"two"})
    for page, views in (("home", 5), ("about", 3)):
        for _ in range(views):
            assert one.count_view(page)[0] == 200
            two.until(partial(same_count, page, one, two))
    status, found = drift(two)
    assert (status, found["verdict"], found["unreachable"]) == (2, "unknown", {"three": "it is down"})
    three.start_and_wait()
    one.until(lambda: one.peers_up() == {"two", "three"})
    three.until(lambda: three.peers_up() == {"one", "two"})
    for node in (one, three):
        status, found = drift(node, "--rows")
        assert status == 1
        (table,) = found["tables"]
        assert (table["name"], table["rows_differing"], table["counters"]) == ("page_counts", 2, {"count": 8})
        counts = {
            row["key"][0]: {node: None if shown is None else shown["count"] for node, shown in row["nodes"].items()}
            for row in table["rows"]
        }
        assert counts == {
            "home": {"one": 5, "two": 5, "three": None},
            "about": {"one": 3, "two": 3, "three": None},
        }
    text = litecast("drift", "--config", str(one.config_file), "--rows").stdout
    assert "three  has no such row" in text
    assert "2 rows differ; count by 8" in text


def test_rows_are_not_shown_without_the_secret(make: Make) -> None:
    node = make("alone")
    node.start_and_wait()
    refused = litecast("drift", "--url", node.url, "--rows", secret=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "LITECAST_BUS__SECRET" in refused.stderr
    assert litecast("drift", "--url", node.url, secret=False).returncode == 0


def test_a_convergent_cluster_raises_no_alarm_under_load_and_is_equal_after_it(make: Make) -> None:
    nodes = trio(make, "convergent")
    done = threading.Event()

    def load(node: NodeProcess) -> None:
        number = 0
        while not done.wait(0.02):
            node.count_view(f"page-{number % 7}")
            number += 1

    threads = [threading.Thread(target=load, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    try:
        verdicts = [asked(node, "/api/drift")["verdict"] for node in (*nodes, *nodes)]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert "drift" not in verdicts
    assert "equal" in verdicts, "it can be told while somebody writes"
    assert drift(nodes[0])[0] == 0
    counts = [rows_of(node, "SELECT page, count FROM page_counts ORDER BY page") for node in nodes]
    assert len(counts[0]) == 7
    assert counts[0] == counts[1] == counts[2]


def test_a_row_that_was_changed_past_capture_is_drift_and_is_listed(make: Make) -> None:
    one, two, three = trio(make, "convergent", schema=NOTES, **{"replication.tables.notes__drift_ignore": ["seen"]})
    write(two, "INSERT INTO notes VALUES ('a', 'hello', 0), ('b', 'world', 0)")
    one.until(lambda: len(rows_of(one, "SELECT * FROM notes")) == len(rows_of(three, "SELECT * FROM notes")) == 2)
    assert drift(one)[0] == 0
    write(three, "UPDATE notes SET seen = 1", captured=False)
    assert drift(one)[0] == 0, "that column is left out"
    write(three, "UPDATE notes SET body = 'goodbye' WHERE id = 'a'", captured=False)
    status, found = drift(one, "--rows")
    assert status == 1
    (table,) = [table for table in found["tables"] if table["name"] == "notes"]
    assert table["rows"] == [
        {"key": ["a"], "nodes": {"one": {"body": "hello"}, "two": {"body": "hello"}, "three": {"body": "goodbye"}}}
    ]
    three.signal(signal.SIGKILL)
    three.ended()
    one.until(lambda: one.peers_up() == {"two"})
    status, found = drift(one)
    assert (status, found["unreachable"]) == (2, {"three": "it is down"})


@pytest.mark.parametrize(("how", "body"), [("restore", "hello"), ("adopt", "goodbye")])
def test_a_row_that_was_changed_past_capture_is_repaired_as_somebody_chooses(make: Make, how: str, body: str) -> None:
    one, two, three = trio(make, "convergent", schema=NOTES, **{"replication.tables.notes__merge": "cell"})
    write(two, "INSERT INTO notes VALUES ('a', 'hello', 0), ('b', 'world', 0)")
    one.until(lambda: len(rows_of(one, "SELECT * FROM notes")) == len(rows_of(three, "SELECT * FROM notes")) == 2)
    write(three, "UPDATE notes SET body = 'goodbye' WHERE id = 'a'", captured=False)
    undecided = litecast("drift", "--url", one.url, "--repair")
    assert undecided.returncode == 2
    assert "--repair adopt" in undecided.stderr
    assert litecast("drift", "--url", one.url, "--repair", how, secret=False).returncode == 2
    assert drift(one)[0] == 1, "neither of these has changed anything"
    done = litecast("drift", "--config", str(one.config_file), "--repair", how)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"notes: 1 of 1 damaged row(s) {'restored' if how == 'restore' else 'adopted'}" in done.stdout
    for node in (one, two, three):
        assert rows_of(node, "SELECT id, body FROM notes ORDER BY id") == [("a", body), ("b", "world")]


def test_metrics_show_drift_a_moment_after_somebody_looked(make: Make) -> None:
    one, _, three = trio(make, "naive")

    def metric(line: str) -> bool:
        with urllib.request.urlopen(one.url + "/metrics", timeout=5) as answer:
            return line in answer.read().decode().splitlines()

    one.until(lambda: metric('litecast_drift_verdict{verdict="equal"} 1.0'))
    write(three, "INSERT INTO page_counts VALUES ('home', 9, 0, 0)")
    one.until(lambda: metric('litecast_drift_counter{column="count",table="page_counts"} 9.0'))
    assert metric('litecast_drift_verdict{verdict="drift"} 1.0')
