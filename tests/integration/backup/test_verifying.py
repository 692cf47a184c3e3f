"""Backups that are restored to see whether they come back, beside nodes that go on writing; and samples of objects."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from replication.backup.bucket import Bucket, claim
from replication.backup.errors import BackupDamaged, BackupRefused, NothingToRestore, NotInBackup
from replication.backup.live import NothingAttached
from replication.backup.names import CHANGESETS, SNAPSHOTS
from replication.backup.restoring import Progress
from replication.backup.sampling import Sampled, sample
from replication.backup.verifying import Verified, verify, verify_against
from replication.convergent.engine import ThreadEngine
from tests.support.backups import HOME, status, uploaded
from tests.support.buckets import FakeBucket
from tests.support.convergent import CLUSTER, ConvergentCluster
from tests.support.eventually import eventually

COUNT = "UPDATE pages SET count = count + 1 WHERE page = 'home'"


@pytest.fixture
async def engine() -> AsyncIterator[ThreadEngine]:
    engine = ThreadEngine("verify")
    yield engine
    await engine.close()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


async def against(bucket: Bucket, database: Path, scratch: Path, engine: ThreadEngine, wait_s: float = 40) -> Verified:
    progress = Progress()
    try:
        return await verify_against(
            bucket, database, scratch, engine=engine, cluster=CLUSTER, wait_s=wait_s, progress=progress
        )
    finally:
        (scratch / "verified.db").unlink(missing_ok=True)
        assert list(scratch.iterdir()) == []


async def sampled(bucket: Bucket, count: int = 1_000) -> Sampled:
    return await sample(bucket, count, rng=random.Random(1), progress=Progress())


async def test_a_backup_is_verified_while_three_nodes_write(
    cluster: ConvergentCluster, scratch: Path, engine: ThreadEngine
) -> None:
    bucket = cluster.bucket = FakeBucket()
    members = await cluster.trio()
    members[0].writer.execute(HOME)
    await cluster.equal()

    async def go_on() -> None:
        rng = random.Random(1)
        while True:
            rng.choice(members).writer.execute(COUNT)
            await asyncio.sleep(rng.random() * 0.02)

    writing = asyncio.create_task(go_on())
    changesets = 0
    for _ in range(3):
        verified = await against(bucket, members[1].path, scratch, engine)
        assert verified.problems == ()
        assert verified.compared == 1
        changesets = verified.restored.changesets
        await asyncio.sleep(0.3)
    assert changesets > 10
    writing.cancel()
    (scratch / "verified.db").unlink(missing_ok=True)
    assert (await verify(bucket, scratch, progress=Progress())).compared == 0


async def test_a_table_with_other_rows_than_the_backup_is_named(
    cluster: ConvergentCluster, scratch: Path, engine: ThreadEngine
) -> None:
    """Damage past capture: the database has it, and no changeset."""
    bucket = cluster.bucket = FakeBucket()
    a = await cluster.start("a")
    a.writer.execute(HOME)
    await uploaded(a)
    a.writer.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)
    a.writer.execute("UPDATE pages SET title = 'changed by nobody'")
    verified = await against(bucket, a.path, scratch, engine)
    assert verified.problems == ("table pages has other rows in the backup than in the database",)


async def test_what_the_bucket_has_not_got_in_time_is_said(
    cluster: ConvergentCluster, scratch: Path, engine: ThreadEngine
) -> None:
    is_down = False
    bucket = cluster.bucket = FakeBucket(lambda what, name: "before" if is_down and what == "create" else "")
    a = await cluster.start("a")
    a.writer.execute(HOME)
    await uploaded(a)
    is_down = True
    a.writer.execute(COUNT)
    await eventually(lambda: bool(status(a).problem))
    with pytest.raises(NotInBackup, match="lacks something that the database has, of 1 site"):
        await against(bucket, a.path, scratch, engine, wait_s=0.5)
    is_down = False
    assert (await against(bucket, a.path, scratch, engine)).problems == ()


async def test_a_column_that_has_just_come_is_verified_with_the_snapshot_that_has_it(
    cluster: ConvergentCluster, scratch: Path, engine: ThreadEngine
) -> None:
    bucket = cluster.bucket = FakeBucket()
    a = await cluster.start("a")
    a.writer.execute(HOME)
    await uploaded(a)
    a.writer.execute("ALTER TABLE pages ADD COLUMN author TEXT DEFAULT 'nobody'")
    a.writer.execute("UPDATE pages SET author = 'me'")
    verified = await against(bucket, a.path, scratch, engine, wait_s=20)
    assert verified.problems == ()
    assert verified.restored.snapshot.number == 2


async def test_a_database_of_nobody_and_one_that_no_node_has_open_are_said(
    cluster: ConvergentCluster, scratch: Path, engine: ThreadEngine, tmp_path: Path
) -> None:
    bucket = cluster.bucket = FakeBucket()
    plain = tmp_path / "plain.db"
    with sqlite3.connect(plain) as connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(NothingAttached):
        await against(bucket, plain, scratch, engine)
    a = await cluster.start("a")
    a.writer.execute(HOME)
    await uploaded(a)
    await cluster.kill("a")
    with sqlite3.connect(a.path) as connection:
        connection.execute(COUNT)
    with pytest.raises(NotInBackup, match="is the node running"):
        await against(bucket, a.path, scratch, engine, wait_s=0.3)


async def test_the_backup_of_another_cluster_is_refused_at_once(
    cluster: ConvergentCluster, scratch: Path, engine: ThreadEngine
) -> None:
    bucket = FakeBucket()
    await claim(bucket, "theirs")
    a = await cluster.start("a")
    a.writer.execute(HOME)
    with pytest.raises(BackupRefused, match="is the backup of cluster 'theirs'"):
        await against(bucket, a.path, scratch, engine)


async def of_one_node(cluster: ConvergentCluster) -> FakeBucket:
    bucket = cluster.bucket = FakeBucket()
    a = await cluster.start("a")
    for number in range(4):
        a.writer.execute("INSERT INTO pages VALUES (?, 'text', 1)", (f"page {number}",))
        await uploaded(a)
    await cluster.stop("a")
    return bucket


def cut(objects: dict[str, bytes], name: str) -> None:
    objects[name] = objects[name][:-10]


def drop(objects: dict[str, bytes], name: str) -> None:
    del objects[name]


def swap(objects: dict[str, bytes], name: str) -> None:
    objects[name] = next(content for other, content in objects.items() if other != name and other[:9] == name[:9])


async def test_a_sample_reads_objects_and_says_how_many(cluster: ConvergentCluster) -> None:
    bucket = await of_one_node(cluster)
    assert await sampled(bucket) == Sampled(checked=4, total=4, problems=())
    bucket.requests.clear()
    assert await sampled(bucket, 1) == Sampled(checked=1, total=4, problems=())
    assert len([what for what, name in bucket.requests if what == "get" and name.startswith(CHANGESETS)]) <= 2


@pytest.mark.parametrize("prefix", [CHANGESETS, SNAPSHOTS, f"{SNAPSHOTS}00000001"])
@pytest.mark.parametrize("damage", [cut, drop, swap])
async def test_a_sample_names_what_is_damaged(
    cluster: ConvergentCluster, prefix: str, damage: Callable[[dict[str, bytes], str], None]
) -> None:
    bucket = await of_one_node(cluster)
    names = sorted(name for name in bucket.objects if name.startswith(prefix))
    name = names[1] if prefix == CHANGESETS else names[-1]
    damage(bucket.objects, name)
    if prefix == f"{SNAPSHOTS}00000001" and damage is drop:
        with pytest.raises(NothingToRestore):
            await sampled(bucket)
        return
    found = await sampled(bucket)
    named = {"drop": names[2] if prefix == CHANGESETS else name}.get(damage.__name__, name)
    assert any(named in problem for problem in found.problems), found


async def test_a_verified_restore_names_what_is_damaged(cluster: ConvergentCluster, scratch: Path) -> None:
    bucket = await of_one_node(cluster)
    name = sorted(name for name in bucket.objects if name.startswith(CHANGESETS))[1]
    cut(bucket.objects, name)
    with pytest.raises(BackupDamaged, match=name):
        await verify(bucket, scratch, progress=Progress())
