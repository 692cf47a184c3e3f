"""`litecast doctor` on real databases and settings: what it gathers, prints and exits with. It changes nothing."""

import contextlib
import json
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import cli
from app.doctor.gathering import facts_of_config, facts_of_database
from replication.engine.folding import fold
from replication.engine.stamps import ms_of, stamp_at
from tests.support.attached import Attached

SCHEMA = """
CREATE TABLE pages (name TEXT PRIMARY KEY NOT NULL, title, visits INTEGER NOT NULL DEFAULT 0);
CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, page TEXT REFERENCES pages);
"""


def database(path: Path) -> Path:
    node = Attached(SCHEMA, path=path)
    node.connection.execute("PRAGMA journal_mode = WAL")
    node.write("INSERT INTO pages VALUES ('a', 'A', 1)")
    node.connection.close()
    return path


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The findings that were printed: gravity by check."""
    return {one["check"]: one["gravity"] for one in json.loads(capsys.readouterr().out)["findings"]}


def config(folder: Path, **settings: str) -> Path:
    file = folder / "config.toml"
    path = folder / "app.db"
    lines = {
        "node": f'name = "a"\ndata_dir = "{folder}"',
        "database": f'path = "{path}"',
        "cluster": 'name = "tests"',
        "http": 'bind = "127.0.0.1:1"',
        **settings,
    }
    file.write_text("\n".join(f"[{section}]\n{text}" for section, text in lines.items()))
    return file


def test_a_database_that_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = database(tmp_path / "app.db")
    before = path.read_bytes()
    assert cli.main(["doctor", str(path), "--json"]) == 0
    assert said(capsys).keys() <= {"sqlite library"}
    assert path.read_bytes() == before


def test_it_gathers_what_stands_in_the_database(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    node = Attached(SCHEMA, path=path)
    node.connection.execute("PRAGMA journal_mode = WAL")
    node.write("INSERT INTO pages VALUES ('a', 'A', 1)")
    other = Attached("CREATE TABLE pages (name TEXT PRIMARY KEY NOT NULL, title, more, visits INTEGER NOT NULL)")
    node.merged(other.write("INSERT INTO pages VALUES ('b', 'B', 'more', 1)"))
    node.sql("INSERT INTO notes VALUES ('n', 'nowhere')")
    node.sql("UPDATE pages SET title = 'pending'")
    ((trigger,),) = node.sql("SELECT name FROM sqlite_master WHERE type = 'trigger' ORDER BY name LIMIT 1")
    node.connection.execute(f'DROP TRIGGER "{trigger}"')
    found = facts_of_database(path).database
    assert found is not None
    assert (found.problem, found.journal_mode, found.attached) == ("", "wal", ("pages",))
    assert (found.attached_for, found.cluster) == ("convergent", "tests")
    assert found.uncaptured == ("pages",)
    assert found.held == (("no such column here", 1),)
    assert found.orphans == (("notes", 1),)
    assert found.pending >= 2
    assert found.sites >= 2
    assert found.journal_bytes > 0
    assert found.wal_bytes > 0
    assert found.stamped_ms == ms_of(stamp_at(node.now_ms))
    assert found.free_bytes is not None


def test_a_table_that_is_gone_and_one_that_never_came(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    node = Attached(SCHEMA, path=path)
    other = Attached("CREATE TABLE news (id TEXT PRIMARY KEY NOT NULL)", table="news", counters=())
    node.merged(other.write("INSERT INTO news VALUES ('x')"))
    node.connection.execute("DROP TABLE pages")
    found = facts_of_database(path).database
    assert found is not None
    assert (found.gone, found.waiting_tables) == (("pages",), ("news",))


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be looked at\n" * 50, None])
def test_a_file_that_is_no_database_and_one_that_is_not_there(
    tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "app.db"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["doctor", str(path), "--json"]) == 4
    assert said(capsys)["database file"] == "wrong"
    assert path.exists() == (content is not None), "it makes none"


def test_a_folder_is_no_database(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for named in (str(tmp_path), "."):
        assert cli.main(["doctor", named]) == 4
        assert "it is not a plain file" in capsys.readouterr().out


def test_a_database_of_a_newer_litecast_is_told_and_nothing_more_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = database(tmp_path / "app.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE _litecast_state SET format = 99")
        connection.execute("DROP TABLE _litecast_held")
    assert cli.main(["doctor", str(path), "--json"]) == 4
    assert said(capsys)["database file"] == "wrong"
    assert cli.main(["doctor", str(path)]) == 4
    told = capsys.readouterr().out
    assert "newer Litecast (format 99)" in told
    assert "attached" not in told


def test_a_database_of_an_older_litecast_is_read(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript((Path(__file__).parents[1] / "replication/engine/format_2.sql").read_text())
    found = facts_of_database(path).database
    assert found is not None
    assert (found.problem, found.newer_format, found.attached) == ("", 0, ("pages",))


def test_an_ordinary_database_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
    assert cli.main(["doctor", str(path)]) == 0
    assert "litecast attach DB --table NAME" in capsys.readouterr().out


def test_a_database_that_was_stamped_far_ahead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = database(tmp_path / "app.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE pages SET title = 'ahead'")
        fold(connection, now_ms=4_000_000_000_000)
    assert cli.main(["doctor", str(path), "--json"]) == 4
    assert said(capsys)["stamps ahead"] == "wrong"


def test_settings_that_cannot_be_used_are_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config(tmp_path, bus='secret = "too short"')
    assert cli.main(["doctor", str(file)]) == 4
    assert "at least 32 are needed" in capsys.readouterr().out


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_node_that_does_not_run_and_finds_nobody(
    tmp_path: Path, listening: int, capsys: pytest.CaptureFixture[str]
) -> None:
    database(tmp_path / "app.db")
    peers = 'method = "static"\npeers = ["127.0.0.1:1", "127.0.0.1:{}"]'
    replication = {"replication": 'mode = "convergent"\n[replication.tables.pages]'}
    file = config(tmp_path, discovery=peers.format(2), **replication)
    assert facts_of_config(file).found == (2, 0)
    assert cli.main(["doctor", str(file), "--json"]) == 3
    assert said(capsys)["discovery"] == "unwise"
    file = config(tmp_path, discovery=peers.format(listening), **replication)
    assert facts_of_config(file).found == (2, 1)
    cli.main(["doctor", str(file), "--json"])
    assert "discovery" not in said(capsys)


def test_what_a_running_node_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    standing = {"problem": "merging stands still", "notes": ["not replicated: table x has no key", "something else"]}
    cluster: dict[str, Any] = {
        "node": {"name": "a"},
        "peers": [{"state": "up"}, {"state": "down"}],
        "replication": standing,
    }

    class Report:
        def __init__(self) -> None:
            self.cluster = cluster

    monkeypatch.setattr("app.doctor.gathering.ask_node", lambda _url: Report())
    file = config(tmp_path)
    found = facts_of_config(file)
    assert found.node is not None
    assert (found.node.peers_up, found.node.peers_known) == (1, 2)
    assert found.node.problem == "merging stands still"
    assert found.node.refused == ("table x has no key",)
    assert found.found is None
    cluster["node"]["name"] = "another"
    assert facts_of_config(file).node is None, "another node on this machine"


def test_the_counters_table_is_not_missed_by_a_node_beside_a_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database(tmp_path / "app.db")
    replication = 'mode = "convergent"\n[replication.tables.pages]'
    cli.main(["doctor", str(config(tmp_path, replication=replication)), "--json"])
    assert "nothing attached" not in said(capsys)
    more = f"{replication}\n[replication.tables.more]"
    cli.main(["doctor", str(config(tmp_path, replication=more)), "--json"])
    assert "nothing attached" in said(capsys)
