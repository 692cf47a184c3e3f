"""A real S3 server that fails as real ones do: applications go on, the state is seen, and it recovers by itself."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from replication.backup.errors import BackupUnreachable
from replication.backup.for_node import restore_from
from replication.backup.stored import StoredBucket
from tests.support.backups import HOME, rows_of, status, uploaded
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually
from tests.support.http_proxy import Fate, HttpProxy, http_proxy
from tests.support.s3_server import BUCKET, S3Server, s3_server

COUNT = "UPDATE pages SET count = count + 1 WHERE page = 'home'"
SAID = {
    Fate.MANY: "429",
    Fate.BUSY: "503",
    Fate.SKEWED: "RequestTimeTooSkewed",
    Fate.LOST: "cannot be reached",
}
"""Those that keep everything from being uploaded, and what is said of them."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    (tmp_path / "s3").mkdir()
    with s3_server(tmp_path / "s3") as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def proxy(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpProxy]:
    port = urlsplit(server.environ["AWS_ENDPOINT_URL_S3"]).port
    assert port is not None
    with http_proxy(port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield proxy


async def test_whatever_the_store_does_the_application_goes_on_and_all_is_uploaded_afterwards(
    cluster: ConvergentCluster, proxy: HttpProxy, tmp_path: Path
) -> None:
    cluster.bucket = bucket = StoredBucket(f"s3://{BUCKET}/folder")
    a = await cluster.start("a")
    a.writer.execute(HOME)
    await uploaded(a)
    count = 0
    for fate in (Fate.MANY, Fate.BUSY, Fate.SKEWED, Fate.LOST, Fate.TWICE, Fate.SLOW):
        proxy.fate = lambda method, path, fate=fate: fate  # type: ignore[misc]
        for _ in range(5):
            count += 1
            a.writer.execute(COUNT)
        assert a.replication.unready() == []
        if fate in SAID:
            await eventually(lambda fate=fate: SAID[fate] in status(a).problem, 30, why=lambda: status(a))  # type: ignore[misc]
            assert status(a).age_s > 0
            proxy.fate = lambda method, path: Fate.PASSES
        await uploaded(a)
        assert status(a).age_s == 0
        target = tmp_path / f"{fate.name}.db"
        await restore_from(bucket, target)
        assert rows_of(target) == [("home", "Home", count)]


async def goes_on(a: Member, problem: str) -> None:
    a.writer.execute(HOME)
    await eventually(lambda: problem in status(a).problem, 30, why=lambda: status(a))
    a.writer.execute(COUNT)
    assert a.rows() == [("home", "Home", 1)]
    assert a.replication.unready() == []


async def test_wrong_credentials_are_seen_and_right_ones_upload_what_was_written(
    cluster: ConvergentCluster, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    cluster.bucket = wrong = StoredBucket(f"s3://{BUCKET}/folder")
    a = await cluster.start("a")
    await goes_on(a, "it answered 403 Forbidden (SignatureDoesNotMatch: ")
    assert "another" not in status(a).problem
    with pytest.raises(BackupUnreachable, match="SignatureDoesNotMatch"):
        await restore_from(wrong, cluster.folder / "restored.db")
    await cluster.stop("a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.environ["AWS_SECRET_ACCESS_KEY"])
    cluster.bucket = right = StoredBucket(f"s3://{BUCKET}/folder")
    await uploaded(await cluster.start("a"))
    await restore_from(right, cluster.folder / "restored.db")
    assert rows_of(cluster.folder / "restored.db") == [("home", "Home", 1)]


async def test_a_bucket_that_is_missing_is_not_taken_for_one_without_a_backup(
    cluster: ConvergentCluster, server: S3Server
) -> None:
    """A node without a database would begin anew, and its bucket may only be spelled wrong."""
    cluster.bucket = bucket = StoredBucket("s3://missing/folder")
    a = await cluster.start("a")
    await goes_on(a, "NoSuchBucket")
    with pytest.raises(BackupUnreachable, match="NoSuchBucket"):
        await restore_from(bucket, cluster.folder / "restored.db")
    (server.folder.parent / "missing").mkdir()
    await uploaded(a)
    await restore_from(bucket, cluster.folder / "restored.db")
    assert rows_of(cluster.folder / "restored.db") == [("home", "Home", 1)]
