"""Schemas that change node by node, on nodes that run: who has which, what comes in the end, what is sent for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from replication.convergent.messages import NotAMessage
from replication.convergent.schemas import TABLES_MAX, parse_schemas, plain_schemas
from tests.support.convergent import ConvergentCluster, Member, wait_until

REBUILD = """BEGIN;
    CREATE TABLE new (page TEXT PRIMARY KEY NOT NULL, title, count INTEGER NOT NULL DEFAULT 0, slug TEXT NOT NULL);
    INSERT INTO new SELECT page, title, count, lower(title) FROM pages; DROP TABLE pages;
    ALTER TABLE new RENAME TO pages; COMMIT"""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ConvergentCluster]:
    cluster = ConvergentCluster(tmp_path)
    yield cluster
    await cluster.close()


def notes(member: Member) -> tuple[str, ...]:
    return member.replication.status().notes


async def test_status_says_which_schema_each_node_has_and_names_those_that_differ(cluster: ConvergentCluster) -> None:
    members = a, b, c = await cluster.trio()

    def told() -> bool:
        return all(set(member.replication.status().schemas_of_peers) == {*"abc"} - {name} for name, member in named)

    named = list(cluster.members.items())
    await wait_until(told, members)
    assert notes(a) == notes(b) == notes(c) == ()
    a.writer.execute("ALTER TABLE pages ADD COLUMN lang TEXT")
    await wait_until(lambda: notes(b) and notes(c) and len(notes(a)) == 2, members)
    assert notes(a) == ("b has another schema of pages", "c has another schema of pages")
    assert notes(b) == ("a has another schema of pages",)
    said = b.replication.status().as_json()
    assert said["schemas"] == said["schemas_of_peers"]["c"] != said["schemas_of_peers"]["a"]
    for member in (b, c):
        member.writer.execute("ALTER TABLE pages ADD COLUMN lang TEXT")
    await wait_until(lambda: not any(map(notes, members)), members)


async def test_a_row_that_could_not_be_shown_comes_when_its_origin_has_migrated(cluster: ConvergentCluster) -> None:
    members = a, b, _ = await cluster.trio()
    b.writer.execute("INSERT INTO pages VALUES ('one', 'One', 1), ('two', 'Two', 2)")
    await cluster.equal()
    a.writer.executescript(REBUILD)
    b.writer.execute("INSERT INTO pages VALUES ('late', 'Late', 3)")
    await wait_until(lambda: a.replication.status().counts.get("held"), members)
    assert len(a.rows()) == 2
    for member in members[1:]:
        member.writer.executescript(REBUILD)
    assert (await cluster.equal("SELECT page, slug FROM pages ORDER BY 1"))[0] == ("late", "late")


async def test_a_migration_that_every_node_runs_sends_nothing(cluster: ConvergentCluster) -> None:
    members = a, _, _ = await cluster.trio()
    a.writer.executemany("INSERT INTO pages VALUES (?, 'x', 1)", ((f"page {n}",) for n in range(500)))
    await cluster.equal()
    before = [dict(member.replication.status().counts) for member in members]
    for member in members:
        member.writer.execute("ALTER TABLE pages ADD COLUMN lang TEXT DEFAULT 'en'")
        member.writer.execute("ALTER TABLE pages ADD COLUMN size INTEGER")
        member.writer.execute("UPDATE pages SET size = length(title)")
        member.writer.executescript(
            "BEGIN; CREATE TABLE new (page TEXT PRIMARY KEY NOT NULL, title, count INTEGER NOT NULL DEFAULT 0,"
            " lang TEXT DEFAULT 'en', size INTEGER, tone TEXT NOT NULL);"
            "INSERT INTO new SELECT *, 'low' FROM pages; DROP TABLE pages; ALTER TABLE new RENAME TO pages; COMMIT"
        )
    await cluster.equal()
    await wait_until(lambda: not any(map(notes, members)), members)
    for member, counts in zip(members, before, strict=True):
        now = member.replication.status().counts
        sent = ("folded_rows", "merged", "merged_rows", "pages", "snapshots", "state_exchanges")
        assert {name: now.get(name, 0) for name in sent} == {name: counts.get(name, 0) for name in sent}
    a.writer.execute("UPDATE pages SET size = 7 WHERE page = 'page 0'")
    rows = await cluster.equal("SELECT page, size, tone FROM pages ORDER BY 1")
    assert rows[0] == ("page 0", 7, "low")


async def test_a_node_that_begins_with_a_copy_of_one_with_another_schema_goes_on_from_there(
    cluster: ConvergentCluster,
) -> None:
    a, b = await cluster.start("a"), await cluster.start("b")
    a.writer.execute("INSERT INTO pages VALUES ('one', 'One', 1)")
    await cluster.equal()
    a.writer.execute("ALTER TABLE pages ADD COLUMN lang TEXT")
    a.writer.execute("UPDATE pages SET title = 'first'")
    await cluster.stop("b")
    c = await cluster.start("c", first_copy=True)
    assert c.rows("SELECT name FROM pragma_table_info('pages')")[-1] == ("lang",)
    c.writer.execute("UPDATE pages SET lang = 'de'")
    b = await cluster.start("b")
    b.writer.execute("UPDATE pages SET count = count + 1")
    await wait_until(lambda: b.replication.status().counts.get("held"), [a, b, c])
    b.writer.execute("ALTER TABLE pages ADD COLUMN lang TEXT")
    assert await cluster.equal() == [("one", "first", 2, "de")]


@pytest.mark.parametrize(
    "message",
    [
        ["schemas"],
        ["schemas", {}],
        ["schemas", [["pages"]]],
        ["schemas", [["pages", 1]]],
        ["schemas", [["", "0"]]],
        ["schemas", [["pages", "0" * 9]]],
        ["schemas", [["pages", "0"]] * (TABLES_MAX + 1)],
        ["schemas", [], []],
    ],
)
def test_schemas_that_are_none_are_no_message(message: list[object]) -> None:
    with pytest.raises(NotAMessage):
        parse_schemas(message)


def test_schemas_arrive_as_they_were_told() -> None:
    assert parse_schemas(plain_schemas({"pages": "0a1b2c3d"})) == {"pages": "0a1b2c3d"}
