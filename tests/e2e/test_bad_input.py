"""What an operator can get wrong: one line with the remedy and a non-zero exit, or a counted line where it can run."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import wire
from tests.support.node_process import NodeProcess, free_port, node_processes

type Make = Callable[..., NodeProcess]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with node_processes(tmp_path) as make:
        yield make


def refused(node: NodeProcess) -> str:
    """Start a node that must not run; its one line."""
    node.start()
    status = node.ended()
    assert status == 1, node.log
    lines = node.log.strip().splitlines()
    errors = [line for line in lines if line.startswith("litecast: ")]
    assert len(errors) == 1, node.log
    assert "Traceback" not in node.log
    assert lines[-1] == errors[0]
    return errors[0]


def test_bus_port_in_use(make: Make) -> None:
    first, second = make("one"), make("two")
    first.start_and_wait()
    second.settings["bus__bind"] = first.settings["bus__bind"]
    said = refused(second)
    assert first.bus_address in said
    assert "in use" in said
    assert "bus.bind" in said
    assert first.get("/readyz")[0] == 200


def test_http_port_in_use(make: Make) -> None:
    first, second = make("one"), make("two")
    first.start_and_wait()
    second.settings["http__bind"] = first.settings["http__bind"]
    said = refused(second)
    assert str(first.http_port) in said
    assert "http.bind" in said
    assert not second.database.exists(), "nothing was begun"


def test_database_path_is_a_directory(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    said = refused(make("one", database__path=str(folder)))
    assert str(folder) in said
    assert "directory" in said or "folder" in said


@pytest.mark.parametrize("what", ["file", "folder"])
def test_database_is_read_only(make: Make, tmp_path: Path, what: str) -> None:
    database = tmp_path / "store" / "app.db"
    database.parent.mkdir()
    database.touch()
    if what == "file":
        database.chmod(0o400)
    else:
        database.parent.chmod(0o500)
    node = make("one", database__path=str(database))
    node.command = [*_without_override(), *node.command]
    said = refused(node)
    assert str(database.parent) in said
    assert "written" in said or "read-only" in said


def _without_override() -> list[str]:
    """Root may write everywhere, unless it gives that up."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and setpriv (util-linux) is not here to give that up")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


def test_file_is_not_a_database(make: Make, tmp_path: Path) -> None:
    database = tmp_path / "notes.txt"
    database.write_text("these are my notes\n" * 100)
    said = refused(make("one", database__path=str(database)))
    assert "not a" in said
    assert str(database) in said
    assert database.read_text() == "these are my notes\n" * 100


def test_data_dir_of_another_node(make: Make) -> None:
    first = make("one")
    first.start_and_wait()
    second = make("two", node__data_dir=first.settings["node__data_dir"])
    said = refused(second)
    assert str(first.settings["node__data_dir"]) in said
    assert "one" in said


def test_database_of_another_node(make: Make) -> None:
    first = make("one")
    first.start_and_wait()
    said = refused(make("two", database__path=str(first.database)))
    assert str(first.database) in said
    assert first.get("/readyz")[0] == 200


def test_database_of_a_newer_litecast(make: Make) -> None:
    node = make("one")
    node.start_and_wait()
    node.stop()
    with sqlite3.connect(node.database) as connection:
        connection.execute("UPDATE _litecast_state SET format = 999")
    connection.close()
    node.log_file.unlink()
    said = refused(node)
    assert "newer" in said
    assert "upgrade" in said.lower()


@pytest.mark.parametrize("peer", ["nowhere", "1.2.3.4:port", "http://127.0.0.1:1", "[::1:7400"])
def test_peer_address_that_does_not_parse(make: Make, peer: str) -> None:
    said = refused(make("one", discovery__method="static", discovery__peers=[peer]))
    assert repr(peer) in said
    assert "HOST:PORT" in said


def test_bus_beyond_loopback_without_a_secret(make: Make) -> None:
    node = make("one", bus__bind=f"tcp://0.0.0.0:{free_port()}")
    del node.settings["bus__secret"]
    said = refused(node)
    assert "litecast keygen" in said
    assert "secret" in said


