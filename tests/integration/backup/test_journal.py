"""What the bucket lacks stays in the journal, which warns before it loses it; after that a snapshot brings it."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.backing_up import with_backup
from replication.backup.for_node import restore_from
from replication.backup.status import BackupStatus
from replication.engine.stamps import Site
from tests.support.backups import rows_of, status, uploaded
from tests.support.buckets import FakeBucket
from tests.support.convergent import ConvergentCluster, Member
from tests.support.eventually import eventually

AGE_S = 4.0
INSERT = "INSERT INTO pages VALUES (?, ?, 0)"


def notes(member: Member) -> str:
    shown = with_backup(member.replication.status, member.backup)
    assert shown is not None
    return " | ".join(shown().notes)


async def test_it_warns_before_the_journal_is_too_old_and_a_snapshot_brings_what_it_lost(
    cluster: ConvergentCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    is_down = False
    bucket = cluster.bucket = FakeBucket(lambda what, name: "before" if is_down else "")
    cluster.journal_max_age_s = AGE_S
    a = await cluster.start("a")
    a.writer.execute(INSERT, ("first", "x"))
    await uploaded(a)
    assert notes(a) == ""
    is_down = True
    a.writer.execute(INSERT, ("lost", "x"))
    await eventually(lambda: 0.8 <= status(a).journal_used < 1.0)
    assert "of what the journal keeps" in notes(a)
    await a.replication.trim()
    assert status(a).snapshot == 1
    await eventually(lambda: status(a).journal_used > 1.0, 10.0)
    await a.replication.trim()
    assert a.writer.execute("SELECT count(*) FROM _litecast_journal").fetchone() == (0,)
    assert "the journal loses what the backup lacks" in notes(a)
    await eventually(lambda: "what the backup lacks" in caplog.text)
    is_down = False
    await uploaded(a)
    assert (status(a).snapshot, status(a).journal_used, notes(a)) == (2, 0.0, "")
    await restore_from(bucket, tmp_path / "restored.db")
    assert rows_of(tmp_path / "restored.db") == a.rows()


async def test_it_weighs_what_the_bucket_lacks_and_nothing_else(
    cluster: ConvergentCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.backup.uploading.WEIGH_S", 0.0)
    is_down = False
    cluster.bucket = FakeBucket(lambda what, name: "before" if is_down else "")
    cluster.journal_max_bytes = 100_000
    a = await cluster.start("a")
    for number in range(30):
        a.writer.execute(INSERT, (f"{number}", "x" * 3_000))
    await uploaded(a)
    assert a.writer.execute("SELECT sum(length(bytes)) FROM _litecast_journal").fetchone()[0] > 80_000
    assert notes(a) == ""
    is_down = True
    for number in range(29):
        a.writer.execute(INSERT, (f"more {number}", "x" * 3_000))
    await eventually(lambda: "of what the journal keeps" in notes(a))
    is_down = False
    await uploaded(a)
    assert notes(a) == ""


def test_below_four_fifths_nobody_is_troubled() -> None:
    stands = BackupStatus(url="u", problem="", doing="", snapshot=1, age_s=1.0, site=Site("1" * 32), sites={})
    assert replace(stands, journal_used=0.79).journal_note == ""
    assert "takes 80% of what the journal keeps" in replace(stands, journal_used=0.8).journal_note
    assert "a snapshot of the whole database has to bring it" in replace(stands, journal_used=1.0).journal_note


def test_what_the_first_snapshot_brings_is_no_trouble() -> None:
    stands = BackupStatus(url="u", problem="", doing="", snapshot=0, age_s=1.0, site=Site("1" * 32), sites={})
    assert replace(stands, journal_used=2.0).journal_note == ""
