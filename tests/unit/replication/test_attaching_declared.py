"""What a node attaches of the tables that its settings declare, and what it says of the others."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from replication.attaching_declared import AttachOutcome, attach_declared
from replication.declared import TableDeclaration
from replication.engine import catalogue, state
from replication.engine.attaching import TableChoice, attach, detach
from replication.engine.catalogue import MergeRule
from replication.engine.folding import fold
from replication.engine.refusals import RefusalCode as R
from replication.engine.stamps import Site
from replication.repo import Repo

CLUSTER = "shop"
PAGES = "CREATE TABLE pages (page TEXT PRIMARY KEY NOT NULL, views INTEGER NOT NULL)"
NOTES = "CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, low, high, CHECK (low < high))"
OF_PAGES = TableDeclaration(name="pages", counters=("views",), drift_ignore=("seen",))
OF_NOTES = TableDeclaration(name="notes", merge=MergeRule.ROW)

type Connect = Callable[[], sqlite3.Connection]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    connections: list[sqlite3.Connection] = []

    def connect_once() -> sqlite3.Connection:
        connections.append(sqlite3.connect(tmp_path / "a.db", isolation_level=None, timeout=0))
        return connections[-1]

    yield connect_once
    for connection in connections:
        connection.close()


@pytest.fixture
def connection(connect: Connect) -> sqlite3.Connection:
    """A database as a node has it: in WAL mode."""
    connection = connect()
    connection.execute("PRAGMA journal_mode = WAL")
    return connection


def attached(connection: sqlite3.Connection, *declared: TableDeclaration, cluster: str = CLUSTER) -> AttachOutcome:
    return attach_declared(connection, declared, cluster=cluster, new_site=lambda: Site("1" * 32))


def names(outcome: AttachOutcome) -> tuple[list[str], list[str], list[tuple[str, R]]]:
    return (
        [table.name for table in outcome.attached],
        list(outcome.missing),
        [(refusal.table, refusal.code) for refusal in outcome.refusals],
    )


def table(name: str, columns: str = "id TEXT PRIMARY KEY NOT NULL") -> str:
    return f"CREATE TABLE {name} ({columns})"


def test_a_table_is_attached_as_it_is_declared(connection: sqlite3.Connection) -> None:
    connection.executescript(f"{PAGES}; {NOTES}; INSERT INTO pages VALUES ('a', 3)")
    outcome = attached(connection, OF_PAGES, OF_NOTES)
    assert names(outcome) == (["pages", "notes"], [], [])
    assert [(one.counters, one.rule, one.rows) for one in outcome.attached] == [
        (("views",), MergeRule.CELL, 1),
        ((), MergeRule.ROW, 0),
    ]
    found = state.read(connection)
    assert found is not None
    assert (found.cluster, found.site) == (CLUSTER, "1" * 32)


def test_shared_ids_are_as_declared(connection: sqlite3.Connection) -> None:
    connection.execute(table("numbered", "id INTEGER PRIMARY KEY, v"))
    assert names(attached(connection, TableDeclaration(name="numbered")))[2] == [("numbered", R.HANDED_OUT_KEY)]
    assert names(attached(connection, TableDeclaration(name="numbered", shared_ids=True)))[0] == ["numbered"]


def test_a_table_that_is_not_there_yet_is_attached_when_it_is(connection: sqlite3.Connection) -> None:
    assert names(attached(connection, OF_PAGES, OF_NOTES)) == ([], ["pages", "notes"], [])
    assert not catalogue.is_there(connection)
    connection.execute(PAGES)
    assert names(attached(connection, OF_PAGES, OF_NOTES)) == (["pages"], ["notes"], [])
    connection.execute(NOTES)
    assert names(attached(connection, OF_PAGES, OF_NOTES)) == (["notes"], [], [])
    assert names(attached(connection, OF_PAGES, OF_NOTES)) == ([], [], [])


def test_a_table_that_was_dropped_is_missing_until_it_is_there_again(connection: sqlite3.Connection) -> None:
    connection.execute(PAGES)
    attached(connection, OF_PAGES)
    connection.execute("DROP TABLE pages")
    assert names(attached(connection, OF_PAGES)) == ([], ["pages"], [])
    connection.execute(PAGES)
    assert names(attached(connection, OF_PAGES)) == ([], [], [])
    assert list(catalogue.load(connection)) == ["pages"]


@pytest.mark.parametrize("there", [True, False])
def test_where_there_is_nothing_to_do_nothing_is_written_and_no_lock_is_taken(
    connection: sqlite3.Connection, connect: Connect, there: bool
) -> None:
    if there:
        connection.execute(PAGES)
        attached(connection, OF_PAGES)
    other = connect()
    moving = "SELECT * FROM pragma_data_version, pragma_schema_version"
    before = other.execute(moving).fetchone(), connection.total_changes
    other.execute("BEGIN IMMEDIATE")
    assert names(attached(connection, OF_PAGES, OF_NOTES)) == ([], ["notes"] if there else ["pages", "notes"], [])
    other.execute("ROLLBACK")
    assert (other.execute(moving).fetchone(), connection.total_changes) == before


def test_names_meet_whatever_their_capitals(connection: sqlite3.Connection) -> None:
    connection.execute(PAGES)
    assert names(attached(connection, TableDeclaration(name="PAGES", counters=("VIEWS",))))[0] == ["pages"]
    assert attached(connection, TableDeclaration(name="Pages", counters=("Views",))) == AttachOutcome()


def test_what_cannot_be_kept_is_said_with_every_reason_and_the_others_are_attached(
    connection: sqlite3.Connection,
) -> None:
    connection.executescript(f"{PAGES}; {NOTES}; {table('users', 'id INTEGER PRIMARY KEY, email UNIQUE')}")
    outcome = attached(connection, OF_NOTES, TableDeclaration(name="users"), OF_PAGES)
    assert names(outcome) == (["notes", "pages"], [], [("users", R.HANDED_OUT_KEY), ("users", R.UNIQUE)])
    assert all(refusal.reason and refusal.way_out for refusal in outcome.refusals)
    assert names(attached(connection, OF_NOTES, TableDeclaration(name="users"), OF_PAGES))[2] == names(outcome)[2]


def test_other_counters_than_those_it_is_attached_with_are_refused_with_the_way_out(
    connection: sqlite3.Connection,
) -> None:
    connection.executescript(f"{PAGES}; {NOTES}")
    attached(connection, OF_PAGES)
    outcome = attached(connection, TableDeclaration(name="pages"), OF_NOTES)
    assert names(outcome) == (["notes"], [], [("pages", R.ATTACHED_OTHERWISE)])
    (refusal,) = outcome.refusals
    assert "attached with other counters (views)" in refusal.reason
    assert "detach the table on every node" in refusal.way_out
    assert catalogue.load(connection)["pages"].counters == ("views",)


def test_another_merge_rule_is_taken_over_unless_a_check_forbids_it(connection: sqlite3.Connection) -> None:
    connection.executescript(f"{PAGES}; {NOTES}")
    attached(connection, OF_PAGES, OF_NOTES)
    by_row = TableDeclaration(name="pages", counters=("views",), merge=MergeRule.ROW)
    outcome = attached(connection, by_row, TableDeclaration(name="notes"))
    assert names(outcome) == (["pages"], [], [("notes", R.CHECK_ACROSS_COLUMNS)])
    assert outcome.attached[0].was_attached
    assert {name: spec.rule for name, spec in catalogue.load(connection).items()} == {
        "pages": MergeRule.ROW,
        "notes": MergeRule.ROW,
    }


def test_a_database_of_another_cluster_or_a_newer_litecast_is_refused_as_a_whole(
    connection: sqlite3.Connection,
) -> None:
    connection.executescript(f"{PAGES}; {NOTES}")
    attached(connection, OF_PAGES)
    assert names(attached(connection, OF_PAGES, OF_NOTES, cluster="bakery")) == ([], [], [("", R.OTHER_CLUSTER)])
    assert names(attached(connection, OF_PAGES, cluster="bakery")) == ([], [], [("", R.OTHER_CLUSTER)])
    connection.execute("UPDATE _litecast_state SET format = 99")
    assert names(attached(connection, OF_PAGES)) == ([], [], [("", R.NEWER_LITECAST)])


def trigger(on: str, *written: str) -> str:
    body = "; ".join(f"INSERT INTO {one} VALUES (new.id)" for one in written)
    return f"CREATE TRIGGER {on}_{'_'.join(written)} AFTER INSERT ON {on} BEGIN {body}; END"


def declare(*tables: str) -> list[TableDeclaration]:
    return [TableDeclaration(name=name) for name in tables]


def test_tables_that_can_only_be_attached_together_are(connection: sqlite3.Connection) -> None:
    connection.executescript("; ".join([*map(table, "abc"), trigger("a", "b", "c")]))
    assert names(attached(connection, *declare("a", "b", "c"))) == (["a", "b", "c"], [], [])


def test_a_mixture_of_triggers_keeps_only_its_own_table_out(connection: sqlite3.Connection) -> None:
    connection.executescript("; ".join([*map(table, "abcd"), trigger("a", "b", "d")]))
    assert names(attached(connection, *declare("a", "b", "c"))) == (["b", "c"], [], [("a", R.TRIGGERS_MIXED)])


def test_a_table_that_would_make_a_mixture_of_one_that_is_attached_is_named_and_the_others_are_attached(
    connection: sqlite3.Connection,
) -> None:
    connection.executescript("; ".join([*map(table, "abcd"), trigger("a", "b", "d")]))
    attached(connection, *declare("a"))
    outcome = attached(connection, *declare("a", "b", "c"))
    assert names(outcome) == (["c"], [], [("b", R.TRIGGERS_MIXED)])
    assert outcome.refusals[0].reason.startswith("with it, of table a: some of its triggers")
    assert names(attached(connection, *declare("a", "b", "c", "d"))) == (["b", "d"], [], [])


def test_a_table_that_became_a_mixture_keeps_no_other_out(connection: sqlite3.Connection) -> None:
    connection.executescript("; ".join(map(table, "abc")))
    attached(connection, *declare("a"))
    connection.executescript(f"{trigger('a', 'a')}; {trigger('a', 'c')}")
    assert names(attached(connection, *declare("a", "b"))) == (["b"], [], [])


def test_a_writer_in_the_way_is_told_and_afterwards_it_can_be_tried_again(
    connection: sqlite3.Connection, connect: Connect
) -> None:
    connection.execute(PAGES)
    with closing(connect()) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            attached(connection, OF_PAGES)
    assert names(attached(connection, OF_PAGES))[0] == ["pages"]


def test_what_the_connection_makes_of_rows_and_text_is_no_matter(connection: sqlite3.Connection) -> None:
    connection.execute(PAGES)
    connection.row_factory, connection.text_factory = sqlite3.Row, bytes
    assert names(attached(connection, OF_PAGES, OF_NOTES)) == (["pages"], ["notes"], [])
    assert names(attached(connection, OF_PAGES, OF_NOTES)) == ([], ["notes"], [])
    assert (connection.row_factory, connection.text_factory) == (sqlite3.Row, bytes)


async def test_a_repo_and_other_programs_have_the_database_open_meanwhile(tmp_path: Path, connect: Connect) -> None:
    async with Repo(tmp_path / "a.db") as repo:
        program, engine = connect(), connect()
        engine.execute("PRAGMA busy_timeout = 5000")
        assert attached(engine, OF_PAGES).missing == ("pages",)
        await repo.migrate([PAGES])
        await repo.insert("pages", {"page": "a", "views": 1})
        program.execute("BEGIN")
        assert program.execute("SELECT count(*) FROM pages").fetchone() == (1,)
        assert names(attached(engine, OF_PAGES))[0] == ["pages"]
        program.execute("COMMIT")
        await repo.update("pages", "a", {"views": 2})
        program.execute("INSERT INTO pages VALUES ('b', 1)")
        folded = fold(engine, now_ms=1_700_000_000_000)
        assert folded is not None
        assert folded.rows == 2


def test_what_a_person_attached_is_left_as_it_is(connection: sqlite3.Connection) -> None:
    connection.executescript(f"{PAGES}; {NOTES}")
    attach(
        connection,
        [TableChoice(name="notes", rule=MergeRule.ROW)],
        cluster=CLUSTER,
        new_site=lambda: Site("2" * 32),
    )
    assert names(attached(connection, OF_PAGES))[0] == ["pages"]
    assert sorted(catalogue.load(connection)) == ["notes", "pages"]
    found = state.read(connection)
    assert found is not None
    assert found.site == "2" * 32
    detach(connection, ["notes"])
    assert attached(connection, OF_PAGES) == AttachOutcome()
