"""`litecast node` as a process: it starts whole, serves, survives a kill, and stops when it is told."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.node_process import SECRET, NodeProcess, listens, node_processes

type Make = Callable[..., NodeProcess]
STOP_WITHIN_S = 2.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def pair(make: Make) -> tuple[NodeProcess, NodeProcess]:
    """Two nodes that are up for each other. Only the second was told where the first is."""
    first, second = make("one", node__region="ams"), make("two", node__region="iad")
    second.settings |= {"discovery__method": "static", "discovery__peers": [first.bus_address]}
    first.start_and_wait()
    second.start_and_wait()
    first.until(lambda: first.peers_up() == {"two"})
    second.until(lambda: second.peers_up() == {"one"})
    return first, second


def count_in_file(node: NodeProcess, page: str) -> int:
    connection = sqlite3.connect(f"file:{node.database}?mode=ro", uri=True)
    try:
        row = connection.execute("SELECT count FROM page_counts WHERE page = ?", [page]).fetchone()
    finally:
        connection.close()
    return int(row[0]) if row else 0


def test_first_lines_of_the_log_say_who_where_mode_peers_and_database(make: Make) -> None:
    node = make("one", node__region="ams", discovery__method="static", discovery__peers=["127.0.0.1:9"])
    node.start_and_wait()
    first_lines = "\n".join(node.log.splitlines()[:4])
    for fact in ("node one (ams)", "cluster litecast", "mode naive", "127.0.0.1:9", str(node.database), node.url):
        assert fact in first_lines
    assert SECRET not in node.log


def test_a_view_counted_on_one_node_is_in_the_others_file(make: Make) -> None:
    first, second = pair(make)
    assert first.count_view("home") == (200, {"page": "home", "count": 1, "node": "one"})
    second.until(lambda: count_in_file(second, "home") == 1)
    assert second.get("/api/pages/home") == (200, {"page": "home", "count": 1, "node": "two"})
    assert second.get("/api/pages/never")[0] == 404


def test_api_cluster_has_the_documented_shape(make: Make) -> None:
    first, second = pair(make)
    cluster = first.cluster()
    assert set(cluster) == {"node", "mode", "peers", "counters"}
    assert cluster["node"]["name"] == "one"
    assert cluster["node"]["region"] == "ams"
    assert cluster["node"]["incarnation"]
    assert cluster["mode"] == "naive"
    assert cluster["peers"] == [
        {"name": "two", "region": "iad", "address": f"tcp://{second.bus_address}", "state": "up"}
    ]
    assert all(isinstance(count, int) for count in cluster["counters"].values())
    assert SECRET not in json.dumps(cluster)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_within_two_seconds_also_with_streams_open(make: Make, number: signal.Signals) -> None:
    first, second = pair(make)
    stream = urllib.request.urlopen(first.url + "/api/live", timeout=10)
    stream.readline()
    rest = threading.Thread(target=stream.read)
    rest.start()
    began = time.monotonic()
    first.signal(number)
    assert first.ended() == 0, first.log
    assert time.monotonic() - began < STOP_WITHIN_S
    rest.join(5)
    assert not rest.is_alive()
    second.until(lambda: second.peers_up() == set())
    assert "node down: one (ams): left" in second.log, "it said goodbye"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_waits_for_a_first_copy_stops_it_at_once(make: Make, number: signal.Signals) -> None:
    nobody = {"discovery__method": "static", "discovery__peers": ["127.0.0.1:9"], "replication__join_timeout_s": 60}
    node = make("one", replication__mode="convergent", **nobody)
    node.start()
    node.until(lambda: listens(node.bus_port))
    node.signal(number)
    assert node.ended(STOP_WITHIN_S) == 0, node.log
    assert "a signal came before the node was up" in node.log
    assert not node.database.exists()


def test_a_killed_node_is_noticed_and_comes_back_with_its_data(make: Make) -> None:
    first, second = pair(make)
    first.count_view("home")
    second.until(lambda: count_in_file(second, "home") == 1)
    before = second.cluster()["node"]["incarnation"]
    second.signal(signal.SIGKILL)
    second.ended()
    first.until(lambda: first.peers_up() == set(), within_s=2)
    assert first.cluster()["peers"][0]["state"] == "down"
    first.count_view("home")
    second.start_and_wait()
    first.until(lambda: first.peers_up() == {"two"})
    assert second.cluster()["node"]["incarnation"] != before
    assert count_in_file(second, "home") == 1, "naive: it never learns what it missed"
    second.count_view("home")
    first.until(lambda: first.counter("casts_received") > 0)  # it is not mute


def test_a_node_that_hangs_is_suspect_then_down_and_comes_back(make: Make) -> None:
    first, second = pair(make)
    second.signal(signal.SIGSTOP)
    states: list[str] = []

    def state() -> str:
        states.append(first.cluster()["peers"][0]["state"])
        return states[-1]

    first.until(lambda: state() == "down")
    assert "suspect" in states
    second.signal(signal.SIGCONT)
    first.until(lambda: first.peers_up() == {"two"})
    second.until(lambda: second.peers_up() == {"one"})


def test_mode_none_replicates_nothing(make: Make) -> None:
    first, second = make("one", replication__mode="none"), make("two", replication__mode="none")
    second.settings |= {"discovery__method": "static", "discovery__peers": [first.bus_address]}
    first.start_and_wait()
    second.start_and_wait()
    first.until(lambda: first.peers_up() == {"two"})
    assert first.count_view("home")[0] == 200
    assert first.counter("casts_sent") == 0
    assert count_in_file(second, "home") == 0


def test_status_and_peers_show_a_running_node(make: Make) -> None:
    first, _ = pair(make)

    def litecast(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "app", *arguments], capture_output=True, text=True, check=True, timeout=20
        ).stdout

    assert json.loads(litecast("status", "--config", str(first.config_file), "--json"))["ready"] is True
    assert "one (ams)" in litecast("status", "--url", first.url)
    assert json.loads(litecast("peers", "--url", first.url, "--json"))["peers"][0]["name"] == "two"
    assert "two" in litecast("peers", "--config", str(first.config_file))


def test_metrics_are_served_for_prometheus(make: Make) -> None:
    first, _ = pair(make)
    first.count_view("home")
    with urllib.request.urlopen(first.url + "/metrics", timeout=5) as answer:
        text = answer.read().decode()
    assert "litecast_node_info{" in text
    assert 'cause="casts_sent"' in text
    assert SECRET not in text
