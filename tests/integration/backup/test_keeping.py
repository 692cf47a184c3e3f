"""Nodes that keep their bucket while they write to it: what is made one, what goes, and what stays restorable."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.security import Secret
from replication.backup.bucket import Bucket, manifest
from replication.backup.cuts import AtMoment
from replication.backup.envelope import ENCRYPTED
from replication.backup.errors import BackupDamaged, NotInBackup
from replication.backup.for_node import restore_from
from replication.backup.inventory import decode
from replication.backup.keeping import Keeper
from replication.backup.listing import listed
from replication.backup.names import MARKER, Stretch, of_closing, of_stretch, snapshots_in, stretches_in
from replication.backup.secured import SecuredBucket
from replication.backup.status import Tally
from replication.backup.stored import StoredBucket
from replication.backup.what_to_keep import FAN_IN
from replication.engine.stamps import ms_of
from tests.support.backups import HOME, rows_of, status, two_with_a_page, uploaded
from tests.support.buckets import FakeBucket
from tests.support.convergent import CLUSTER, ConvergentCluster
from tests.support.eventually import eventually
from tests.support.s3_server import BUCKET, s3_server

COUNT = "UPDATE pages SET count = count + 1 WHERE page = 'home'"
LONG_S = 604_800.0

type Objects = dict[str, bytes]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes minutes in a bucket takes no time here."""
    monkeypatch.setattr("replication.backup.what_to_keep.OBJECTS_TO_KEEP", 10)


def a_keeper(bucket: Bucket, *, retention_s: float = LONG_S, name: str = "keeper", now_ms: int = 2**47) -> Keeper:
    return Keeper(
        bucket,
        Tally(),
        cluster=CLUSTER,
        node=name,
        retention_s=retention_s,
        now_ms=lambda: now_ms,
        clock=lambda: 0.0,
        nonce=lambda: "a nonce",
        grace_s=-1.0,
    )


def stretches(names: Any) -> list[Stretch]:
    return stretches_in(names)


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> tuple[Objects, list[tuple[int, list[Any]]]]:
    """What two nodes uploaded, with snapshots in between; and what the rows were at some moments."""

    async def made() -> tuple[Objects, list[tuple[int, list[Any]]]]:
        cluster = ConvergentCluster(tmp_path_factory.mktemp("history"))
        cluster.snapshot_interval_s = 0.7
        bucket = cluster.bucket = FakeBucket()
        a, b = [await cluster.start(name) for name in "ab"]
        a.writer.execute(HOME)
        moments: list[tuple[int, list[Any]]] = []
        for number in range(3 * FAN_IN):
            (a, b)[number % 2].writer.execute(COUNT)
            rows = await cluster.equal()
            await uploaded(a, b)
            moments.append((max(ms_of(stamp) for stamp in status(a).position.stamps.values()), rows))
            await asyncio.sleep(0.05)
        await cluster.close()
        return bucket.objects, moments

    return asyncio.run(made())


def bucket_with(objects: Objects) -> FakeBucket:
    bucket = FakeBucket()
    bucket.objects = dict(objects)
    return bucket


async def rows_at(bucket: Bucket, target: Path, ms: int) -> list[Any]:
    await restore_from(bucket, target, cut=AtMoment(ms))
    return rows_of(target)


async def test_after_keeping_every_moment_is_restored_as_it_was(
    history: tuple[Objects, list[tuple[int, list[Any]]]], tmp_path: Path
) -> None:
    objects, moments = history
    bucket = bucket_with(objects)
    keeper = a_keeper(bucket)
    for _ in range(3):
        assert await keeper.keep()
    assert keeper.problem == ""
    before, after = stretches(objects), stretches(bucket.objects)
    assert len(after) < len(before) / 2
    assert snapshots_in(bucket.objects) == snapshots_in(objects), "they are younger than a week"
    first = await manifest(bucket, 1)
    asked = [(ms, rows) for ms, rows in moments if ms >= ms_of(first.clock)]
    assert len(asked) > FAN_IN
    for number, (ms, rows) in enumerate(asked[::4]):
        assert await rows_at(bucket, tmp_path / f"{number}.db", ms) == rows


