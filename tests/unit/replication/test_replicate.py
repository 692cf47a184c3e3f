import logging
from pathlib import Path

import pytest

from replication.errors import NoSuchRow
from replication.repo import Repo
from replication.rows import Op, Row


async def test_a_row_is_handed_on_whole_and_the_very_result_comes_back(repo: Repo) -> None:
    sent: list[tuple[Row, Op]] = []
    repo.replicator = lambda row, op: sent.append((row, op))
    inserted = await repo.insert("page_counts", {"page": "home", "count": 1})
    assert repo.replicate(inserted, Op.INSERT) is inserted
    updated = await repo.update("page_counts", "home", {"count": 2})
    assert repo.replicate(updated, Op.UPDATE) is updated
    assert sent == [(inserted, Op.INSERT), (updated, Op.UPDATE)]
    assert [row.table for row, _ in sent] == ["page_counts"] * 2
    assert set(sent[1][0]) == {"page", "count", "inserted_at", "updated_at"}


async def test_an_error_passes_through_and_sends_nothing(repo: Repo) -> None:
    sent: list[Row] = []
    repo.replicator = lambda row, op: sent.append(row)
    error = NoSuchRow("page_counts", "home")
    assert repo.replicate(error, Op.UPDATE) is error
    assert sent == []


async def test_where_the_mode_sends_nothing_the_result_comes_back(path: Path) -> None:
    row = Row("t", {"a": 1})
    assert Repo(path).replicate(row, Op.INSERT) is row


async def test_a_replicator_that_fails_does_not_reach_the_caller(repo: Repo, caplog: pytest.LogCaptureFixture) -> None:
    def fails(row: Row, op: Op) -> None:
        raise OSError("no network")

    repo.replicator = fails
    row = Row("t", {"a": 1})
    with caplog.at_level(logging.ERROR):
        assert repo.replicate(row, Op.INSERT) is row
    assert "replicator failed" in caplog.text


async def test_what_is_sent_does_not_change_with_the_callers_row(repo: Repo) -> None:
    sent: list[Row] = []
    repo.replicator = lambda row, op: sent.append(row)
    row = repo.replicate(Row("t", {"count": 1}), Op.INSERT)
    row["count"] = 99
    assert sent == [{"count": 1}]
