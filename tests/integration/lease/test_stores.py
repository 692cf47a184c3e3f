"""The objects of a lease in real stores: a folder, memory, and an S3 server where there is one."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import LeaseForeign, LeaseHeld, LeaseUnreachable, LeaseUrlError
from cluster.lease.boot_clock import boot_clock_s
from cluster.lease.object_store import ObjectStoreLease
from cluster.lease.objects import StoredObjects
from tests.support.s3_server import ACCESS, BUCKET, SECRET, s3_server

TTL_S = 1.5


def lease(objects: StoredObjects, node: str) -> ObjectStoreLease:
    return ObjectStoreLease(
        objects, cluster="c", node=node, ttl_s=TTL_S, clock=boot_clock_s, nonce=lambda: os.urandom(8).hex()
    )


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a place in a bucket of a real S3 server."""
    with s3_server(tmp_path) as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        yield f"s3://{BUCKET}/a/folder"


async def acquired_renewed_released_and_taken_over(url: str) -> None:
    objects = StoredObjects(url)
    alpha, beta = lease(objects, "alpha"), lease(objects, "beta")
    grant = await alpha.renew(await alpha.acquire(above=0))
    with pytest.raises(LeaseHeld, match="alpha"):
        await beta.acquire(above=0)
    await alpha.release(grant)
    assert (await beta.acquire(above=0)).epoch == 2
    with pytest.raises(LeaseHeld, match="beta"):
        await alpha.acquire(above=0)
    time.sleep(TTL_S)
    assert (await alpha.acquire(above=0)).epoch == 3
    assert not await objects.create(3, b"again")
    await objects.delete_before(3)
    assert await objects.newest() == 3
    assert await objects.get(2) is None


async def test_in_a_folder(tmp_path: Path) -> None:
    await acquired_renewed_released_and_taken_over(f"file://{tmp_path}/some/folder")


async def test_in_memory() -> None:
    await acquired_renewed_released_and_taken_over("memory:///")


async def test_in_a_bucket(s3: str) -> None:
    await acquired_renewed_released_and_taken_over(s3)


async def test_a_server_that_is_not_there_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    with pytest.raises(LeaseUnreachable) as raised:
        await lease(StoredObjects("s3://bucket/folder"), "alpha").read()
    assert SECRET not in str(raised.value)


async def test_a_huge_object_in_its_place_is_not_read_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "lease-000000000001.json").write_bytes(bytes(10_000_000))
    with pytest.raises(LeaseForeign, match=r"lease-000000000001\.json"):
        await lease(StoredObjects(f"file://{tmp_path}"), "alpha").read()


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://host/x", "s3://key:secret@bucket/x"])
def test_a_url_that_names_no_store_is_refused_and_no_secret_of_it_repeated(url: str) -> None:
    with pytest.raises(LeaseUrlError) as raised:
        StoredObjects(url)
    assert "key:secret" not in str(raised.value)