def test_the_younger_of_two_nodes_with_one_name_stops(make: Make, tmp_path: Path) -> None:
    first = make("one")
    first.start_and_wait()
    with node_processes(tmp_path / "other") as make_other:
        second = make_other("one", discovery__method="static", discovery__peers=[first.bus_address])
        said = refused(second)
    assert "'one'" in said
    assert first.bus_address in said
    assert "node.name" in said
    assert first.get("/readyz")[0] == 200


def test_a_third_node_defends_the_name_of_its_peer(make: Make, tmp_path: Path) -> None:
    first, third = make("one"), make("three")
    third.settings |= {"discovery__method": "static", "discovery__peers": [first.bus_address]}
    first.start_and_wait()
    third.start_and_wait()
    third.until(lambda: third.peers_up() == {"one"})
    with node_processes(tmp_path / "other") as make_other:
        second = make_other("one", discovery__method="static", discovery__peers=[third.bus_address])
        said = refused(second)
    assert "'one'" in said
    assert third.peers_up() == {"one"}
    assert third.counter("refused_name_taken") > 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("bus__secret", "a different secret, and long enough to be one"), ("cluster__name", "another")],
)
def test_wrong_secret_or_cluster_is_counted_and_logged_and_both_run_on(make: Make, key: str, value: str) -> None:
    first = make("one")
    second = make("two", discovery__method="static", discovery__peers=[first.bus_address], **{key: value})
    first.start_and_wait()
    second.start_and_wait()
    first.until(lambda: first.counter("refused_stranger") > 2)
    second.until(lambda: second.counter("dial_failed") > 2)
    assert first.peers_up() == second.peers_up() == set()
    assert "another secret or another cluster name" in second.log
    assert second.log.count("does not accept our keys") == 1, "once, however often it is tried"
    assert first.log.count("refused a connection") == 1
    assert "long enough to be one" not in first.log + second.log


def test_another_cluster_without_a_secret_is_refused_by_name(make: Make) -> None:
    first, second = make("one"), make("two", cluster__name="another")
    for node in (first, second):
        del node.settings["bus__secret"]
    second.settings |= {"discovery__method": "static", "discovery__peers": [first.bus_address]}
    first.start_and_wait()
    second.start_and_wait()
    first.until(lambda: first.counter("refused_other_cluster") > 0)
    assert "another cluster" in first.log
    second.until(lambda: "another cluster" in second.log)
    assert first.peers_up() == second.peers_up() == set()


def test_a_peer_of_a_newer_protocol_is_refused_by_version(make: Make, tmp_path: Path) -> None:
    first = make("one")
    first.start_and_wait()
    newer = wire.PROTOCOL_MAX + 1
    program = (
        "import cluster.wire as w, sys\n"
        f"w.Hello.__init__.__kwdefaults__.update(protocol_min={newer}, protocol_max={newer})\n"
        "from app.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    second = make("two", discovery__method="static", discovery__peers=[first.bus_address])
    second.start()
    second.close()
    process = subprocess.Popen(
        [sys.executable, "-c", program, "node", "--config", str(second.config_file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        first.until(lambda: first.counter("refused_protocol") > 0)
    finally:
        process.kill()
        process.wait()
    assert "no protocol version in common" in first.log
    assert first.peers_up() == set()


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"[node\nname = 1", "line 1"), (b"\xff\xfe\x00", "UTF-8"), (None, "no such file"), (b"[nod]\nname='x'", "node")],
    ids=["not TOML", "not UTF-8", "missing", "unknown section"],
)
def test_config_file_that_is_none(tmp_path: Path, content: bytes | None, expected: str) -> None:
    file = tmp_path / "config.toml"
    if content is not None:
        file.write_bytes(content)
    ended = subprocess.run(
        [sys.executable, "-m", "app", "node", "--config", str(file)], capture_output=True, text=True, timeout=20
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert str(file) in ended.stderr
    assert expected.lower() in ended.stderr.lower()
