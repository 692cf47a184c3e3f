"""`ack = "bucket"`: a write returns once it comes back from the backup, soon, and many share an upload."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from replication.acknowledging.confirming import Confirming
from replication.acknowledging.levels import Ack, Sure
from replication.backup.for_node import backup_for_node, restore_from
from replication.backup.names import CHANGESETS
from replication.errors import CannotConfirm, NotConfirmed
from replication.repo import Repo
from tests.support.backups import rows_of, status, uploaded
from tests.support.buckets import FakeBucket
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually
from tests.support.primary_nodes import CLUSTER as PRIMARY
from tests.support.primary_nodes import PrimaryCluster

type Open = Callable[[Member], Awaitable[Repo]]


@pytest.fixture
async def repo_of() -> AsyncIterator[Open]:
    """Opens a node's repo as the node itself does."""
    async with AsyncExitStack() as stack:

        async def opened(member: Member) -> Repo:
            repo = await stack.enter_async_context(Repo(member.path, gives_positions=True))
            repo.link = member.replication
            repo.confirmations = Confirming(member.replication, size=1, backup=member.backup)
            repo.sure = Sure(level=Ack.BUCKET, timeout_s=20.0)
            return repo

        yield opened


def page(name: str) -> dict[str, str]:
    return {"page": name, "title": "x"}


async def restored(bucket: FakeBucket, folder: Path) -> list[str]:
    """The pages that a restore would bring back, of what is in the bucket at this very moment."""
    found = FakeBucket()
    found.objects = dict(bucket.objects)
    path = folder / f"restored-{len(list(folder.iterdir()))}.db"
    await restore_from(found, path)
    return [row[0] for row in rows_of(path)]


async def test_a_write_returns_once_it_comes_back_and_waits_for_no_interval(
    cluster: ConvergentCluster, repo_of: Open, tmp_path: Path
) -> None:
    bucket = cluster.bucket = FakeBucket()
    cluster.backup_interval_s = 3_600.0
    repo = await repo_of(await cluster.start("a"))
    for number in range(5):
        await repo.insert("pages", page(f"{number}"))
        assert f"{number}" in await restored(bucket, tmp_path)
    await repo.update("pages", "1", {"title": "x"})  # changes nothing
    await repo.insert("pages", page("for nobody"), ack="local")
    assert "for nobody" not in await restored(bucket, tmp_path)


async def test_two_hundred_that_wait_share_a_few_uploads(
    cluster: ConvergentCluster, repo_of: Open, tmp_path: Path
) -> None:
    bucket = cluster.bucket = FakeBucket()
    cluster.backup_interval_s = 3_600.0
    repo = await repo_of(await cluster.start("a"))
    await repo.insert("pages", page("first"))
    bucket.requests.clear()
    await asyncio.gather(*(repo.insert("pages", page(f"{number}")) for number in range(200)))
    assert len(bucket.requests) <= 40
    assert len(await restored(bucket, tmp_path)) == 201


async def test_what_another_node_wrote_before_has_to_be_there_as_well(
    cluster: ConvergentCluster, repo_of: Open, tmp_path: Path
) -> None:
    theirs = ""
    bucket = cluster.bucket = FakeBucket(
        lambda what, name: "before" if theirs and theirs in name and what == "create" else ""
    )
    a, b = [await cluster.start(name) for name in "ab"]
    a.writer.execute("INSERT INTO pages VALUES ('first', 'x', 0)")
    await cluster.equal()
    await uploaded(a, b)
    theirs = b.replication.view().site
    b.writer.execute("INSERT INTO pages VALUES ('of b', 'x', 0)")
    await cluster.equal()
    writing = asyncio.ensure_future((await repo_of(a)).insert("pages", page("of a")))
    await eventually(
        lambda: any(name.startswith(f"{CHANGESETS}{a.replication.view().site}") for name in bucket.objects)
    )
    await asyncio.sleep(0.5)
    assert not writing.done()
    theirs = ""
    await writing
    assert await restored(bucket, tmp_path) == ["first", "of a", "of b"]


