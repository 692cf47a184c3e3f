"""`litecast attach` and `litecast detach`: what they say, and that a refusal changes nothing."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from app import cli

ROOT = Path(__file__).parents[3]

type Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "CREATE TABLE pages (page TEXT PRIMARY KEY NOT NULL, views INTEGER NOT NULL, likes INTEGER NOT NULL);"
            "CREATE TABLE notes (id BLOB PRIMARY KEY NOT NULL, low INT, high INT, CHECK (low < high));"
            "CREATE TABLE users (id INTEGER PRIMARY KEY, email TEXT UNIQUE);"
            "INSERT INTO pages VALUES ('a', 1, 2), ('b', 3, 4);"
        )
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_litecast(*arguments: object) -> tuple[int, str, str]:
        status = cli.main([str(argument) for argument in arguments])
        return (status, *capsys.readouterr())

    return run_litecast


def dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def journal_mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def test_options_belong_to_the_table_before_them(run: Run, database: Path) -> None:
    status, out, err = run(
        *("attach", database, "--table", "pages", "--counter", "views", "--counter", "likes"),
        *("--table", "notes", "--merge", "row", "--table", "users", "--json", "--dry-run", "--shared-ids"),
    )
    assert (status, err) == (1, "")
    refused = json.loads(out)["refused"]
    assert [(one["table"], one["code"]) for one in refused] == [("users", "unique")]
    status, out, err = run(
        *("attach", database, "--table", "pages", "--counter", "views", "--counter", "likes"),
        *("--table", "notes", "--merge", "row", "--cluster", "shop", "--json"),
    )
    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert (answer["cluster"], answer["journal_mode_found"]) == ("shop", "delete")
    assert [(one["name"], one["counters"], one["merge"], one["baseline_rows"]) for one in answer["tables"]] == [
        ("pages", ["views", "likes"], "cell", 2),
        ("notes", [], "row", 0),
    ]


def test_attach_says_what_it_attached_and_detach_undoes_it(run: Run, database: Path) -> None:
    before = dump(database)
    status, out, err = run("attach", database, "--table", "PAGES", "--counter", "Views")
    assert (status, err) == (0, "")
    assert "table pages is attached, with 2 row(s) as its baseline (merged by cell; counters views)" in out
    assert "journal mode wal, was delete" in out
    assert run("attach", database, "--table", "pages", "--counter", "views")[1].startswith(
        "table pages is attached already"
    )
    status, out, err = run("detach", database)
    assert (status, err) == (0, "")
    assert out == "detached pages; journal mode delete\n"
    assert dump(database) == before
    assert journal_mode(database) == "delete"
    assert run("detach", database) == (0, f"nothing of {database} is attached\n", "")


def test_all_refusals_stand_in_one_list_and_nothing_is_changed(run: Run, database: Path) -> None:
    before = database.read_bytes()
    arguments = ("--table", "users", "--counter", "nope", "--table", "notes", "--table", "gone", "--table", "pages")
    status, out, err = run("attach", database, *arguments)
    assert (status, out) == (1, "")
    assert database.read_bytes() == before
    assert [line for line in err.splitlines() if line.startswith("table ")] == [
        "table gone",
        "table notes",
        "table users",
    ]
    for code in ("not-found", "check-across-columns", "key-from-sqlite", "unique", "no-such-counter"):
        assert f"[{code}]" in err
    assert err.count("way out: ") == 5


def test_a_dry_run_changes_nothing(run: Run, database: Path) -> None:
    before = database.read_bytes()
    status, out, err = run("attach", database, "--table", "pages", "--dry-run")
    assert (status, err) == (0, "")
    assert "table pages would be attached, with 2 row(s) as its baseline" in out
    assert database.read_bytes() == before


def test_an_option_without_a_table_before_it_is_a_wrong_command_line(database: Path) -> None:
    for option in (("--counter", "views"), ("--merge", "row"), ("--shared-ids",)):
        with pytest.raises(SystemExit) as caught:
            cli.main(["attach", str(database), *option, "--table", "pages"])
        assert caught.value.code == 2


def test_a_table_can_be_detached_alone(run: Run, database: Path) -> None:
    run("attach", database, "--table", "pages", "--table", "notes", "--merge", "row")
    assert run("detach", database, "--table", "notes") == (0, "detached notes; journal mode wal\n", "")
    status, _, err = run("detach", database, "--table", "notes")
    assert (status, err) == (1, "litecast: table notes is not attached; attached are pages\n")


@pytest.mark.parametrize("command", [("attach", "--table", "t"), ("detach",)])
def test_what_is_no_database_is_one_line_and_stays_as_it_is(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    missing, text = tmp_path / "missing.db", tmp_path / "text.db"
    text.write_text("not a database, but long enough to be looked at " * 20)
    for path, problem in (
        (missing, "does not exist"),
        (tmp_path, "is a directory"),
        (text, "not an SQLite database"),
    ):
        status, out, err = run(command[0], path, *command[1:])
        assert (status, out) == (1, "")
        assert err.startswith(f"litecast: database {path}: {problem}; ")
    assert not missing.exists()


def test_attach_waits_for_a_writer_and_says_so_when_it_takes_too_long(
    run: Run, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.database_file.BUSY_TIMEOUT_S", 0.1)
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        status, _, err = run("attach", database, "--table", "pages")
    assert status == 1
    assert "still locked by another process after 0.1 s" in err
    assert run("attach", database, "--table", "pages")[0] == 0


def test_detach_says_what_keeps_the_journal_mode(run: Run, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replication.database_file.BUSY_TIMEOUT_S", 0.1)
    run("attach", database, "--table", "pages")
    with closing(sqlite3.connect(database, isolation_level=None)) as reader:
        reader.execute("SELECT * FROM pages").fetchall()
        status, out, err = run("detach", database)
    assert (status, out) == (0, "detached pages; journal mode wal\n")
    assert "PRAGMA journal_mode = delete" in err


def test_the_default_cluster_is_that_of_the_settings(run: Run, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITECAST_CLUSTER__NAME", "bakery")
    assert json.loads(run("attach", database, "--table", "pages", "--json")[1])["cluster"] == "bakery"
    status, _, err = run("attach", database, "--table", "pages", "--cluster", "butchery")
    assert status == 1
    assert "the database belongs to cluster bakery, not to butchery" in err


@pytest.fixture
def config(database: Path) -> Path:
    """Settings of a node that has the database, and declares `pages`, `notes` and a table that is not there yet."""
    file = database.parent / "config.toml"
    file.write_text("""
        cluster.name = "bakery"
        database.path = "shop.db"
        [replication.tables.pages]
        counters = ["views", "likes"]
        [replication.tables.notes]
        merge = "row"
        [replication.tables.later]
    """)
    return file


def test_attach_takes_database_tables_and_cluster_from_a_config(run: Run, config: Path, database: Path) -> None:
    before = database.read_bytes()
    assert json.loads(run("attach", "--config", config, "--dry-run", "--json")[1])["missing"] == [
        "later",
        "page_counts",
    ]
    assert database.read_bytes() == before
    status, out, err = run("attach", "--config", config)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        "table pages is attached, with 2 row(s) as its baseline (merged by cell; counters views, likes)",
        "table notes is attached, with 0 row(s) as its baseline (merged by row)",
        "table later is not there yet; a node in mode convergent attaches it as soon as it is",
        "table page_counts is not there yet; a node in mode convergent attaches it as soon as it is",
        "cluster bakery; journal mode wal, was delete",
    ]
    answer = json.loads(run("attach", "--config", config, "--json")[1])
    assert answer["database"] == str(database)
    assert [one["was_attached"] for one in answer["tables"]] == [True, True]


def test_a_config_whose_tables_cannot_all_be_kept_changes_nothing(run: Run, config: Path, database: Path) -> None:
    config.write_text(config.read_text() + "[replication.tables.users]")
    before = database.read_bytes()
    status, out, err = run("attach", "--config", config)
    assert (status, out) == (1, "")
    assert err.startswith(f"litecast: {database} was left as it is.")
    assert "[unique]" in err
    assert database.read_bytes() == before


def test_a_config_whose_tables_are_all_missing_changes_nothing(run: Run, config: Path, database: Path) -> None:
    config.write_text('database.path = "shop.db"')
    before = database.read_bytes()
    status, out, err = run("attach", "--config", config)
    assert (status, err) == (0, "")
    assert out == "table page_counts is not there yet; a node in mode convergent attaches it as soon as it is\n"
    assert database.read_bytes() == before


def test_a_config_in_which_nodes_claim_their_database_names_none(run: Run, config: Path) -> None:
    config.write_text('node.slots_dir = "nodes"')
    status, _, err = run("attach", "--config", config)
    assert status == 1
    assert "[node] slots_dir" in err
    assert "litecast attach DB --table NAME" in err


@pytest.mark.parametrize(
    "arguments",
    [(), ("shop.db",), ("--table", "pages"), ("shop.db", "--config", "c"), ("--table", "pages", "--config", "c")],
)
def test_either_a_database_with_tables_or_a_config_is_named(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["attach", *arguments])
    assert caught.value.code == 2


def test_the_command_is_there_for_a_shell(database: Path) -> None:
    program = "from app.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", program, "attach", str(database), "--table", "pages"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30).returncode == 0
