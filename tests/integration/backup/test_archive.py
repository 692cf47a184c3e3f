"""Who is beyond the peers' journals reads in the bucket what they have no longer, if a snapshot would cost more."""

from collections.abc import Callable
from pathlib import Path

import pytest

from replication.backup.stored import StoredBucket
from tests.support.backups import trim, two_with_a_page, uploaded
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually

INSERT = "INSERT INTO pages VALUES (?, ?, 1)"
ONE_MORE = "UPDATE pages SET count = count + 1 WHERE page = 'home'"


def objects(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("changesets/*/*") if path.is_file())


async def without_c(cluster: ConvergentCluster, write: Callable[[Member, Member], None]) -> Path:
    """Node c is stopped, the others write, upload that, and trim their journals: the bucket."""
    folder = cluster.folder / "bucket"
    folder.mkdir()
    cluster.bucket = StoredBucket(folder.as_uri())
    a, b = await two_with_a_page(cluster)
    await cluster.start("c")
    await cluster.equal()
    await cluster.stop("c")
    write(a, b)
    await cluster.equal()
    await uploaded(a, b)
    trim(a.path, b.path)
    return folder


def some(a: Member, b: Member) -> None:
    for number in range(10):
        a.writer.execute(INSERT, (f"of a {number}", "x"))
        b.writer.execute(ONE_MORE)


async def test_what_no_journal_has_comes_from_the_bucket_if_that_is_cheaper_and_the_rest_from_a_peer(
    cluster: ConvergentCluster, caplog: pytest.LogCaptureFixture
) -> None:
    await without_c(cluster, some)
    a = cluster.members["a"]
    assert a.backup is not None
    a.backup.abandon()
    a.writer.execute(ONE_MORE)  # which is in the journal alone
    caplog.set_level("INFO")
    c = await cluster.start("c")
    rows = {page: count for page, _, count in await cluster.equal()}
    assert (len(rows), rows["home"]) == (11, 11)
    counts = c.replication.status().counts
    assert (counts["archive_reads"], counts.get("archive_fails"), counts.get("snapshots")) == (1, None, None)
    assert "was merged from the backup" in caplog.text


async def test_where_a_snapshot_is_cheaper_it_is_taken(cluster: ConvergentCluster) -> None:
    def much(a: Member, b: Member) -> None:
        for _ in range(10):
            a.writer.execute("UPDATE pages SET title = hex(randomblob(50000))")

    await without_c(cluster, much)
    c = await cluster.start("c")
    await cluster.equal()
    counts = c.replication.status().counts
    assert (counts.get("archive_reads"), counts["snapshots"]) == (None, 1)


@pytest.mark.parametrize("how", ["altered", "not there", "of another cluster", "of an older peer"])
async def test_where_the_bucket_is_of_no_use_a_snapshot_is_taken_at_once(
    cluster: ConvergentCluster, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = await without_c(cluster, some)
    match how:
        case "altered":
            spoiled = objects(folder)[-1]
            spoiled.write_bytes(spoiled.read_bytes()[:-1] + b"?")
        case "not there":
            for path in objects(folder)[0].parent.iterdir():
                path.unlink()
        case "of another cluster":
            marker = folder / "litecast.json"
            marker.write_text(marker.read_text().replace("convergent", "another"))
        case _:
            monkeypatch.setattr("replication.convergent.serving.Serving._weigh", None)
    c = await cluster.start("c")
    assert len(await cluster.equal()) == 11
    counts = c.replication.status().counts
    assert counts["snapshots"] == 1
    assert counts.get("archive_fails", 0) == (how == "altered")
    await eventually(lambda: not c.replication.unready())
