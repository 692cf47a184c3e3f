"""An encrypted backup: who has the secret reads it, everybody else reads nothing, and what a place is it stays."""

import asyncio
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.security import Secret
from replication.backup.bucket import claim, whose
from replication.backup.encrypting import key_of, new_key
from replication.backup.envelope import HEADER_BYTES
from replication.backup.errors import BackupDamaged, BackupError, BackupRefused
from replication.backup.for_node import restore_from
from replication.backup.listing import listed
from replication.backup.names import CHANGESETS, KEYS, MARKER, SNAPSHOTS
from replication.backup.secured import SecuredBucket
from tests.support.backups import rows_of, status, uploaded
from tests.support.buckets import FakeBucket
from tests.support.convergent import CLUSTER, ConvergentCluster
from tests.support.eventually import eventually

SECRET = Secret("the first secret of this cluster")
NEW = Secret("the second secret of this cluster")
TEXT = "what nobody else is to read"
INSERT = "INSERT INTO pages VALUES (?, ?, 1)"

type Objects = dict[str, bytes]


def encrypted(store: FakeBucket, *secrets: Secret) -> SecuredBucket:
    """As a node that is to encrypt has it."""
    return SecuredBucket(store, secrets=secrets or (SECRET,), encrypt=True)


def plain(store: FakeBucket) -> SecuredBucket:
    """As a node that is not to has it, and knows the secret for the bus."""
    return SecuredBucket(store, secrets=(SECRET,), encrypt=False)


def reader(store: FakeBucket, *secrets: Secret) -> SecuredBucket:
    """As `litecast restore` has it."""
    return SecuredBucket(store, secrets=secrets, encrypt=None)


def kept_in(objects: Objects) -> FakeBucket:
    store = FakeBucket()
    store.objects = dict(objects)
    return store


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """What a node uploaded: a snapshot, and several objects with changesets."""

    async def made() -> Objects:
        cluster = ConvergentCluster(tmp_path_factory.mktemp("sound"))
        store = FakeBucket()
        cluster.bucket = encrypted(store)
        a = await cluster.start("a")
        for number in range(4):
            a.writer.execute(INSERT, (f"page {number}", TEXT))
            await uploaded(a)
        await cluster.close()
        return store.objects

    return asyncio.run(made())


async def refusal(bucket: SecuredBucket, store: FakeBucket, target: Path) -> BackupError:
    before = dict(store.objects)
    with pytest.raises(BackupError) as raised:
        await restore_from(bucket, target)
    assert list(target.parent.iterdir()) == []
    assert store.objects == before
    assert "\n" not in str(raised.value)
    for secret in (SECRET, NEW):
        assert secret.reveal() not in str(raised.value)
    return raised.value


async def test_what_three_nodes_uploaded_encrypted_is_restored(cluster: ConvergentCluster, tmp_path: Path) -> None:
    store = FakeBucket()
    cluster.bucket = encrypted(store)
    members = []
    for name in "abc":
        cluster.bucket = encrypted(store)  # each has its own, and all begin at once
        members.append(await cluster.start(name))
    for number, member in enumerate(members):
        member.writer.execute(INSERT, (f"of {number}", TEXT))
    await cluster.equal()
    await uploaded(*members)
    for member in members:
        member.writer.execute("UPDATE pages SET count = count + 1 WHERE page = 'of 0'")
    rows = await cluster.equal()
    await uploaded(*members)
    restored = await restore_from(reader(store, SECRET), tmp_path / "restored.db", cluster=CLUSTER)
    assert rows_of(tmp_path / "restored.db") == rows
    assert restored.changesets > 0
    assert [name for name in store.objects if name.startswith(KEYS)] == [KEYS + key_of(SECRET, CLUSTER).fingerprint]


def test_nothing_that_was_written_can_be_read_in_the_bucket(sound: Objects) -> None:
    for name, content in sound.items():
        assert content[5] == 2 or name == MARKER
        assert TEXT.encode() not in content
        assert b"pages" not in content
        for start in (38, HEADER_BYTES):
            with pytest.raises(zlib.error):
                zlib.decompress(content[start:])


