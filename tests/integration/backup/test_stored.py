"""What a store has to do for a backup, done by a folder, by memory, by an S3 server, and by the fake of the tests."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from replication.backup.bucket import Bucket
from replication.backup.stored import StoredBucket
from tests.support.buckets import FakeBucket
from tests.support.s3_server import BUCKET, s3_server


@pytest.fixture(params=["fake", "memory", "folder", "s3"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    match request.param:
        case "fake":
            yield FakeBucket()
        case "memory":
            yield StoredBucket("memory:///")
        case "folder":
            yield StoredBucket(f"file://{tmp_path}/bucket")
        case _:
            with s3_server(tmp_path) as server:
                for name, value in server.environ.items():
                    monkeypatch.setenv(name, value)
                yield StoredBucket(f"s3://{BUCKET}/a/folder")


async def test_a_store_does_what_a_backup_needs(bucket: Bucket) -> None:
    before_ms = time.time_ns() // 1_000_000
    assert await bucket.names("") == []
    assert await bucket.create("one/a", b"first")
    assert not await bucket.create("one/a", b"second")
    assert await bucket.create("one/b", b"!")
    assert await bucket.create("two/c", b"")
    assert await bucket.get("one/a", max_bytes=10) == b"first"
    assert await bucket.get("one/none", max_bytes=10) is None
    assert await bucket.names("") == ["one/a", "one/b", "two/c"]
    assert await bucket.names("one/") == ["one/a", "one/b"]
    found = await bucket.listed("one/")
    assert [(one.name, one.size) for one in found] == [("one/a", 5), ("one/b", 1)]
    assert all(before_ms - 2_000 <= one.written_ms <= before_ms + 60_000 for one in found)
    await bucket.put("one/a", b"third")
    assert await bucket.get("one/a", max_bytes=10) == b"third"
    await bucket.delete([])
    await bucket.delete(["one/none", "one/a", "one/gone", "two/c"])
    assert await bucket.names("") == ["one/b"]
    await bucket.delete(["one/a"])
    assert await bucket.create("one/a", b"fourth")