async def test_what_is_older_than_the_base_goes_and_the_rest_stays(
    history: tuple[Objects, list[tuple[int, list[Any]]]], tmp_path: Path
) -> None:
    objects, moments = history
    bucket = bucket_with(objects)
    numbers = snapshots_in(objects)
    base = await manifest(bucket, numbers[1])
    newest_ms = max(ms_of(one.last) for one in stretches(objects))
    # as long as from just after the second snapshot until now
    keeper = a_keeper(bucket, retention_s=(newest_ms - ms_of(base.clock) - 1) / 1000)
    for _ in range(3):
        assert await keeper.keep()
    assert keeper.problem == ""
    assert snapshots_in(bucket.objects) == numbers[1:]
    assert keeper.kept is not None
    assert keeper.kept.since_ms == ms_of(base.clock)
    with pytest.raises(NotInBackup):
        await restore_from(bucket, tmp_path / "none.db", cut=AtMoment(ms_of(base.clock) - 1))
    for number, (ms, rows) in enumerate(one for one in moments if one[0] > ms_of(base.clock)):
        if number % 4 == 0:
            assert await rows_at(bucket, tmp_path / f"{number}.db", ms) == rows
    assert rows_of(tmp_path / "0.db") != moments[-1][1]


async def test_a_keeper_that_is_killed_at_any_request_leaves_a_bucket_that_restores(
    history: tuple[Objects, list[tuple[int, list[Any]]]], tmp_path: Path
) -> None:
    """And the next one does what is left: in the end it is as if nobody had been killed."""
    objects, moments = history
    undisturbed = bucket_with(objects)
    retention_s = 0.5
    assert await a_keeper(undisturbed, retention_s=retention_s).keep()
    total = len(undisturbed.requests)
    assert total > 20
    for at in range(0, total, 3):
        bucket = bucket_with(objects)
        left = at

        def dies(what: str, name: str, bucket: FakeBucket = bucket) -> str:
            nonlocal left
            left -= 1
            if left == 0:
                raise asyncio.CancelledError
            return ""

        bucket.fails = dies
        killed = asyncio.create_task(a_keeper(bucket, retention_s=retention_s).keep())
        await asyncio.wait({killed})
        assert killed.cancelled() == (at > 0)
        bucket.fails = lambda what, name: ""
        if at % 9 == 0:
            await restore_from(bucket, tmp_path / f"{at}.db")
            assert rows_of(tmp_path / f"{at}.db") == moments[-1][1]
        for name in [name for name in bucket.objects if name.startswith("keeper/")]:
            del bucket.objects[name]  # as if it had run out
        for _ in range(2):
            assert await a_keeper(bucket, retention_s=retention_s).keep()
        assert snapshots_in(bucket.objects) == snapshots_in(undisturbed.objects)
        assert len(stretches(bucket.objects)) <= len(stretches(undisturbed.objects))
        if at + 3 >= total:
            await restore_from(bucket, tmp_path / "last.db")
            assert rows_of(tmp_path / "last.db") == moments[-1][1]


async def test_an_object_that_is_gone_is_named_by_keeper_list_and_restore_until_it_is_back(
    history: tuple[Objects, list[tuple[int, list[Any]]]], tmp_path: Path
) -> None:
    bucket = bucket_with(history[0])
    for number in snapshots_in(bucket.objects)[1:]:
        del bucket.objects[of_closing(number)]
    keeper = a_keeper(bucket)
    for _ in range(2):
        assert await keeper.keep()
    # the last object of a site: no chain of changesets shows that it is gone
    lost = max(stretches(bucket.objects), key=lambda one: one.last)
    content = bucket.objects.pop(of_stretch(lost))
    with pytest.raises(BackupDamaged, match="is missing") as raised:
        await restore_from(bucket, tmp_path / "out.db")
    assert raised.value.place == f"memory/{of_stretch(lost)}"
    assert (await listed(bucket)).missing == [lost]
    for _ in range(2):
        await keeper.keep()
        assert f"{of_stretch(lost)} is missing" in keeper.problem
    for name in [name for name in bucket.objects if name.startswith("inventory/")]:
        inventory = decode(bucket.objects[name])
        assert lost in inventory.changesets, "it is not forgotten"
    bucket.objects[of_stretch(lost)] = content
    await keeper.keep()
    assert keeper.problem == ""
    await restore_from(bucket, tmp_path / "out.db")


