"""`litecast restore --at`, `--position` and `backup verify`, as an operator gives them, beside nodes under load."""

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.convergent_nodes import TABLES, Load, Make, cluster_of, opened, rows, settle, start
from tests.support.node_process import NodeProcess, node_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

type Content = list[list[Any]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def litecast(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def refused(*arguments: str) -> str:
    """Its one line."""
    done = litecast(*arguments)
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("litecast: ")
    return line


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def content(node: NodeProcess) -> Content:
    return [rows(node, table) for table in TABLES]


def content_of(path: Path) -> Content:
    with contextlib.closing(sqlite3.connect(path)) as file:
        return [file.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in TABLES]


def uploaded(node: NodeProcess) -> str:
    """Waits until the bucket has what the node has, and gives its position."""
    node.until(lambda: node.cluster()["replication"]["backup"]["lacking"] == 0, within_s=30)
    return str(node.cluster()["replication"]["backup"]["position"])


def test_restores_to_moments_and_positions_have_the_rows_of_then_and_verify_finds_them_equal(
    make: Make, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/bucket"
    nodes = cluster_of(make, "ab", backup__url=url, backup__interval_s=0.2)
    start(*nodes)
    moments: dict[int, Content] = {}
    position = ""
    config = str(nodes[0].config_file)
    for _ in range(2):
        with Load(tmp_path, nodes, reads=False) as load:
            for writer in [load.writer(node) for node in nodes]:
                writer.until_counted(50)
            if moments:
                verified = litecast("backup", "verify", "--config", config)
                assert verified.returncode == 0, verified
                assert "the rows of all 3 tables are those of the database" in verified.stdout
        settle(nodes)
        moments[now_ms()] = content(nodes[0])
        position = uploaded(nodes[0])
        for node in nodes:
            assert node.count_view("after")[0] == 200
    settle(nodes)
    then: Content | None = None
    for number, (ms, then) in enumerate(moments.items()):
        target = tmp_path / f"at{number}.db"
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms // 1_000)) + f".{ms % 1_000:03}"
        done = litecast("restore", "--from", url, "--at", at, str(target))
        assert done.returncode == 0, done.stderr
        assert "(UTC, as no zone was given)" in done.stdout
        assert content_of(target) == then
    assert then != content(nodes[0])
    target = tmp_path / "position.db"
    done = litecast("restore", "--from", url, "--position", position, "--json", str(target))
    assert done.returncode == 0, done.stderr
    assert content_of(target) == then
    assert [path.name for path in tmp_path.glob("*restoring*")] == []

    listed = json.loads(litecast("backup", "list", "--from", url, "--json").stdout)
    early = refused("restore", "--from", url, "--at", "2001-01-01", str(tmp_path / "early.db"))
    assert "has nothing as early as 2001-01-01T00:00:00.000Z" in early
    assert listed["from_ms"] <= next(iter(moments)) < listed["newest_ms"]
    assert not list(tmp_path.glob("early.db"))

    sampled = litecast("backup", "verify", "--from", url, "--sample", "3", "--json")
    assert json.loads(sampled.stdout)["checked"] == 3
    damaged = min((tmp_path / "bucket" / "changesets").rglob("*-*"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = litecast("backup", "verify", "--from", url, "--sample", "100000")
    assert found.returncode == 1
    assert damaged.name in found.stdout


def test_a_verify_that_is_broken_off_leaves_nothing(make: Make, tmp_path: Path) -> None:
    """While it waits for what the bucket has not got: nobody uploads, since nobody runs."""
    (node,) = cluster_of(make, "a", backup__url=f"file://{tmp_path}/bucket")
    start(node)
    assert node.count_view("home")[0] == 200
    uploaded(node)
    node.stop()
    with contextlib.closing(opened(node)) as file:
        assert file.execute("SELECT count(*) FROM page_counts").fetchone() == (1,)
    (tmp_path / "scratch").mkdir()
    with sqlite3.connect(node.database) as connection:
        connection.execute("INSERT INTO clicks VALUES ('late', 'home')")
    command = ["backup", "verify", "--config", str(node.config_file), "--scratch", str(tmp_path / "scratch")]
    with subprocess.Popen([sys.executable, "-m", "app", *command]) as verify:
        while not list((tmp_path / "scratch").iterdir()):
            assert verify.poll() is None
            time.sleep(0.02)
        verify.send_signal(signal.SIGINT)
        assert verify.wait(20) == 130
    assert list((tmp_path / "scratch").iterdir()) == []
    assert "is the node running" in refused(*command, "--wait", "0.2")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--at", "yesterday"), "--at: not a moment: 'yesterday'; write it like 2026-"),
        (("--position", "here"), "--position: not a position: 'here'"),
        (("--position", ""), "--position: not a position"),
    ],
)
def test_what_is_no_moment_or_position_is_refused_in_one_line(
    tmp_path: Path, arguments: tuple[str, str], said: str
) -> None:
    assert said in refused("restore", "--from", f"file://{tmp_path}/bucket", *arguments, str(tmp_path / "out.db"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else_is_no_backup_to_restore_or_verify(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"...")
    url = f"file://{tmp_path}/photos"
    for command in (("restore", str(tmp_path / "out.db")), ("backup", "verify"), ("backup", "verify", "--sample")):
        assert "holds something else (holiday.jpg)" in refused(*command, "--from", url)
    assert [path.name for path in tmp_path.rglob("*")] == ["photos", "holiday.jpg"]