@pytest.mark.parametrize("secrets", [(), (NEW,), (NEW, Secret("x" * 32))])
async def test_without_the_secret_nothing_is_restored_and_it_is_said_at_once(
    sound: Objects, tmp_path: Path, secrets: Sequence[Secret]
) -> None:
    store = kept_in(sound)
    error = await refusal(reader(store, *secrets), store, tmp_path / "out.db")
    assert isinstance(error, BackupRefused)
    assert "LITECAST_BUS__SECRET" in error.remedy
    assert all(name == MARKER or name.startswith(KEYS) for _, name in store.requests)
    with pytest.raises(BackupRefused):
        await listed(reader(store, *secrets))


async def test_who_has_the_secret_lists_what_is_there(sound: Objects) -> None:
    found = await listed(reader(kept_in(sound), SECRET))
    assert (found.cluster, [one.number for one in found.snapshots], len(found.sites)) == (CLUSTER, [1], 1)


def cut(objects: Objects, name: str) -> None:
    objects[name] = objects[name][:-1]


def alter(objects: Objects, name: str) -> None:
    content = bytearray(objects[name])
    content[50] ^= 1
    objects[name] = bytes(content)


def empty(objects: Objects, name: str) -> None:
    objects[name] = b""


def exchange(objects: Objects, name: str) -> None:
    """For another sound object of the same key."""
    objects[name] = next(objects[one] for one in sorted(objects) if one not in (name, MARKER) and one[:2] == name[:2])


def forge(objects: Objects, name: str) -> None:
    """For one that is plain, as who has no secret can make it."""
    objects[name] = b"LCBK\x01\x01" + bytes(100)


@pytest.mark.parametrize("damage", [cut, alter, empty, exchange, forge])
@pytest.mark.parametrize("which", ["piece", "closing", "first", "last"])
async def test_an_object_that_is_not_what_was_encrypted_under_its_name_is_named(
    sound: Objects, tmp_path: Path, damage: object, which: str
) -> None:
    assert callable(damage)
    closing, *pieces = sorted(name for name in sound if name.startswith(SNAPSHOTS))
    changesets = sorted(name for name in sound if name.startswith(CHANGESETS))
    name = {"piece": pieces[0], "closing": closing, "first": changesets[0], "last": changesets[-1]}[which]
    store = kept_in(sound)
    damage(store.objects, name)
    error = await refusal(reader(store, SECRET), store, tmp_path / "out.db")
    assert isinstance(error, BackupDamaged)
    assert error.place == f"memory/{name}"


async def test_a_key_that_was_altered_is_named(sound: Objects, tmp_path: Path) -> None:
    store = kept_in(sound)
    (name,) = (name for name in sound if name.startswith(KEYS))
    alter(store.objects, name)
    error = await refusal(reader(store, SECRET), store, tmp_path / "out.db")
    assert isinstance(error, BackupDamaged)
    assert error.place == f"memory/{name}"


async def test_a_key_of_another_backup_is_not_taken_for_this_ones(sound: Objects, tmp_path: Path) -> None:
    """With it a node would upload what nobody else can read."""
    store = kept_in(sound)
    wrapping = key_of(SECRET, CLUSTER)
    name = KEYS + wrapping.fingerprint
    store.objects[name] = wrapping.wrap(name, new_key())
    assert isinstance(await refusal(reader(store, SECRET), store, tmp_path / "out.db"), BackupRefused)
    with pytest.raises(BackupRefused):
        await claim(encrypted(store), CLUSTER)


async def test_a_plain_place_stays_plain_and_an_encrypted_one_encrypted() -> None:
    store = FakeBucket()
    await claim(plain(store), CLUSTER)
    with pytest.raises(BackupRefused, match=r"is not encrypted, and .* encrypt is true: name another place"):
        await claim(encrypted(store), CLUSTER)
    assert list(store.objects) == [MARKER]
    store = FakeBucket()
    await claim(encrypted(store), CLUSTER)
    before = dict(store.objects)
    with pytest.raises(BackupRefused, match=r"is encrypted, and .* encrypt is false: set it to true"):
        await claim(plain(store), CLUSTER)
    assert store.objects == before


async def test_a_node_whose_settings_differ_uploads_nothing_and_says_so(cluster: ConvergentCluster) -> None:
    store = FakeBucket()
    await claim(encrypted(store), CLUSTER)
    before = dict(store.objects)
    for bucket, said in ((plain(store), "is encrypted, and"), (encrypted(store, NEW), "no secret that is given")):
        cluster.bucket = bucket
        a = await cluster.start("a")
        a.writer.execute("INSERT OR REPLACE INTO pages VALUES ('home', 'Home', 0)")
        await eventually(lambda a=a, said=said: said in status(a).problem)  # type: ignore[misc]
        await cluster.stop("a")
        assert store.objects == before


