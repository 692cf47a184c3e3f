"""A copy becomes a snapshot only if it has all that the newest one has, also when that one came meanwhile."""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from replication.backup import manifests, snapshotting
from replication.backup.manifests import Manifest
from replication.backup.names import of_closing, snapshot_id, snapshots_in
from replication.backup.saying import Said
from replication.backup.snapshotting import Snapshotting
from replication.backup.status import Tally
from replication.backup.taking import Snapshots, Taken
from replication.backup.telling import Uploaded
from replication.convergent.engine import Engine, ThreadEngine
from replication.convergent.store import View
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp
from tests.support.buckets import FakeBucket

A, B = Site("a" * 32), Site("b" * 32)


def copied(number: int, **stamps: int) -> Manifest:
    vector = {Site(letter * 32): Head(stamp=Stamp(stamp), digest=b"d" * 16) for letter, stamp in stamps.items()}
    clock = Stamp(max(stamps.values()))
    return Manifest(
        snapshot=snapshot_id(clock, number.to_bytes(8)),
        number=number,
        cluster="c",
        node="n",
        taken_ms=0,
        clock=clock,
        pieces=(),
        vector=vector,
        closed={},
    )


class HeldSnapshots(Snapshots):
    """Copies what is said, and uploads when it is let."""

    def __init__(self, folder: Path, engine: Engine, bucket: FakeBucket, taken: Manifest) -> None:
        super().__init__(folder, engine, bucket, cluster="c", node="n")
        self.taken = taken
        self.may_upload = asyncio.Event()
        self.old = False

    async def is_old(self) -> bool:
        return self.old

    async def copy(self, reader: sqlite3.Connection, taken_ms: int) -> Manifest:
        return self.taken

    async def upload(self, manifest: Manifest, told: Callable[[Taken], None]) -> None:
        await self.may_upload.wait()


class Quiet:
    """A node that knows no more than the first snapshot."""

    def __init__(self) -> None:
        self.has = {"a": 10}

    def view(self) -> View:
        return View(site=A, vector=copied(1, **self.has).vector, closed={}, clock=Stamp(10), schemas={"t": "new"})

    def is_ahead(self) -> bool:
        return False

    async def open_copy(self) -> sqlite3.Connection:
        return sqlite3.connect(":memory:")


async def closed_with(
    tmp_path: Path, meanwhile: Manifest | None, taken: Manifest, *, is_old: bool = False
) -> list[str]:
    """The names of the copies that are snapshots, after another one was closed, perhaps, and known here."""
    bucket = FakeBucket()
    engine = ThreadEngine("test")
    snapshots = HeldSnapshots(tmp_path, engine, bucket, taken)
    snapshots.old = is_old
    uploaded = Uploaded(lambda stamps: Said(site=A, works=True, snapshot=0, uploaded=stamps))
    bucket.objects[of_closing(1)] = manifests.encode(copied(1, a=10))
    work = Snapshotting(Quiet(), bucket, snapshots, uploaded, Tally(), interval_s=3600.0, now_ms=lambda: 0)
    await work.list()
    await work.see_to_it(takes_care=True)
    await asyncio.sleep(0.01)
    if meanwhile is not None:
        bucket.objects[of_closing(2)] = manifests.encode(meanwhile)
        uploaded.newest_snapshot = 2
        await work.hear()
        assert work.number == 2
    asked = len(bucket.requests)
    snapshots.may_upload.set()
    while not any(request[0] == "get" for request in bucket.requests[asked:]):  # it looks which one is the newest now
        await asyncio.sleep(0.01)
    await work.stop()
    await work.close()
    return [manifests.decode(bucket.objects[of_closing(number)]).snapshot for number in snapshots_in(bucket.objects)]


async def test_a_copy_is_closed_if_no_other_came(tmp_path: Path) -> None:
    taken = copied(2, a=12)
    assert await closed_with(tmp_path, None, taken) == [copied(1, a=10).snapshot, taken.snapshot]


async def test_a_copy_that_lacks_something_of_one_that_came_meanwhile_is_none(tmp_path: Path) -> None:
    other = replace(copied(2, a=11, b=11), snapshot=snapshot_id(Stamp(11), b"another one"))
    assert await closed_with(tmp_path, other, copied(2, a=12)) == [copied(1, a=10).snapshot, other.snapshot]


async def test_a_snapshot_with_changes_that_came_to_no_node_is_said_to_end_the_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshotting, "LOST_S", 0.01)
    bucket = FakeBucket()
    bucket.objects[of_closing(1)] = manifests.encode(copied(1, a=10, b=11))
    here, uploaded = Quiet(), Uploaded(lambda stamps: Said(site=A, works=True, snapshot=0, uploaded=stamps))
    snapshots = Snapshots(tmp_path, ThreadEngine("test"), bucket, cluster="c", node="n")
    work = Snapshotting(here, bucket, snapshots, uploaded, Tally(), interval_s=3600.0, now_ms=lambda: 0)
    await work.list()
    await work.see_to_it(takes_care=True)
    assert not work.problem, "its changes may be on their way"
    await asyncio.sleep(0.02)
    await work.see_to_it(takes_care=True)
    assert B in work.problem
    assert "restore the backup into a file" in work.problem
    here.has = {"a": 10, "b": 11}
    await work.see_to_it(takes_care=False)
    assert not work.problem
    await work.close()


async def test_a_copy_that_took_too_long_is_none(tmp_path: Path) -> None:
    """Its pieces may be gone: nobody goes on with what is so old."""
    assert await closed_with(tmp_path, None, copied(2, a=12), is_old=True) == [copied(1, a=10).snapshot]
