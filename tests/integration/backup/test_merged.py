"""Restoring where small objects were made one: before, and while, it reads them."""

from pathlib import Path
from typing import Any

import pytest

from replication.backup.chains import by_site
from replication.backup.errors import BackupDamaged
from replication.backup.for_node import restore_from
from replication.backup.names import CHANGESETS, Stretch, of_stretch, stretches_in
from replication.engine.stamps import Site
from tests.support.backups import as_one, rows_of, status, two_with_a_page, uploaded
from tests.support.buckets import FakeBucket
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually

COUNT = "UPDATE pages SET count = count + 1, title = title || '.' WHERE page = 'home'"


def there(objects: dict[str, bytes]) -> dict[Site, list[Stretch]]:
    return by_site(stretches_in(sorted(objects)))


async def two_that_depend_on_each_other(cluster: ConvergentCluster) -> tuple[FakeBucket, list[Any]]:
    """A bucket with two snapshots, and objects of two sites before and after the second one, in turns."""
    bucket = cluster.bucket = FakeBucket()
    a, b = await two_with_a_page(cluster)

    async def in_turns(*members: Member) -> None:
        for member in members * 2:
            member.writer.execute(COUNT)
            await cluster.equal()
            await uploaded(a, b)

    await in_turns(a, b)
    for member in (a, b):
        member.writer.execute("ALTER TABLE pages ADD COLUMN author TEXT DEFAULT 'nobody'")
    await eventually(lambda: status(a).snapshot == 2, 20.0)
    await in_turns(b, a)
    return bucket, await cluster.equal()


async def test_a_large_object_that_begins_before_the_snapshot_is_merged_when_it_is_its_turn(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    bucket, rows = await two_that_depend_on_each_other(cluster)
    for of in there(bucket.objects).values():
        as_one(bucket.objects, of)
    assert len(there(bucket.objects)) == 2
    restored = await restore_from(bucket, tmp_path / "out.db")
    assert restored.left_out == ()
    assert rows_of(tmp_path / "out.db") == rows


async def test_objects_that_are_made_one_while_it_reads_are_read_there(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    bucket, rows = await two_that_depend_on_each_other(cluster)
    await cluster.stop("a")
    await cluster.stop("b")
    read = 0

    def keeps(what: str, name: str) -> str:
        nonlocal read
        read += what == "get" and name.startswith(CHANGESETS)
        if read == 2:
            for of in there(bucket.objects).values():
                if len(of) > 1:
                    as_one(bucket.objects, of)
        return ""

    bucket.fails = keeps
    restored = await restore_from(bucket, tmp_path / "out.db")
    assert read > 2
    assert restored.left_out == ()
    assert rows_of(tmp_path / "out.db") == rows


@pytest.mark.parametrize("index", [0, -1])
async def test_an_object_that_goes_while_it_reads_and_is_in_no_other_one_is_named(
    cluster: ConvergentCluster, tmp_path: Path, index: int
) -> None:
    bucket, _ = await two_that_depend_on_each_other(cluster)
    lost = of_stretch(next(iter(there(bucket.objects).values()))[index])
    await cluster.stop("a")
    await cluster.stop("b")

    def goes(what: str, name: str) -> str:
        if what == "get" and name == lost:
            bucket.objects.pop(lost, None)
        return ""

    bucket.fails = goes
    if index == 0:  # it is before the snapshot: nobody reads it
        await restore_from(bucket, tmp_path / "out.db")
        return
    with pytest.raises(BackupDamaged, match="is missing") as raised:
        await restore_from(bucket, tmp_path / "out.db")
    assert raised.value.place == f"memory/{lost}"
