"""`litecast.attach` and `litecast.detach`: what the commands do, from Python."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from litecast import AttachRefused, MergeRule, ReplicationError, Repo, TableChoice, attach, detach
from replication.database_file import new_site
from replication.engine import catalogue, state
from replication.errors import DatabaseBusy, DatabaseInUse, DatabasePathError, NotADatabase

PAGES = TableChoice(name="pages", counters=("views",))
NOTES = TableChoice(name="notes", rule=MergeRule.ROW)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE pages (page TEXT PRIMARY KEY NOT NULL, views INTEGER NOT NULL);"
            "CREATE TABLE notes (id BLOB PRIMARY KEY NOT NULL, low INT, high INT, CHECK (low < high));"
            "INSERT INTO pages VALUES ('a', 1), ('b', 3);"
        )
    return path


def test_tables_of_a_file_are_attached_and_detached(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        before = list(connection.iterdump())
        report = attach(database, [PAGES, NOTES], cluster="shop")
        assert [(table.name, table.rows) for table in report.tables] == [("pages", 2), ("notes", 0)]
        found = state.read(connection)
        assert found is not None
        assert found.cluster == "shop"
        assert len(found.site) == 32
        assert detach(database, ["notes"]).tables == ("notes",)
    assert detach(str(database)).journal_mode == "delete"
    with closing(sqlite3.connect(database)) as connection:
        assert list(connection.iterdump()) == before


def test_a_dry_run_reports_and_changes_nothing(database: Path) -> None:
    before = database.read_bytes()
    report = attach(str(database), [PAGES], cluster="shop", dry_run=True)
    assert [(table.name, table.rows) for table in report.tables] == [("pages", 2)]
    assert database.read_bytes() == before


def test_what_cannot_be_kept_is_refused_with_every_reason(database: Path) -> None:
    before = database.read_bytes()
    with pytest.raises(AttachRefused) as caught:
        attach(database, [PAGES, TableChoice(name="notes"), TableChoice(name="later")], cluster="shop")
    assert isinstance(caught.value, ReplicationError)
    assert [refusal.table for refusal in caught.value.refusals] == ["notes", "later"]
    assert database.read_bytes() == before


def test_tables_that_do_not_exist_can_be_left_for_later(database: Path) -> None:
    report = attach(database, [TableChoice(name="later"), PAGES], cluster="shop", skip_missing=True)
    assert [table.name for table in report.tables] == ["pages"]
    with closing(sqlite3.connect(database)) as connection:
        assert list(catalogue.load(connection)) == ["pages"]


def test_what_is_no_database_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    missing, text = tmp_path / "missing.db", tmp_path / "text.db"
    text.write_text("not a database, but long enough to be looked at " * 20)
    for path, error in ((missing, DatabasePathError), (tmp_path, DatabasePathError), (text, NotADatabase)):
        with pytest.raises(error):
            attach(path, [PAGES], cluster="shop")
        with pytest.raises(error):
            detach(path)
    assert not missing.exists()


async def test_nothing_is_detached_under_a_node_which_would_attach_it_again(database: Path) -> None:
    attach(database, [PAGES], cluster="shop")
    async with Repo(database):
        with pytest.raises(DatabaseInUse, match="stop that node first"):
            detach(database)
    with closing(sqlite3.connect(database)) as connection:
        assert list(catalogue.load(connection)) == ["pages"]
    assert detach(database).tables == ("pages",)


def test_a_writer_that_takes_too_long_is_told(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.database_file.BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusy, match=r"after 0\.05 s"):
            attach(database, [PAGES], cluster="shop")


async def test_a_repo_of_this_process_may_have_the_file_open(database: Path) -> None:
    async with Repo(database) as repo:
        attach(database, [PAGES], cluster="shop")
        await repo.update("pages", "a", {"views": 2})
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("SELECT k0 FROM _litecast_log_1").fetchall() == [("a",)]


def test_no_two_sites_are_the_same() -> None:
    assert len({new_site() for _ in range(100)}) == 100