async def test_a_forged_marker_that_says_plain_does_not_deceive_who_was_told_that_it_is_encrypted(
    sound: Objects, tmp_path: Path
) -> None:
    forged = FakeBucket()
    await claim(plain(forged), CLUSTER)
    store = kept_in({**sound, **forged.objects})
    error = await refusal(encrypted(store), store, tmp_path / "out.db")
    assert "is not encrypted" in str(error)


async def test_a_new_secret_needs_one_more_copy_of_the_key_from_who_has_both(sound: Objects, tmp_path: Path) -> None:
    store = kept_in(sound)
    with pytest.raises(BackupRefused, match="old_secret_file"):
        await whose(encrypted(store, NEW))
    assert store.objects == sound
    await restore_from(reader(store, NEW, SECRET), tmp_path / "old.db")
    assert store.objects == sound, "who only reads leaves it as it is"
    assert await whose(encrypted(store, NEW, SECRET)) == CLUSTER
    (name,) = set(store.objects) - set(sound)
    assert name == KEYS + key_of(NEW, CLUSTER).fingerprint
    await restore_from(reader(store, NEW), tmp_path / "new.db")
    del store.objects[KEYS + key_of(SECRET, CLUSTER).fingerprint]
    assert await whose(encrypted(store, NEW)) == CLUSTER
    assert rows_of(tmp_path / "new.db") == rows_of(tmp_path / "old.db")
    with pytest.raises(BackupRefused):
        await whose(reader(store, SECRET))


async def test_nodes_that_begin_at_once_have_one_key() -> None:
    store = FakeBucket()
    buckets = [encrypted(store) for _ in range(8)]
    await asyncio.gather(*(claim(bucket, CLUSTER) for bucket in buckets))
    for number, bucket in enumerate(buckets):
        assert await bucket.create(f"changesets/{number}", b"mine")
    for bucket in buckets:
        assert [await bucket.get(f"changesets/{n}", max_bytes=4) for n in range(8)] == [b"mine"] * 8


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("which", range(5))
async def test_who_is_stopped_while_a_place_becomes_the_clusters_goes_on_later(how: str, which: int) -> None:
    left = [which]

    def fails(what: str, name: str) -> str:
        left[0] -= 1
        return how if left[0] == -1 else ""

    store = FakeBucket(fails)
    with pytest.raises(BackupError):
        await claim(encrypted(store), CLUSTER)
    left[0] = -2
    bucket = encrypted(store)
    await claim(bucket, CLUSTER)
    await bucket.create("changesets/1", b"mine")
    assert await encrypted(store).get("changesets/1", max_bytes=4) == b"mine"


async def test_nothing_is_written_to_a_place_that_is_nobodys() -> None:
    store = FakeBucket()
    with pytest.raises(BackupDamaged, match=r"litecast\.json is missing"):
        await encrypted(store).create("changesets/1", b"mine")
    assert store.objects == {}


async def test_what_is_written_over_is_encrypted_as_well_and_only_who_can_read_removes() -> None:
    store = FakeBucket()
    bucket = encrypted(store)
    await claim(bucket, CLUSTER)
    await bucket.put("lease", b"mine")
    assert b"mine" not in store.objects["lease"]
    assert await bucket.get("lease", max_bytes=4) == b"mine"
    assert {one.name for one in await bucket.listed("")} == set(store.objects)
    with pytest.raises(BackupRefused):
        await encrypted(store, NEW).delete(["lease"])
    await bucket.delete(["lease"])
    assert "lease" not in store.objects


async def test_neither_secret_nor_key_is_logged(cluster: ConvergentCluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    store = FakeBucket()
    bucket = cluster.bucket = encrypted(store)
    a = await cluster.start("a")
    a.writer.execute(INSERT, ("home", TEXT))
    await uploaded(a)
    assert SECRET.reveal() not in caplog.text
    assert bucket._key is not None
    assert bucket._key._raw.hex() not in caplog.text
    assert repr(bucket._key._raw) not in caplog.text
