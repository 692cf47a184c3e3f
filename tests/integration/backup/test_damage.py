"""A backup that is damaged, foreign or of a newer version: one line that says what and where, and no file."""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from replication.backup import manifests
from replication.backup.bucket import claim
from replication.backup.envelope import seal, unseal
from replication.backup.errors import (
    BackupDamaged,
    BackupError,
    BackupRefused,
    BackupUnreachable,
    CannotRestore,
    NothingToRestore,
)
from replication.backup.fingerprints import fingerprints
from replication.backup.for_node import restore_from
from replication.backup.manifests import Piece
from replication.backup.names import CHANGESETS, MARKER, SNAPSHOTS
from replication.backup.taking import opened_as_it_is
from replication.engine.changesets import digest
from tests.support.backups import rows_of, uploaded
from tests.support.buckets import FakeBucket
from tests.support.convergent import CLUSTER, ConvergentCluster

type Objects = dict[str, bytes]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """What a node uploaded: a snapshot, and several objects with changesets."""

    async def made() -> Objects:
        cluster = ConvergentCluster(tmp_path_factory.mktemp("sound"))
        bucket = cluster.bucket = FakeBucket()
        a = await cluster.start("a")
        for number in range(4):
            a.writer.execute("INSERT INTO pages VALUES (?, 'text', 1)", (f"page {number}",))
            await uploaded(a)
        await cluster.close()
        return bucket.objects

    return asyncio.run(made())


def in_order(objects: Objects, prefix: str) -> list[str]:
    return sorted(name for name in objects if name.startswith(prefix))


async def refusal(objects: Objects, target: Path, cluster: str | None = None) -> BackupError:
    bucket = FakeBucket()
    bucket.objects = objects
    with pytest.raises(BackupError) as raised:
        await restore_from(bucket, target, cluster=cluster)
    assert list(target.parent.iterdir()) == []
    assert "\n" not in str(raised.value)
    return raised.value


async def test_a_sound_one_is_restored(sound: Objects, tmp_path: Path) -> None:
    bucket = FakeBucket()
    bucket.objects = dict(sound)
    assert len(in_order(sound, CHANGESETS)) == 3
    restored = await restore_from(bucket, tmp_path / "out.db", cluster=CLUSTER)
    assert restored.changesets == 3
    assert len(rows_of(tmp_path / "out.db")) == 4


def drop(objects: Objects, name: str) -> None:
    del objects[name]


def cut(objects: Objects, name: str) -> None:
    objects[name] = objects[name][:-10]


def empty(objects: Objects, name: str) -> None:
    objects[name] = b""


def alter(objects: Objects, name: str) -> None:
    content = bytearray(objects[name])
    content[-5] ^= 1
    objects[name] = bytes(content)


def upgrade(objects: Objects, name: str) -> None:
    objects[name] = objects[name][:4] + b"\x02" + objects[name][5:]


def exchange(objects: Objects, name: str) -> None:
    """For another sound object of its kind."""
    prefix = CHANGESETS if name.startswith(CHANGESETS) else SNAPSHOTS
    objects[name] = next(objects[one] for one in in_order(objects, prefix) if one != name)


@pytest.mark.parametrize("damage", [cut, empty, alter, upgrade, exchange])
@pytest.mark.parametrize("which", ["piece", "closing", "first", "last"])
async def test_an_object_that_is_not_as_it_was_written_is_named(
    sound: Objects, tmp_path: Path, damage: Callable[[Objects, str], None], which: str
) -> None:
    snapshot, changesets = in_order(sound, SNAPSHOTS), in_order(sound, CHANGESETS)
    closing, *pieces = snapshot
    name = {"piece": pieces[0], "closing": closing, "first": changesets[0], "last": changesets[-1]}[which]
    objects = dict(sound)
    damage(objects, name)
    error = await refusal(objects, tmp_path / "out.db")
    assert isinstance(error, BackupDamaged)
    assert error.place == f"memory/{name}"
    if damage is upgrade:
        assert "upgrade litecast" in str(error)


@pytest.mark.parametrize("index", [0, 1])
async def test_changesets_that_are_missing_in_between_are_noticed(sound: Objects, tmp_path: Path, index: int) -> None:
    objects = dict(sound)
    changesets = in_order(sound, CHANGESETS)
    drop(objects, changesets[index])
    error = await refusal(objects, tmp_path / "out.db")
    assert isinstance(error, BackupDamaged)
    assert error.place == f"memory/{changesets[index + 1]}"
    assert "is in no object" in str(error)


async def test_a_piece_that_is_missing_is_named(sound: Objects, tmp_path: Path) -> None:
    objects = dict(sound)
    piece = in_order(sound, SNAPSHOTS)[-1]
    drop(objects, piece)
    error = await refusal(objects, tmp_path / "out.db")
    assert isinstance(error, BackupDamaged)
    assert error.place == f"memory/{piece}"


@pytest.mark.parametrize("which", [SNAPSHOTS, CHANGESETS, MARKER])
async def test_a_store_that_does_not_answer_ends_a_restore_in_one_line(
    sound: Objects, tmp_path: Path, which: str
) -> None:
    """Several pieces are asked for at a time: it is still one error, which can be tried again."""
    bucket = FakeBucket(lambda what, name: "before" if what == "get" and name.startswith(which) else "")
    bucket.objects = dict(sound)
    with pytest.raises(BackupUnreachable):
        await restore_from(bucket, tmp_path / "out.db")
    assert list(tmp_path.iterdir()) == []


