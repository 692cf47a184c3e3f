"""Convergent nodes as processes, under load, while what can go wrong with processes does: nothing acknowledged is lost.

Writers are programs that know nothing of Litecast, and browsers that count over HTTP. Once all is healed, the files are
equal and whole, and each counter is exact."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.convergent_nodes import Make, cluster_of, kill, start, under_load
from tests.support.node_process import NodeProcess, node_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def trio(make: Make) -> list[NodeProcess]:
    nodes = cluster_of(make, "abc")
    start(*nodes)
    return nodes


def test_killed_nodes_and_killed_writers_lose_nothing_that_was_acknowledged(make: Make, tmp_path: Path) -> None:
    nodes = trio(make)
    a, b, c = nodes
    with under_load(tmp_path, nodes) as load:
        kill(b)
        for writer in load.writers:
            writer.until_counted()  # on b's file, too: nobody needs the node to be captured
        load.writers[2].end()
        b.start_and_wait()
        kill(a)
        kill(c)
        load.writers[1].until_counted()
        load.writer(c).until_counted()
        a.start_and_wait()
        c.start_and_wait()
        load.writers[0].until_counted()
    status = subprocess.run(
        [sys.executable, "-m", "app", "status", "--url", a.url, "--json"], capture_output=True, text=True, timeout=30
    )
    assert status.returncode == 0, status.stdout + status.stderr
    told = json.loads(status.stdout)
    assert told["ready"]
    assert not told["replication"]["problem"]
    assert not told["replication"]["counts"].get("forks")
    assert not told["replication"]["counts"].get("new_sites")


def test_a_node_that_stands_still_and_a_writer_that_holds_the_lock_hold_up_only_their_own_file(
    make: Make, tmp_path: Path
) -> None:
    nodes = trio(make)
    a, b, c = nodes
    with under_load(tmp_path, nodes) as load:
        holder = load.writer(c, "--stop-inside", "10")
        c.until(holder.is_stopped)
        b.signal(signal.SIGSTOP)
        a.until(lambda: "b" not in a.peers_up())
        c.until(lambda: "locked" in c.cluster()["replication"]["problem"])
        load.writers[0].until_counted()  # a works as ever
        b.signal(signal.SIGCONT)
        holder.signal(signal.SIGCONT)
        holder.until_counted()
        load.writers[1].until_counted()
        c.until(lambda: not c.cluster()["replication"]["problem"])
    assert not a.cluster()["replication"]["counts"].get("problems")
