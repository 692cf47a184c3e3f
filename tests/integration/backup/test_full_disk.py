"""A restore onto a disk that has no room: one line, no file, and it can be done again when there is room."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from replication.backup.errors import CannotRestore
from replication.backup.for_node import restore_from
from replication.backup.stored import StoredBucket
from tests.support.backups import rows_of, uploaded
from tests.support.convergent import ConvergentCluster
from tests.support.small_disk import small_disk

PAGE = 4096


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of one page."""
    with small_disk(tmp_path / "disk", PAGE) as disk:
        yield disk


def resize(disk: Path, pages: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={pages * PAGE}", str(disk)], check=True, timeout=20)


async def test_a_restore_for_which_there_is_no_room_leaves_nothing(
    cluster: ConvergentCluster, tmp_path: Path, disk: Path
) -> None:
    url = f"file://{tmp_path}/bucket"
    bucket = cluster.bucket = StoredBucket(url)
    a = await cluster.start("a")
    a.writer.execute("INSERT INTO pages VALUES ('first', '', 1)")
    await uploaded(a)
    for number in range(20):
        a.writer.execute("INSERT INTO pages VALUES (?, ?, 1)", (f"page {number}", "text" * 1000))
    await uploaded(a)
    target = disk / "restored.db"
    done = subprocess.run(
        [sys.executable, "-m", "app", "restore", "--from", url, str(target)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "make room" in done.stderr
    assert list(disk.iterdir()) == []
    failed: list[Exception] = []
    for pages in range(8, 400, 8):
        resize(disk, pages)
        try:
            await restore_from(bucket, target)
        except (CannotRestore, sqlite3.OperationalError, OSError) as error:
            failed.append(error)
        else:
            break
        assert list(disk.iterdir()) == []
    assert rows_of(target) == a.rows()
    assert any(isinstance(error, CannotRestore) for error in failed), "it is seen before anything is fetched"
    assert any(isinstance(error, sqlite3.OperationalError) for error in failed), "or while changesets are merged"
