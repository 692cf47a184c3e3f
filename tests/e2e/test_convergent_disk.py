"""A convergent node whose disk is full: it says so, takes nothing, loses nothing, and goes on when there is room."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.convergent_nodes import Make, cluster_of, introduce, kill, start, under_load
from tests.support.node_process import node_processes
from tests.support.small_disk import small_disk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

DISK_BYTES = 12 * 1024 * 1024


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    with small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        yield disk


def fill(disk: Path) -> Path:
    """Takes all the room there is."""
    filler = disk / "somebody else's"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(disk).f_bavail == 0
    return filler


def test_a_full_disk_stops_its_node_only_and_loses_nothing(make: Make, tmp_path: Path, disk: Path) -> None:
    nodes = cluster_of(make, "ab")
    nodes += cluster_of(make, "c", database__path=str(disk / "app.db"), node__data_dir=str(disk / "data"))
    introduce(nodes)
    a, _, c = nodes
    start(*nodes)
    with under_load(tmp_path, nodes) as load:
        for writer in load.writers:
            writer.until_counted()
        filler = fill(disk)
        c.until(lambda: "full" in c.cluster()["replication"]["problem"])
        c.until(lambda: bool(load.writers[2].rolled_back()))
        assert c.get("/readyz")[0] == 503
        c.until(lambda: c.count_view("over-http")[0] == 503)  # refused, and not half done
        load.writers[0].until_counted()
        assert not a.cluster()["replication"]["problem"]
        kill(c)  # and whoever starts it again while the disk is full is told why it does not run
        c.start()
        assert c.ended() == 1
        assert "full" in c.log.splitlines()[-1]
        assert "Traceback" not in c.log
        filler.unlink()
        c.start_and_wait()
        load.writers[2].until_counted()
