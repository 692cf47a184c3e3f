"""`litecast run` as a process: any program beside a node."""

import contextlib
import os
import pty
import signal
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.convergent_nodes import introduce
from tests.support.node_process import SECRET, NodeProcess, listens, node_processes

type Make = Callable[..., NodeProcess]

pytestmark = pytest.mark.timeout(120)

PR_SET_CHILD_SUBREAPER = 36
MODE_NONE = {"replication__mode": "none"}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def beside(node: NodeProcess, *program: str) -> NodeProcess:
    """The node, with a program beside it. None is started."""
    litecast = [sys.executable, "-m", "app", "run", "--config", str(node.config_file)]
    node.command = [*litecast, "--", *program]
    return node


def shell(node: NodeProcess, script: str) -> NodeProcess:
    return beside(node, "sh", "-c", script)


def python(node: NodeProcess, script: str) -> NodeProcess:
    return beside(node, sys.executable, "-c", f"import os, signal, sqlite3, sys, time\n{script}")


def rows(node: NodeProcess, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(f"file:{node.database}?mode=ro", uri=True, timeout=20)) as connection:
        return connection.execute(sql).fetchall()


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_serves_what_a_node_does_but_no_counter_and_the_program_knows_no_secret(make: Make, tmp_path: Path) -> None:
    node = python(
        make("one", **MODE_NONE),
        "connection = sqlite3.connect(os.environ['DATABASE_PATH'])\n"
        "connection.execute('CREATE TABLE mine (id TEXT PRIMARY KEY)')\n"
        f"open({str(tmp_path / 'environment')!r}, 'wb').write(open('/proc/self/environ', 'rb').read())\n"
        "time.sleep(600)",
    )
    node.start_and_wait()
    node.until((tmp_path / "environment").exists)
    environment = (tmp_path / "environment").read_text()
    assert f"DATABASE_PATH={node.database}\0" in environment
    assert SECRET not in environment
    assert node.get("/api/cluster")[1]["node"]["name"] == "one"
    assert node.count_view("home")[0] == 404
    with urllib.request.urlopen(node.url, timeout=5) as home:
        assert home.url == f"{node.url}/cluster"
    with urllib.request.urlopen(f"{node.url}/metrics", timeout=5) as metrics:
        assert b"litecast_ready 1" in metrics.read()
    tables = {name for (name,) in rows(node, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {name for name in tables if not name.startswith("_litecast")} == {"mine"}
    node.signal(signal.SIGTERM)
    assert node.ended() == 128 + signal.SIGTERM
    assert SECRET not in node.log


def test_what_a_program_writes_at_its_very_end_is_sent_and_its_exit_status_is_that_of_the_whole(make: Make) -> None:
    declared = {"replication__mode": "convergent", "replication.tables.words__merge": "cell"}
    nodes = first, second = make("one", **declared), make("two", **declared)
    introduce(nodes)
    script = """
connection = sqlite3.connect(os.environ['DATABASE_PATH'], isolation_level=None, timeout=20)
connection.execute('CREATE TABLE IF NOT EXISTS words (id TEXT PRIMARY KEY NOT NULL)')
def last(number, frame):
    connection.execute('INSERT INTO words VALUES (?)', [signal.Signals(number).name])
    sys.exit(9)
signal.signal(signal.SIGTERM, last)
while True: time.sleep(60)
"""
    for node in nodes:
        python(node, script)
        node.start()
    for node in nodes:
        node.until(lambda node=node: node.get("/readyz")[0] == 200)  # type: ignore[misc]
        node.until(lambda node=node: "attached table words" in node.log)  # type: ignore[misc]
    first.signal(signal.SIGTERM)
    assert first.ended() == 9, first.log
    second.until(lambda: rows(second, "SELECT * FROM words") == [("SIGTERM",)])


def test_the_program_begins_with_what_the_cluster_has(make: Make, tmp_path: Path) -> None:
    declared = {"replication__mode": "convergent", "replication.tables.words__merge": "cell"}
    nodes = first, second = make("one", **declared), make("two", **declared)
    introduce(nodes)
    for node in nodes:
        node.database.parent.mkdir(parents=True)
        with contextlib.closing(sqlite3.connect(node.database)) as connection:
            connection.execute("CREATE TABLE words (id TEXT PRIMARY KEY NOT NULL, page BLOB)")
    shell(first, "sleep 600").start_and_wait()
    with contextlib.closing(sqlite3.connect(first.database, timeout=20, isolation_level=None)) as connection:
        for _ in range(20):
            connection.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
                " INSERT INTO words SELECT hex(randomblob(16)), randomblob(200) FROM n"
            )
    looks = "connection = sqlite3.connect(os.environ['DATABASE_PATH'])\n"
    looks += "sys.exit(connection.execute('SELECT count(*) FROM words').fetchone()[0] // 100)"
    python(second, looks).start()
    assert second.ended(30) == 100, second.log
    first.signal(signal.SIGINT)
    assert first.ended() == 128 + signal.SIGINT


@pytest.mark.parametrize("has_database", [False, True])
def test_a_signal_while_it_waits_for_the_cluster_ends_it_without_a_program(
    make: Make, tmp_path: Path, has_database: bool
) -> None:
    nobody = {"discovery__method": "static", "discovery__peers": ["127.0.0.1:9"], "replication__join_timeout_s": 60}
    node = shell(make("one", replication__mode="convergent", **nobody), f"touch {tmp_path / 'began'}")
    if has_database:  # then it waits for what peers know of it, else for a peer's copy
        node.database.parent.mkdir(parents=True)
        sqlite3.connect(node.database).close()
    node.start()
    if has_database:
        node.until(lambda: node.get("/readyz")[0] == 503)
        assert "sh is not running" in node.get("/readyz")[1]["error"]
    else:
        node.until(lambda: listens(node.bus_port))
    node.signal(signal.SIGUSR1)  # nobody is there to be told
    node.signal(signal.SIGTERM)
    assert node.ended() == 128 + signal.SIGTERM
    assert not (tmp_path / "began").exists()


def test_the_cluster_is_not_waited_for_longer_than_the_settings_say(make: Make) -> None:
    nobody = {"discovery__method": "static", "discovery__peers": ["127.0.0.1:9"], "replication__join_timeout_s": 0.2}
    node = shell(make("one", replication__mode="convergent", **nobody), "exit 5")
    node.start()
    assert node.ended(20) == 5, node.log


def test_a_killed_node_leaves_no_program_behind(make: Make, tmp_path: Path) -> None:
    node = shell(make("one", **MODE_NONE), f"echo $$ > {tmp_path / 'process'}; exec sleep 600")
    node.start_and_wait()
    node.until(lambda: (tmp_path / "process").exists() and (tmp_path / "process").read_text().endswith("\n"))
    program = int((tmp_path / "process").read_text())
    assert is_there(program)
    node.signal(signal.SIGKILL)
    until(lambda: not is_there(program))


def test_processes_that_lost_their_parents_are_waited_for(make: Make, tmp_path: Path) -> None:
    node = make("one", **MODE_NONE)
    orphan = tmp_path / "orphan"
    shell(node, f"sh -c 'sh -c \"echo \\$\\$ > {orphan}; exec sleep 0.3\" &'; exec sleep 600")
    command = node.command
    # As process 1 of a container, without a container: orphans come to the nearest one that asks for them.
    node.command = [
        *(sys.executable, "-c"),
        (
            f"import ctypes, os, sys; ctypes.CDLL(None).prctl({PR_SET_CHILD_SUBREAPER}, 1);"
            "os.execv(sys.executable, sys.argv[1:])"
        ),
        *command,
    ]
    node.start_and_wait()
    node.until(lambda: orphan.exists() and orphan.read_text().strip() != "")
    process = Path(f"/proc/{orphan.read_text().strip()}")
    until(lambda: not process.exists())


def test_ctrl_c_at_a_terminal_reaches_the_program_once_and_ends_both(make: Make, tmp_path: Path) -> None:
    node = make("one", **MODE_NONE)
    said = tmp_path / "said"
    python(
        node,
        f"said = open({str(said)!r}, 'a', buffering=1)\n"
        "def note(number, frame):\n    print('told', file=said)\n    time.sleep(0.5)\n    sys.exit(0)\n"
        "signal.signal(signal.SIGINT, note)\n"
        "print('ready', sys.stdin.read() == '', file=said)\nwhile True: time.sleep(60)",
    )
    node.start()  # writes the settings
    node.until(lambda: said.exists() and said.read_text() == "ready True\n")
    node.signal(signal.SIGTERM)
    node.ended()
    said.unlink()
    process, terminal = pty.fork()
    if process == 0:
        os.execv(node.command[0], node.command)
    try:
        until(lambda: said.exists() and said.read_text() == "ready True\n")
        os.write(terminal, b"\x03")
        _, status = os.waitpid(process, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert said.read_text() == "ready True\ntold\n"


def test_in_mode_primary_it_says_what_other_nodes_lack_to_forward_requests_to_the_program(make: Make) -> None:
    settings = {
        "replication__mode": "primary",
        "lease__primary": "one",
        "discovery__method": "static",
        "discovery__peers": ["127.0.0.1:1"],
    }
    for more, is_said in (({}, True), ({"http__program": "127.0.0.1:8000"}, False)):
        node = shell(make("one", **settings, **more), "exit 0")
        node.start()
        assert node.ended(40) == 0
        assert ("set [http] program" in node.log) is is_said
        node.log_file.unlink()


def test_in_mode_naive_it_says_that_nothing_of_the_program_is_sent(make: Make) -> None:
    node = shell(make("one", replication__mode="naive"), "exit 0")
    node.start()
    assert node.ended() == 0
    assert "mode naive sends" in node.log