async def test_what_was_acknowledged_is_in_the_bucket_of_that_moment_whatever_the_store_does(
    cluster: ConvergentCluster, repo_of: Open, tmp_path: Path
) -> None:
    """Three nodes write on top of what they have of each other; requests fail before and after they were done."""
    rng = random.Random(1)
    bucket = cluster.bucket = FakeBucket(
        lambda what, name: rng.choice(("before", "after")) if rng.random() < 0.1 else ""
    )
    members = await cluster.trio()
    repos = [await repo_of(member) for member in members]
    await repos[0].insert("pages", page("first"))
    await cluster.equal()
    moments: list[tuple[str, dict[str, bytes]]] = []
    until_s = asyncio.get_running_loop().time() + 3.0

    async def write_on(number: int) -> None:
        while asyncio.get_running_loop().time() < until_s:
            name = f"{number} {rng.random()}"
            try:
                await repos[number].insert("pages", page(name))
            except NotConfirmed:
                continue
            moments.append((name, dict(bucket.objects)))

    await asyncio.gather(*(write_on(number) for number in range(3)))
    assert len(moments) > 20
    found = FakeBucket()
    for name, objects in rng.sample(moments, 10):
        found.objects = objects
        assert name in await restored(found, tmp_path)


async def test_a_store_that_fails_is_told_with_what_was_written_and_is_not_pressed(
    cluster: ConvergentCluster, repo_of: Open, tmp_path: Path
) -> None:
    is_down = False
    bucket = cluster.bucket = FakeBucket(lambda what, name: "before" if is_down else "")
    cluster.backup_interval_s = 0.5
    a = await cluster.start("a")
    repo = await repo_of(a)
    await repo.insert("pages", page("first"))
    is_down = True
    repo.sure = Sure(level=Ack.BUCKET, timeout_s=0.4)
    bucket.requests.clear()
    with pytest.raises(
        NotConfirmed, match=r"in the backup, which stands still \(memory/.*do not write it again"
    ) as told:
        await repo.insert("pages", page("second"))
    assert told.value.result["page"] == "second"
    results = await asyncio.gather(*(repo.insert("pages", page(f"{n}")) for n in range(50)), return_exceptions=True)
    assert {type(result) for result in results} == {NotConfirmed}
    assert len(bucket.requests) <= 3
    is_down = False
    repo.sure = Sure(level=Ack.BUCKET, timeout_s=20.0)
    await repo.insert("pages", page("third"))
    assert len(await restored(bucket, tmp_path)) == 53
    assert status(a).problem == ""


async def test_without_a_backup_nothing_is_written(cluster: ConvergentCluster, repo_of: Open) -> None:
    a = await cluster.start("a")
    repo = await repo_of(a)
    with pytest.raises(CannotConfirm, match=r"bucket needs a backup: \[backup\] url"):
        await repo.insert("pages", page("first"))
    assert a.rows() == []
    await repo.insert("pages", page("first"), ack="local")


async def test_in_mode_primary_the_primarys_backup_counts_wherever_it_was_written(tmp_path: Path) -> None:
    cluster = PrimaryCluster(tmp_path)
    a, b, _ = await cluster.trio()
    try:
        await b.repo.insert("users", {"email": "before"})
        b.confirming._backup = backup_for_node(  # never started: what it knows is not asked for
            b.replication, FakeBucket(), cluster=PRIMARY, node="b", data_dir=tmp_path / "b", interval_s=3_600.0
        )
        with pytest.raises(CannotConfirm, match=r"bucket needs a backup"):
            await b.repo.insert("users", {"email": "x@y"}, ack="bucket")
        assert [row[1] for row in a.rows()] == ["before"]
        bucket = FakeBucket()
        backup = a.confirming._backup = backup_for_node(
            a.replication, bucket, cluster=PRIMARY, node="a", data_dir=tmp_path / "a", interval_s=3_600.0
        )
        backup.start(a.node)
        await b.repo.insert("users", {"email": "x@y"}, ack="bucket")
        await restore_from(bucket, tmp_path / "restored.db")
        assert rows_of(tmp_path / "restored.db", "SELECT email FROM users ORDER BY 1") == [("before",), ("x@y",)]
        await backup.stop()
        await backup.close()
        await b.confirming._backup.close()
    finally:
        await cluster.close()
