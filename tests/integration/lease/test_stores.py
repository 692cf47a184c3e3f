"""The objects of a lease in real stores: a folder, memory, and an S3 server where there is one."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.errors import LeaseForeign, LeaseHeld, LeaseUnreachable, LeaseUrlError
from cluster.lease.boot_clock import boot_clock_s
from cluster.lease.object_store import ObjectStoreLease
from cluster.lease.objects import StoredObjects

TTL_S = 1.5
ACCESS, SECRET = "litecast-test", "not-a-secret-of-anybody"


def lease(objects: StoredObjects, node: str) -> ObjectStoreLease:
    return ObjectStoreLease(
        objects, cluster="c", node=node, ttl_s=TTL_S, clock=boot_clock_s, nonce=lambda: os.urandom(8).hex()
    )


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a place in a bucket of a real S3 server."""
    program = shutil.which("versitygw", path=f"{os.environ.get('LITECAST_TEST_BIN', '')}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("versitygw is not installed: an S3 server over a folder (PATH, or LITECAST_TEST_BIN)")
    (tmp_path / "root" / "bucket").mkdir(parents=True)
    (tmp_path / "meta").mkdir()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [program, "--access", ACCESS, "--secret", SECRET, "--port", f"127.0.0.1:{port}", "posix"]
    command += ["--sidecar", str(tmp_path / "meta"), str(tmp_path / "root")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port)
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS)
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
            monkeypatch.setenv("AWS_REGION", "us-east-1")
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
            yield "s3://bucket/a/folder"
        finally:
            server.terminate()


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the S3 server does not listen")


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
