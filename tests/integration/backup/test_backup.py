"""Nodes that upload, to stores that work and to stores that do not, and databases restored from what is there."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from replication.backup.bucket import Bucket
from replication.backup.for_node import restore_from
from replication.backup.names import CHANGESETS, SNAPSHOTS
from replication.backup.stored import StoredBucket
from replication.engine.folding import is_due
from replication.engine.stamps import Site, Stamp
from tests.support.backups import HOME, disk_of, put_back, rows_of, status, two_with_a_page, uploaded
from tests.support.buckets import FakeBucket
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually
from tests.support.s3_server import BUCKET, s3_server

COUNT = "UPDATE pages SET count = count + 1 WHERE page = 'home'"


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoredBucket]:
    """A place in a bucket of a real S3 server."""
    with s3_server(tmp_path) as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        yield StoredBucket(f"s3://{BUCKET}/a/folder")


async def all_is_restored(cluster: ConvergentCluster, bucket: Bucket) -> None:
    cluster.bucket = bucket
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
    target = cluster.folder / "restored.db"
    restored = await restore_from(bucket, target)
    assert rows_of(target) == rows
    assert ("of 0", "first", 61) in rows
    assert restored.changesets > 0
    assert not restored.left_out
    assert [path.name for path in cluster.folder.glob("*restor*")] == ["restored.db"]


async def test_what_three_nodes_uploaded_to_a_folder_is_restored(cluster: ConvergentCluster, tmp_path: Path) -> None:
    await all_is_restored(cluster, StoredBucket(f"file://{tmp_path}/bucket"))


async def test_what_three_nodes_uploaded_to_an_s3_server_is_restored(
    cluster: ConvergentCluster, s3: StoredBucket
) -> None:
    await all_is_restored(cluster, s3)


async def test_what_was_reported_as_safe_comes_back_from_the_bucket_as_it_was_at_that_moment(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    """At many moments, under load: what a node depended on may be uploaded by another one later than its own."""
    slow = ""
    rng = random.Random(1)
    bucket = cluster.bucket = FakeBucket(
        lambda what, name: "before" if slow and slow in name and what == "create" and rng.random() < 0.5 else ""
    )
    members = await cluster.trio()
    members[0].writer.execute(HOME)
    await cluster.equal()
    await uploaded(*members)
    slow = members[0].replication.view().site
    moments: list[tuple[dict[str, bytes], dict[Site, Stamp]]] = []
    began = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - began < 3.0:
        rng.choice(members).writer.execute(COUNT)
        await asyncio.sleep(rng.random() * 0.01)
        if rng.random() < 0.1:
            asked = status(rng.choice(members)).position.stamps
            moments.append((dict(bucket.objects), dict(asked)))
    assert sum(bool(safe) for _, safe in moments) > 5
    found = FakeBucket()
    left_out = 0
    for number, (objects, safe) in enumerate(moments):
        if not safe:
            continue
        found.objects = objects
        restored = await restore_from(found, tmp_path / f"{number}.db")
        assert {
            site: s for site, s in safe.items() if site not in restored.vector or restored.vector[site].stamp < s
        } == {}
        left_out += bool(restored.left_out)
    assert left_out, "nothing depended on anything that was not there yet, so this shows little"


async def test_a_store_that_is_down_stops_nobody_and_gets_everything_later(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    is_down = False
    bucket = cluster.bucket = FakeBucket(lambda what, name: "before" if is_down else "")
    a, b = await two_with_a_page(cluster)
    is_down = True
    for member in (a, b):
        for _ in range(10):
            member.writer.execute(COUNT)
    rows = await cluster.equal()
    assert rows == [("home", "Home", 20)]
    await eventually(lambda: bool(status(a).problem and status(a).lacking and status(a).age_s))
    assert a.replication.unready() == []
    is_down = False
    await uploaded(a, b)
    assert status(a).problem == ""
    assert status(a).age_s == 0.0
    await restore_from(bucket, tmp_path / "restored.db")
    assert rows_of(tmp_path / "restored.db") == rows


@pytest.mark.parametrize("seed", range(3))
async def test_failures_and_lost_answers_lose_nothing_and_double_nothing(
    cluster: ConvergentCluster, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    fails = 0.4
    bucket = cluster.bucket = FakeBucket(
        lambda what, name: rng.choice(("before", "after")) if rng.random() < fails else ""
    )
    members = await cluster.trio()
    members[0].writer.execute(HOME)
    await cluster.equal()
    for _ in range(60):
        rng.choice(members).writer.execute(COUNT)
        await asyncio.sleep(0.02)
    fails = 0.0
    rows = await cluster.equal()
    assert rows == [("home", "Home", 60)]
    await uploaded(*members, within_s=60)
    assert not (await restore_from(bucket, tmp_path / "restored.db")).left_out
    assert rows_of(tmp_path / "restored.db") == rows


async def test_an_idle_cluster_asks_the_store_for_nothing(cluster: ConvergentCluster) -> None:
    bucket = cluster.bucket = FakeBucket()
    members = await cluster.trio()
    members[0].writer.execute(HOME)
    await cluster.equal()
    await uploaded(*members)
    bucket.requests.clear()
    await asyncio.sleep(1.5)
    assert bucket.requests == []


async def test_what_a_node_cast_before_it_died_is_uploaded_by_another(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    bucket = cluster.bucket = FakeBucket()
    a, b = await two_with_a_page(cluster)
    cluster.backup_interval_s = 3_600.0
    c = await cluster.start("c")
    await cluster.equal()
    c.writer.execute(COUNT)
    await cluster.equal()
    site = c.replication.view().site
    assert not [name for name in bucket.objects if site in name]
    await cluster.kill("c")
    await uploaded(a, b)
    assert [name for name in bucket.objects if site in name]
    await restore_from(bucket, tmp_path / "restored.db")
    assert rows_of(tmp_path / "restored.db") == [("home", "Home", 1)]


async def test_a_snapshot_that_was_broken_off_goes_on_with_the_pieces_that_are_there(
    cluster: ConvergentCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.backup.taking.PIECE_BYTES", 64 * 1024)
    allowed = 2

    def fails(what: str, name: str) -> str:
        nonlocal allowed
        if what == "create" and name.startswith(SNAPSHOTS):
            allowed -= 1
            return "before" if allowed < 0 else ""
        return ""

    bucket = cluster.bucket = FakeBucket(fails)
    a = await cluster.start("a")
    a.writer.executemany("INSERT INTO pages VALUES (?, ?, 0)", ((f"page {n}", "t" * 200) for n in range(1_000)))
    await eventually(lambda: bool(status(a).problem))
    await cluster.kill("a")
    pieces = [name for name in bucket.objects if name.startswith(SNAPSHOTS)]
    assert len(pieces) == 2
    allowed = 1_000
    bucket.requests.clear()
    a = await cluster.start("a")
    await uploaded(a)
    created = [name for what, name in bucket.requests if what == "create"]
    assert not set(pieces) & set(created)
    assert not list(tmp_path.rglob("copy-for-the-backup*"))
    await restore_from(bucket, tmp_path / "restored.db")
    assert len(rows_of(tmp_path / "restored.db")) == 1_000


async def test_a_table_that_comes_later_makes_another_snapshot(cluster: ConvergentCluster, tmp_path: Path) -> None:
    bucket = cluster.bucket = FakeBucket()
    a = await cluster.start("a")
    a.writer.execute(HOME)
    await uploaded(a)
    a.writer.execute("ALTER TABLE pages ADD COLUMN author TEXT DEFAULT 'nobody'")
    a.writer.execute("UPDATE pages SET author = 'me'")
    await eventually(lambda: status(a).snapshot == 2, 20.0)
    await uploaded(a)
    await restore_from(bucket, tmp_path / "restored.db")
    assert rows_of(tmp_path / "restored.db") == [("home", "Home", 0, "me")]


async def test_what_was_written_is_copied_again_when_it_is_time_and_only_then(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    cluster.snapshot_interval_s = 0.5
    bucket = cluster.bucket = FakeBucket()
    a, b = await two_with_a_page(cluster)
    for expected in (2, 3):
        b.writer.execute(COUNT)
        await eventually(lambda expected=expected: status(b).snapshot == status(a).snapshot == expected, 20.0)  # type: ignore[misc]
    await uploaded(a, b)
    bucket.requests.clear()
    await asyncio.sleep(1.5)
    assert bucket.requests == [], "nothing was written since"
    restored = await restore_from(bucket, tmp_path / "restored.db")
    assert rows_of(tmp_path / "restored.db") == [("home", "Home", 2)]
    assert restored.snapshot.number == 3


async def test_a_database_that_is_older_than_the_backup_goes_on_under_a_new_site(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    """Nobody else knows: the bucket does."""
    bucket = cluster.bucket = FakeBucket()
    a = await cluster.start("a")
    a.writer.execute(HOME)
    await uploaded(a)
    await cluster.stop("a")
    older = disk_of("a", tmp_path)
    a = await cluster.start("a")
    for _ in range(5):
        a.writer.execute(COUNT)
    await uploaded(a)
    site = a.replication.view().site
    await cluster.stop("a")
    put_back(older)
    a = await cluster.start("a")
    assert a.replication.view().site == site, "it cannot know yet"
    await eventually(lambda: a.replication.view().site != site)
    for _ in range(2):
        a.writer.execute(COUNT)
    await uploaded(a)
    restored = await restore_from(bucket, tmp_path / "restored.db")
    assert rows_of(tmp_path / "restored.db") == a.rows() == [("home", "Home", 2)]
    assert site not in restored.vector


async def test_an_older_database_that_wrote_before_the_backup_could_be_asked_goes_on_under_a_new_site(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    """Its site has two histories then. The one that only the bucket has is not taken for the other one."""
    is_down = False
    bucket = cluster.bucket = FakeBucket(lambda what, name: "before" if is_down else "")
    a = await cluster.start("a")
    a.writer.execute(HOME)
    await uploaded(a)
    await cluster.stop("a")
    older = disk_of("a", tmp_path)
    a = await cluster.start("a")
    a.writer.execute(COUNT)
    await uploaded(a)
    a.writer.execute(COUNT)
    await uploaded(a)
    site = a.replication.view().site
    await cluster.stop("a")
    put_back(older)
    is_down = True
    a = await cluster.start("a")
    a.writer.execute("UPDATE pages SET count = 100")
    await eventually(lambda: bool(status(a).problem) and not is_due(a.writer))
    is_down = False
    await eventually(lambda: a.replication.view().site != site, 30)
    a.writer.execute(COUNT)
    await uploaded(a, within_s=60)
    await restore_from(bucket, tmp_path / "restored.db")
    assert rows_of(tmp_path / "restored.db") == a.rows() == [("home", "Home", 101)]


async def test_a_database_of_another_history_does_not_mix_with_the_backup(
    cluster: ConvergentCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.backup.uploading.UNRELATED_S", 0.3)
    bucket = cluster.bucket = FakeBucket()
    a: Member = await cluster.start("a")
    a.writer.execute(HOME)
    await uploaded(a)
    await cluster.stop("a")
    before = dict(bucket.objects)
    other = ConvergentCluster(tmp_path / "other")
    other.folder.mkdir()
    other.bucket = bucket
    stranger = await other.start("a")
    try:
        stranger.writer.execute("INSERT INTO pages VALUES ('theirs', 'Theirs', 0)")
        await eventually(lambda: "holds another history" in status(stranger).problem)
        assert bucket.objects == before
    finally:
        await other.close()


async def test_nothing_but_what_a_backup_consists_of_is_written(cluster: ConvergentCluster) -> None:
    bucket = cluster.bucket = FakeBucket()
    a = await cluster.start("a")
    a.writer.execute(HOME)
    await uploaded(a)
    assert {name.split("/")[0] + "/" for name in bucket.objects} <= {"litecast.json/", CHANGESETS, SNAPSHOTS}
