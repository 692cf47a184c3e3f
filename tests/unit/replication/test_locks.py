import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from replication.errors import DatabaseInUse, DataDirInUse, DataDirUnusable
from replication.lock import LOCK_FILE, DatabaseLock, DataDirLock
from replication.repo import Repo

type Python = Callable[..., Popen[str]]

HOLD_DATABASE = """
import asyncio, sys
from replication.repo import Repo

async def main():
    async with Repo(sys.argv[1]):
        print("held", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""
HOLD_DATA_DIR = """
import pathlib, sys
from replication.lock import DataDirLock
with DataDirLock.acquire(pathlib.Path(sys.argv[1]), node="alpha"):
    print("held", flush=True)
    sys.stdin.readline()
"""
# SQLite's shared lock is a POSIX lock on these bytes (os_unix.c: SHARED_FIRST, SHARED_SIZE). In WAL mode a connection
# holds it as long as it is open: it tells other processes that they are not alone, and must not reset the WAL.
TRY_EXCLUSIVE = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, 0x40000000 + 2)
    print("free")
except BlockingIOError:
    print("held")
"""


def told(process: Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def sqlite_holds_its_lock(path: Path, python: Python) -> bool:
    return told(python(TRY_EXCLUSIVE, path)) == "held"


async def test_a_second_repo_on_one_database_is_refused(path: Path, python: Python) -> None:
    holder = python(HOLD_DATABASE, path)
    assert told(holder) == "held"
    with pytest.raises(DatabaseInUse, match="another Litecast node is using it; stop that node"):
        await Repo(path).open()


async def test_the_database_is_free_once_its_holder_was_killed(path: Path, python: Python) -> None:
    holder = python(HOLD_DATABASE, path)
    assert told(holder) == "held"
    holder.kill()
    holder.wait()
    async with Repo(path) as repo:
        await repo.execute("SELECT 1")


async def test_links_lead_to_the_same_lock(path: Path, tmp_path: Path, python: Python) -> None:
    async with Repo(path):
        pass
    (tmp_path / "symbolic.db").symlink_to(path)
    (tmp_path / "hard.db").hardlink_to(path)
    (tmp_path / "elsewhere").symlink_to(tmp_path)
    holder = python(HOLD_DATABASE, path)
    assert told(holder) == "held"
    for other in ("symbolic.db", "hard.db", "elsewhere/litecast.db"):
        with pytest.raises(DatabaseInUse):
            await Repo(tmp_path / other).open()


async def test_other_programs_are_not_kept_out(repo: Repo, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("INSERT INTO page_counts (page, count) VALUES ('home', 1)")
    other.close()
    assert await repo.get("page_counts", "home") is not None


async def test_a_repo_that_is_refused_does_not_drop_the_locks_of_the_one_that_has_the_file(
    repo: Repo, path: Path, python: Python
) -> None:
    assert sqlite_holds_its_lock(path, python)
    with pytest.raises(DatabaseInUse):
        await Repo(path).open()
    assert sqlite_holds_its_lock(path, python)


async def test_a_repo_that_closes_does_not_drop_the_locks_of_another_connection_in_the_process(
    path: Path, python: Python
) -> None:
    async with Repo(path) as repo:
        await repo.execute("CREATE TABLE t (x)")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("SELECT * FROM t").fetchall()
    assert sqlite_holds_its_lock(path, python)
    async with Repo(path):  # the lock itself was given up
        pass
    assert sqlite_holds_its_lock(path, python)
    other.close()
    assert not sqlite_holds_its_lock(path, python)


async def test_closing_the_locks_descriptor_early_would_drop_sqlites_locks(
    repo: Repo, path: Path, python: Python
) -> None:
    # Why all the care: this is what happens without it. Were it not so, the two tests above would prove nothing.
    descriptor = repo._opened()._lock._descriptor
    assert descriptor is not None
    repo._opened()._lock._descriptor = None
    os.close(descriptor)
    assert not sqlite_holds_its_lock(path, python)


async def test_the_lock_is_given_up_only_after_the_last_connection_is_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_when_released: list[int] = []
    release = DatabaseLock.release

    def watched(lock: DatabaseLock) -> None:
        same = [os.path.samestat(path.stat(), os.fstat(n)) for n in descriptors()]
        open_when_released.append(sum(same))
        release(lock)

    monkeypatch.setattr(DatabaseLock, "release", watched)
    async with Repo(path) as repo:
        await repo.execute("CREATE TABLE t (x)")
        await repo.all("SELECT * FROM t")
    assert open_when_released == [1]  # the lock's own


def descriptors() -> list[int]:
    found = []
    for entry in Path("/dev/fd").iterdir():
        try:
            os.fstat(int(entry.name))
        except OSError:
            continue
        found.append(int(entry.name))
    return found


async def test_opening_and_closing_leaves_no_descriptor(path: Path) -> None:
    before = len(descriptors())
    for _ in range(5):
        async with Repo(path) as repo:
            await repo.execute("SELECT 1")
    assert len(descriptors()) == before


def test_a_data_directory_is_made_and_claimed(tmp_path: Path) -> None:
    data_dir = tmp_path / "data" / "alpha"
    with DataDirLock.acquire(data_dir, node="alpha"):
        assert (data_dir / LOCK_FILE).read_text() == f"node alpha, pid {os.getpid()}\n"
        with pytest.raises(DataDirInUse, match=f"another node is running in it .node alpha, pid {os.getpid()}.; stop"):
            DataDirLock.acquire(data_dir, node="beta")
    with DataDirLock.acquire(data_dir, node="beta") as lock:
        lock.release()
        lock.release()


def test_a_data_directory_is_free_once_its_holder_was_killed(tmp_path: Path, python: Python) -> None:
    holder = python(HOLD_DATA_DIR, tmp_path)
    assert told(holder) == "held"
    with pytest.raises(DataDirInUse, match=f"node alpha, pid {holder.pid}"):
        DataDirLock.acquire(tmp_path, node="beta")
    holder.kill()
    holder.wait()
    DataDirLock.acquire(tmp_path, node="beta").release()


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataDirUnusable, match="make it a folder"):
            DataDirLock.acquire(path, node="alpha")


async def test_the_locks_name_does_not_look_like_one_of_the_databases_files(tmp_path: Path) -> None:
    assert not LOCK_FILE.startswith("litecast.db")
    with DataDirLock.acquire(tmp_path, node="alpha"):
        async with Repo(tmp_path / "litecast.db"):
            with (tmp_path / LOCK_FILE).open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
