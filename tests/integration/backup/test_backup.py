"""Nodes that upload to a folder, and databases restored from it."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from replication.backup.for_node import restore_from
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ConvergentCluster]:
    cluster = ConvergentCluster(tmp_path)
    cluster.backup_url = f"file://{tmp_path}/bucket"
    yield cluster
    await cluster.close()


async def uploaded(*members: Member) -> None:
    """All that these nodes have is in the bucket, and each knows it."""

    def are_there() -> bool:
        for member in members:
            assert member.backup is not None
            status, heads = member.backup.status(), member.replication.stamps()
            if status.problem or not heads or dict(status.position.stamps) != heads:
                return False
        return True

    await eventually(are_there, 20.0, why=lambda: [m.backup and m.backup.status() for m in members])


def rows_of(path: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM pages ORDER BY 1").fetchall()


async def test_what_three_nodes_wrote_is_restored_into_one_file(cluster: ConvergentCluster, tmp_path: Path) -> None:
    members = await cluster.trio()
    for number, member in enumerate(members):
        member.writer.execute("INSERT INTO pages VALUES (?, 'first', 1)", (f"of {number}",))
    await cluster.equal()
    await uploaded(*members)
    for member in members:
        for _ in range(20):
            member.writer.execute("UPDATE pages SET count = count + 1 WHERE page = 'of 0'")
    rows = await cluster.equal()
    await uploaded(*members)
    target = tmp_path / "restored.db"
    restored = await restore_from(cluster.backup_url, target)
    assert rows_of(target) == rows
    assert ("of 0", "first", 61) in rows
    assert restored.changesets > 0
    assert not restored.left_out
    assert {path.name for path in tmp_path.iterdir() if "restor" in path.name} == {"restored.db"}