async def test_a_damaged_object_is_told_and_kept_and_the_others_are_made_one(
    history: tuple[Objects, list[tuple[int, list[Any]]]],
) -> None:
    bucket = bucket_with(history[0])
    bad = stretches(bucket.objects)[FAN_IN // 2]
    bucket.objects[of_stretch(bad)] = b"LCBK?"
    keeper = a_keeper(bucket)
    await keeper.keep()
    assert of_stretch(bad) in keeper.problem
    await keeper.keep()
    assert of_stretch(bad) in bucket.objects
    assert len(stretches(bucket.objects)) < len(stretches(history[0]))


async def test_a_store_that_lists_late_is_helped_by_the_inventory(
    history: tuple[Objects, list[tuple[int, list[Any]]]], tmp_path: Path
) -> None:
    bucket = bucket_with(history[0])
    assert await a_keeper(bucket).keep()
    late = max(stretches(bucket.objects), key=lambda one: one.last)

    class Late(FakeBucket):
        async def names(self, prefix: str) -> list[str]:
            return [name for name in await super().names(prefix) if name != of_stretch(late)]

    other = Late()
    other.objects = bucket.objects
    await restore_from(other, tmp_path / "out.db")
    assert rows_of(tmp_path / "out.db") == history[1][-1][1]


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoredBucket]:
    with s3_server(tmp_path) as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        yield StoredBucket(f"s3://{BUCKET}/a/folder")


async def test_nodes_keep_a_bucket_of_a_real_server_while_they_write_to_it(
    cluster: ConvergentCluster, s3: StoredBucket, tmp_path: Path
) -> None:
    """Encrypted, so that whatever keeping reads, writes and removes goes through that as well."""
    bucket = cluster.bucket = SecuredBucket(
        s3, secrets=[Secret("the secret of this very cluster, long enough")], encrypt=True
    )
    cluster.keeping_pause_s, cluster.keeping_grace_s = 0.1, -1.0
    cluster.snapshot_interval_s = 1.0
    a, b = await two_with_a_page(cluster)
    began = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - began < 4.0:
        for member in (a, b):
            member.writer.execute(COUNT)
        await asyncio.sleep(0.05)
    rows = await cluster.equal()
    await uploaded(a, b)
    await eventually(lambda: status(a).counts["removed"] > FAN_IN, 20.0, why=lambda: status(a))
    assert status(a).counts["merged"] >= FAN_IN
    assert status(a).keeping_problem == status(b).keeping_problem == ""
    assert status(a).kept is not None
    assert status(b).counts["keepings"] == 0, "one is enough"
    for name in await s3.names(""):
        content = await s3.get(name, max_bytes=2**30)  # None: it went meanwhile
        assert name == MARKER or content is None or content[5] == ENCRYPTED, name
    await restore_from(bucket, tmp_path / "out.db")
    assert rows_of(tmp_path / "out.db") == rows


async def test_when_the_keeper_dies_another_node_keeps(cluster: ConvergentCluster) -> None:
    cluster.bucket = FakeBucket()
    cluster.keeping_pause_s = 0.1
    _, b = await two_with_a_page(cluster)
    await cluster.kill("a")
    for _ in range(15):
        b.writer.execute(COUNT)
        await uploaded(b)
    await eventually(lambda: status(b).counts["keepings"] > 0, 20.0, why=lambda: status(b))
    assert status(b).counts["merged"] >= FAN_IN
