"""Restores up to a moment, or a position: exactly the rows of then, from all nodes, whatever came later."""

import asyncio
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from replication.backup.bucket import manifest
from replication.backup.cuts import AtMoment, AtPosition
from replication.backup.errors import BackupDamaged, BackupError, NotInBackup
from replication.backup.for_node import restore_from
from replication.backup.names import CHANGESETS, of_stretch, stretch_of
from replication.convergent.for_file import now_ms
from replication.engine.folding import is_due
from replication.engine.sites import vector
from replication.engine.stamps import Site, Stamp, ms_of
from replication.positions import Position, of_next_fold
from tests.support.backups import HOME, rows_of, status, two_with_a_page, uploaded
from tests.support.buckets import FakeBucket
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually

SQL = (
    "INSERT INTO pages (page, title, count) VALUES (:page, :title, 1) ON CONFLICT DO UPDATE SET title = :title",
    "UPDATE pages SET count = count + 1 WHERE page = :page",
    "DELETE FROM pages WHERE page = :page",
)

type Rows = list[Any]


def write(rng: random.Random, member: Member) -> None:
    member.writer.execute(rng.choice(SQL), {"page": f"page {rng.randrange(6)}", "title": str(rng.random())})


def seen_by(member: Member) -> tuple[Position, Rows] | None:
    """Where a node is, and the rows that it has there; None if something waits to be folded."""
    member.writer.execute("BEGIN")
    try:
        if is_due(member.writer):
            return None
        return Position({site: head.stamp for site, head in vector(member.writer).items()}), member.rows()
    finally:
        member.writer.execute("ROLLBACK")


