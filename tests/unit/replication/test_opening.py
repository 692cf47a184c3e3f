import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from replication.database_file import attach, detach
from replication.engine.refusals import TableChoice
from replication.engine.state import NEWEST_FORMAT
from replication.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabasePathError,
    DatabaseReadOnly,
    NewerFormat,
    NotADatabase,
)
from replication.opening import Settings, Synchronous, open_writer
from replication.repo import Repo

type OrdinaryUser = Callable[[], AbstractContextManager[None]]


async def refused(path: Path | str, error: type[DatabaseError], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        await Repo(path).open()
    told = str(caught.value)
    assert "\n" not in told
    assert str(path) in told
    assert caught.value.remedy


async def test_the_folder_of_the_database_is_created_but_not_its_parents(tmp_path: Path) -> None:
    async with Repo(tmp_path / "data" / "litecast.db"):
        assert (tmp_path / "data" / "litecast.db").exists()
    await refused(tmp_path / "a" / "b" / "litecast.db", DatabasePathError, f"the folder {tmp_path}/a does not exist")
    assert not (tmp_path / "a").exists()


async def test_a_path_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    await refused(tmp_path, DatabasePathError, "is a directory; name a file in it")


async def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    await refused(tmp_path / "file" / "litecast.db", DatabasePathError, "is not a folder")


async def test_a_path_that_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    await refused(tmp_path / "pipe", DatabasePathError, "not a plain file")
    await refused(":memory:", DatabasePathError, "is not a file")
    await refused(str(tmp_path / ("x" * 300)), DatabasePathError, "cannot be opened")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    await refused(tmp_path / "loop", DatabasePathError, "cannot be opened")


@pytest.mark.parametrize("content", [b"x", b"hello, I am a text file\n" * 400, b"SQLite format 2\x00" + bytes(4096)])
async def test_a_file_that_is_not_a_database_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    await refused(path, NotADatabase, "not an SQLite database")
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_a_header_with_nonsense_behind_it_is_left_as_it_is(path: Path) -> None:
    content = b"SQLite format 3\x00" + b"nonsense" * 1_000
    path.write_bytes(content)
    await refused(path, NotADatabase, "not an SQLite database")
    assert path.read_bytes() == content


async def test_a_damaged_database_says_so(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1);")
    connection.close()
    content = bytearray(path.read_bytes())
    content[100:200] = b"\xff" * 100  # the schema's own page
    path.write_bytes(content)
    await refused(path, DatabaseCorrupt, "damaged .*; restore a backup")
    assert path.read_bytes() == content


async def test_damage_found_while_reading_says_so(path: Path) -> None:
    async with Repo(path) as repo:
        await repo.migrate(["CREATE TABLE t (id INTEGER PRIMARY KEY, x)"])
        await repo.insert_many("t", [{"x": "y" * 500} for _ in range(100)])
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) // 4096):
        content[page * 4096 : page * 4096 + 300] = b"\xff" * 300
    path.write_bytes(content)
    async with Repo(path) as repo:
        for reading in (repo.all("SELECT * FROM t"), repo.get("t", 50), repo.delete("t", 50)):
            with pytest.raises(DatabaseCorrupt):
                await reading


async def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.touch()
    async with Repo(path) as repo:
        assert await repo.all("SELECT id, format FROM _litecast_state") == [{"id": 1, "format": 1}]


def test_detach_leaves_what_was_there_before_a_node_opened_and_attached_it(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (k TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL)")
    before = list(connection.iterdump())
    connection.close()
    settings = Settings(path=path, synchronous=Synchronous.FULL, busy_timeout_s=1, gives_positions=True)
    for _ in range(2):  # a node that opened it may have been killed before it attached anything
        open_writer(settings).close()
    attach(path, [TableChoice(name="t", counters=("n",))], cluster="home")
    assert detach(path).journal_mode == "delete"
    connection = sqlite3.connect(path)
    assert list(connection.iterdump()) == before
    connection.close()


async def test_a_database_of_another_application_is_taken_as_it_is(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'mine');")
    connection.close()
    async with Repo(path) as repo:
        assert await repo.get("t", 1) == {"id": 1, "x": "mine"}


@pytest.mark.parametrize("found", [str(NEWEST_FORMAT + 1), "'four'"])
async def test_a_newer_format_is_refused_before_anything_is_changed(path: Path, found: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(
        f"CREATE TABLE _litecast_state (id INTEGER PRIMARY KEY, format, site); "
        f"INSERT INTO _litecast_state VALUES (1, {found}, x'00');"
    )
    connection.close()
    before = hashlib.sha256(path.read_bytes()).digest()
    await refused(path, NewerFormat, f"knows up to {NEWEST_FORMAT}; upgrade litecast")
    assert hashlib.sha256(path.read_bytes()).digest() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_what_an_older_litecast_attached_is_upgraded(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(Path(__file__).with_name("engine").joinpath("format_2.sql").read_text())
    async with Repo(path) as repo:
        assert len(await repo.all("SELECT * FROM pages")) == 2
    assert connection.execute("SELECT format FROM _litecast_state").fetchall() == [(NEWEST_FORMAT,)]
    connection.close()


async def test_state_of_an_unknown_shape_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE _litecast_state (version)")
    connection.close()
    await refused(path, NewerFormat, "format unknown")


async def test_a_refused_database_can_be_opened_once_the_cause_is_gone(path: Path) -> None:
    path.write_text("not a database")
    repo = Repo(path)
    with pytest.raises(NotADatabase):
        await repo.open()
    path.unlink()
    async with repo:
        await repo.execute("SELECT 1")


async def test_a_database_locked_by_another_process_at_open_is_busy(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("CREATE TABLE t (x)")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DatabaseError, match="locked by another process"):
        await Repo(path, busy_timeout_s=0.05).open()
    other.execute("COMMIT")
    other.close()
    async with Repo(path) as repo:
        await repo.execute("INSERT INTO t VALUES (1)")


@pytest.mark.parametrize("what", ["file", "folder", "folder to be made", "wal"])
async def test_what_cannot_be_written_is_refused_at_once(ordinary_user: OrdinaryUser, what: str) -> None:
    with TemporaryDirectory(dir="/tmp") as name:  # not tmp_path: its parents are for its owner alone
        folder = Path(name)
        path = folder / "litecast.db"
        folder.chmod(0o777)
        connection = sqlite3.connect(path)
        connection.executescript("PRAGMA journal_mode = WAL; CREATE TABLE t (x);")
        connection.close()
        path.chmod(0o666)
        error: type[DatabaseError] = DatabaseReadOnly
        if what == "file":
            path.chmod(0o444)
        elif what == "wal":
            path.with_name("litecast.db-wal").touch()
            path.with_name("litecast.db-wal").chmod(0o000)
            error = DatabaseError
        else:
            folder.chmod(0o555)
            if what == "folder to be made":
                path, error = folder / "new" / "litecast.db", DatabasePathError
        before = {file.name: file.read_bytes() for file in folder.iterdir()}
        with ordinary_user():
            await refused(path, error, "writ|created|open")
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
        folder.chmod(0o755)