def of_content(objects: Objects, content: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Objects:
    """With what the snapshot says of its rows changed."""
    closing = in_order(objects, SNAPSHOTS)[0]
    found = manifests.decode(objects[closing])
    return {**objects, closing: manifests.encode(replace(found, content=content(found.content)))}


@pytest.mark.parametrize("changes", [CHANGESETS, "none"])
async def test_rows_that_are_not_those_of_when_it_was_taken_are_noticed(
    sound: Objects, tmp_path: Path, changes: str
) -> None:
    """With changesets to be merged they are looked at before, else in the end."""
    objects = {name: content for name, content in sound.items() if changes == CHANGESETS or CHANGESETS not in name}
    others = of_content(objects, lambda content: {**content, "pages": content["pages"].replace("rows-1-", "rows-2-")})
    error = await refusal(others, tmp_path / "out.db")
    assert isinstance(error, BackupDamaged)
    assert "has other rows of table pages than when it was taken" in str(error)


async def test_a_snapshot_with_digests_of_the_other_kind_is_restored_and_checked(
    sound: Objects, tmp_path: Path
) -> None:
    """As they were written before."""
    bucket = FakeBucket()
    bucket.objects = {name: content for name, content in sound.items() if CHANGESETS not in name}
    await restore_from(bucket, tmp_path / "first.db")
    with closing(opened_as_it_is(tmp_path / "first.db")) as connection:
        former = fingerprints(connection)
    (tmp_path / "first.db").unlink()
    sound_objects, bucket.objects = bucket.objects, of_content(bucket.objects, lambda content: former)
    await restore_from(bucket, tmp_path / "out.db")
    (tmp_path / "out.db").unlink()
    wrong = of_content(sound_objects, lambda content: {"pages": "0" * 32})
    assert "other rows of table pages" in str(await refusal(wrong, tmp_path / "out.db"))


async def test_a_database_in_which_sqlite_finds_a_fault_is_not_put_in_place(sound: Objects, tmp_path: Path) -> None:
    """Its rows are as they were: what is wrong is how many pages are free."""
    objects = {name: content for name, content in sound.items() if CHANGESETS not in name}
    closing_name, piece = in_order(objects, SNAPSHOTS)
    content = bytearray(unseal(objects[piece], max_bytes=2**24))
    content[36:40] = b"\0\0\0\7"
    pieces = (Piece(size=len(content), digest=digest(bytes(content))),)
    found = replace(manifests.decode(objects[closing_name]), pieces=pieces)
    objects |= {piece: seal(bytes(content)), closing_name: manifests.encode(found)}
    error = await refusal(objects, tmp_path / "out.db")
    assert isinstance(error, BackupDamaged)
    assert "makes a database in which SQLite finds a fault" in str(error)


async def test_a_snapshot_that_was_never_closed_is_none(sound: Objects, tmp_path: Path) -> None:
    objects = dict(sound)
    drop(objects, in_order(sound, SNAPSHOTS)[0])
    assert isinstance(await refusal(objects, tmp_path / "out.db"), NothingToRestore)


async def test_nothing_is_restored_from_an_empty_place(tmp_path: Path) -> None:
    assert isinstance(await refusal({}, tmp_path / "out.db"), NothingToRestore)


async def test_a_backup_of_another_cluster_is_refused_by_who_says_whose_it_has_to_be(
    sound: Objects, tmp_path: Path
) -> None:
    error = await refusal(dict(sound), tmp_path / "out.db", cluster="another")
    assert isinstance(error, BackupRefused)
    assert f"cluster {CLUSTER!r}" in str(error)


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        (b"something else", "not what Litecast wrote"),
        (b"[]", "not what Litecast wrote"),
        (json.dumps({"litecast backup": 3, "cluster": CLUSTER}).encode(), "upgrade litecast"),
        (json.dumps({"litecast backup": 1}).encode(), "names no cluster"),
    ],
)
async def test_a_marker_that_is_none_of_ours_is_left_alone(
    sound: Objects, tmp_path: Path, marker: bytes, said: str
) -> None:
    objects = {**sound, MARKER: marker}
    error = await refusal(objects, tmp_path / "out.db")
    assert isinstance(error, BackupRefused)
    assert said in str(error)


async def test_a_place_that_holds_something_else_is_not_written_to(tmp_path: Path) -> None:
    bucket = FakeBucket()
    bucket.objects = {"holiday/photo.jpg": b"..."}
    with pytest.raises(BackupRefused, match=r"something else \(holiday/photo\.jpg\)"):
        await claim(bucket, CLUSTER)
    assert list(bucket.objects) == ["holiday/photo.jpg"]


async def test_a_place_is_of_the_first_cluster_that_claims_it() -> None:
    bucket = FakeBucket()
    await claim(bucket, "first")
    await claim(bucket, "first")
    with pytest.raises(BackupRefused, match="is the backup of cluster 'first', and this is 'second'"):
        await claim(bucket, "second")


async def test_a_file_that_is_there_stays_as_it_is(sound: Objects, tmp_path: Path) -> None:
    bucket = FakeBucket()
    bucket.objects = dict(sound)
    target = tmp_path / "out.db"
    target.write_bytes(b"mine")
    with pytest.raises(CannotRestore, match="is there already"):
        await restore_from(bucket, target)
    assert target.read_bytes() == b"mine"


async def test_a_file_that_comes_to_be_there_meanwhile_stays_as_it_is(sound: Objects, tmp_path: Path) -> None:
    target = tmp_path / "out.db"

    def while_it_reads(what: str, name: str) -> str:
        if name.startswith(CHANGESETS):
            target.write_bytes(b"mine")
        return ""

    bucket = FakeBucket(while_it_reads)
    bucket.objects = dict(sound)
    with pytest.raises(CannotRestore, match="meanwhile"):
        await restore_from(bucket, target)
    assert target.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out.db"]