async def refusal(bucket: FakeBucket, target: Path, cut: AtMoment | AtPosition) -> BackupError:
    with pytest.raises(BackupError) as raised:
        await restore_from(bucket, target, cut=cut)
    assert not [path for path in target.parent.iterdir() if "restored" in path.name]
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize("seed", range(2))
async def test_a_restore_to_a_moment_has_the_rows_of_that_moment_and_no_others(
    cluster: ConvergentCluster, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    bucket = cluster.bucket = FakeBucket()
    members = await cluster.trio()
    members[0].writer.execute(HOME)
    await cluster.equal()
    await uploaded(*members)
    moments: dict[int, Rows] = {}
    for number in range(8):
        for _ in range(rng.randrange(1, 12)):
            write(rng, rng.choice(members))
            await asyncio.sleep(rng.random() * 0.02)
        if number == 4:  # the later moments begin with this snapshot, the earlier ones with the first
            members[0].writer.execute("ALTER TABLE pages ADD COLUMN author TEXT")
            await cluster.equal("SELECT page, title, count FROM pages ORDER BY 1")
            await eventually(lambda: status(members[0]).snapshot == 2, 20.0)
        rows = await cluster.equal("SELECT page, title, count FROM pages ORDER BY 1")
        moments[now_ms()] = rows
        await asyncio.sleep(0.003)
    await uploaded(*members)
    snapshots: set[int] = set()
    for number, (ms, rows) in enumerate(moments.items()):
        target = tmp_path / f"{number}.db"
        restored = await restore_from(bucket, target, cut=AtMoment(ms))
        assert rows_of(target, "SELECT page, title, count FROM pages ORDER BY 1") == rows
        assert not restored.left_out
        assert all(ms_of(head.stamp) <= ms for head in restored.vector.values())
        snapshots.add(restored.snapshot.number)
    assert snapshots == {1, 2}
    assert len({str(rows) for rows in moments.values()}) > 4


async def test_a_restore_to_a_position_has_what_a_node_had_there_under_load(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    rng = random.Random(3)
    bucket = cluster.bucket = FakeBucket()
    members = await cluster.trio()
    members[0].writer.execute(HOME)
    await cluster.equal()
    await uploaded(*members)
    seen: list[tuple[Position, Rows]] = []
    for _ in range(250):
        write(rng, rng.choice(members))
        await asyncio.sleep(rng.random() * 0.006)
        found = seen_by(rng.choice(members))
        if found is not None:
            seen.append(found)
    await cluster.equal()
    await uploaded(*members)
    assert len(seen) > 20
    for number, (position, rows) in enumerate(rng.sample(seen, 12)):
        target = tmp_path / f"{number}.db"
        restored = await restore_from(bucket, target, cut=AtPosition(position))
        assert rows_of(target) == rows
        assert {site: head.stamp for site, head in restored.vector.items()} == dict(position.stamps)


async def test_the_position_of_a_write_brings_that_write_with_all_that_it_depends_on_and_nothing_of_its_node_after_it(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    bucket = cluster.bucket = FakeBucket()
    a, b = await two_with_a_page(cluster)
    b.writer.execute("INSERT INTO pages VALUES ('seen', 'by a', 0)")
    await cluster.equal()
    a.writer.execute("BEGIN IMMEDIATE")
    a.writer.execute("UPDATE pages SET title = 'as a wrote it' WHERE page = 'seen'")
    position = of_next_fold(a.writer)
    a.writer.execute("COMMIT")
    rows = await cluster.equal()
    for member in (b, a):
        member.writer.execute("UPDATE pages SET count = count + 1")
        await cluster.equal()
    await uploaded(a, b)
    assert len(position.stamps) == 1
    restored = await restore_from(bucket, tmp_path / "restored.db", cut=AtPosition(position))
    assert rows_of(tmp_path / "restored.db") == rows
    assert not restored.left_out


async def of_one_node(cluster: ConvergentCluster) -> tuple[FakeBucket, Member, list[int]]:
    """A node that made four changes, one after the other, and the moments of these."""
    bucket = cluster.bucket = FakeBucket()
    a = await cluster.start("a")
    moments: list[int] = []
    for number in range(4):
        a.writer.execute("INSERT INTO pages VALUES (?, 'text', 0)", (f"page {number}",))
        await uploaded(a)
        moments.append(now_ms())
        await asyncio.sleep(0.003)
    return bucket, a, moments


async def test_a_moment_before_the_first_snapshot_or_in_the_future_is_refused_with_what_can_be_had(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    bucket, _, moments = await of_one_node(cluster)
    first = await manifest(bucket, 1)
    begins = ms_of(first.clock)
    early = await refusal(bucket, tmp_path / "restored.db", AtMoment(begins - 1))
    assert isinstance(early, NotInBackup)
    assert "has nothing as early as" in str(early)
    assert "its first snapshot is of" in str(early)
    late = await refusal(bucket, tmp_path / "restored.db", AtMoment(now_ms() + 60_000))
    assert "name a moment that has passed" in str(late)
    await restore_from(bucket, tmp_path / "restored.db", cut=AtMoment(begins))
    assert len(rows_of(tmp_path / "restored.db")) == 1
    await restore_from(bucket, tmp_path / "later.db", cut=AtMoment(moments[-1] + 2))
    assert len(rows_of(tmp_path / "later.db")) == 4


async def test_positions_that_are_not_there_or_not_whole_are_refused_with_what_is_missing(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    bucket = cluster.bucket = FakeBucket()
    a, b = await two_with_a_page(cluster)
    before = seen_by(a)
    assert before is not None
    b.writer.execute("INSERT INTO pages VALUES ('first', 'of b', 0)")
    await cluster.equal()
    b.writer.execute("INSERT INTO pages VALUES ('second', 'of b', 0)")
    await cluster.equal()
    a.writer.execute("UPDATE pages SET title = 'seen by a'")
    await cluster.equal()
    await uploaded(a, b)
    whole = seen_by(a)
    assert whole is not None
    stamps, own, other = dict(whole[0].stamps), a.replication.view().site, b.replication.view().site
    target = tmp_path / "restored.db"

    async def refused(changed: Mapping[Site, Stamp]) -> str:
        return str(await refusal(bucket, target, AtPosition(Position({**stamps, **changed}))))

    assert f"does not have what site {other}" in await refused({other: Stamp(stamps[other] + 1)})
    assert "does not have what site" in await refused({Site("f" * 32): Stamp(7)})
    assert "nothing as early as that position" in await refused({own: Stamp(before[0].stamps[own] - 1)})
    first = min(stretch.first for stretch in map(stretch_of, bucket.objects) if stretch and stretch.site == other)
    said = await refused({other: first})
    assert f"add {other}:" in said
    more = Position.parse(said.split("add ")[1].split()[0])
    await restore_from(bucket, target, cut=AtPosition(Position({**stamps, other: first}) | more))
    assert rows_of(target) == whole[1]


async def test_an_object_that_is_missing_before_the_moment_is_damage_and_after_it_none(
    cluster: ConvergentCluster, tmp_path: Path
) -> None:
    bucket, _, moments = await of_one_node(cluster)
    objects = sorted(name for name in bucket.objects if name.startswith(CHANGESETS))
    assert len(objects) == 3
    kept = bucket.objects.pop(objects[1])
    damage = await refusal(bucket, tmp_path / "restored.db", AtMoment(moments[2]))
    assert isinstance(damage, BackupDamaged)
    bucket.objects[objects[1]] = kept
    del bucket.objects[objects[2]]
    await restore_from(bucket, tmp_path / "restored.db", cut=AtMoment(moments[2]))
    assert len(rows_of(tmp_path / "restored.db")) == 3
    del bucket.objects[objects[1]]
    stretch = stretch_of(objects[0])
    assert stretch is not None
    assert of_stretch(stretch) in bucket.objects
    await restore_from(bucket, tmp_path / "first.db", cut=AtMoment(ms_of(stretch.last)))
    assert len(rows_of(tmp_path / "first.db")) == 2


async def test_a_disk_without_room_is_said_before_anything_is_fetched(
    cluster: ConvergentCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, _, moments = await of_one_node(cluster)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1_000})())
    bucket.requests.clear()
    full = await refusal(bucket, tmp_path / "restored.db", AtMoment(moments[2]))
    assert "make room" in str(full)
    assert not [name for _, name in bucket.requests if name.startswith("snapshots/") and name.count("/") == 2]
