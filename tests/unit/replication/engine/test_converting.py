"""Values of which a column makes others: what was written counts, and nodes whose columns differ do not."""

import pytest

from replication.engine import showing
from replication.engine.catalogue import MergeRule
from replication.engine.comparing import Verdict, compare
from replication.engine.converting import affinity, converted, may_convert
from replication.engine.digesting import attached_tables, digest
from replication.engine.known_tables import load_tables
from replication.engine.scanning import scan
from replication.engine.values import Value, same
from tests.support.attached import Attached, exchange

DECLARED = (
    "", "TEXT", "INTEGER", "REAL", "NUMERIC", "BLOB", "VARCHAR(10)", "BIGINT", "DOUBLE PRECISION", "DECIMAL(10, 2)",
    "DATETIME", "BOOLEAN", "FLOATING POINT", "STRING", "ANY", "CHARINT",
)  # fmt: skip
VALUES: tuple[Value, ...] = (
    None, 0, 3, -3, 2**53 + 1, 2**63 - 1, 0.0, -0.0, 3.0, 3.5, 1e300, float("inf"),
    "", "3", " 3 ", "3.0", "-3.5e2", ".5", "5.", "3x", "x3", "0x10", "1e", "+", ".", "2024-01-01", "nan", "inf",
    "9223372036854775808", "3\0", "\udcff", "\u0663", b"", b"3", b"x",
)  # fmt: skip


def pages(title: str, options: str = "") -> str:
    return (
        f"CREATE TABLE pages (name TEXT PRIMARY KEY NOT NULL, title {title}, body BLOB,"
        f" visits INTEGER NOT NULL DEFAULT 0) {options}"
    )


def agree(*nodes: Attached) -> bool:
    """What `litecast drift` would say; and no row is damaged."""
    digests = {str(node.site): digest(node.connection, attached_tables(node.connection)) for node in nodes}
    damaged = [row for node in nodes for row in scan(node.connection, "pages").rows]
    return compare(digests).verdict is Verdict.EQUAL and not damaged


def shown(node: Attached) -> list[Value]:
    return [title for (title,) in node.sql("SELECT title FROM pages ORDER BY name")]


@pytest.mark.parametrize("declared", DECLARED)
def test_it_is_known_beforehand_what_a_column_makes_of_a_value(declared: str) -> None:
    node = Attached(pages(declared))
    table = load_tables(node.connection)["pages"]
    found = {number: value for number, _, value in converted(table, ("title",), [(value,) for value in VALUES])}
    for number, value in enumerate(VALUES):
        table.insert(("title",)).run(node.connection, (f"{number:03}", value))
    for number, (value, stored) in enumerate(zip(VALUES, shown(node), strict=True)):
        if same(value, stored):
            assert number not in found
        else:
            assert same(found[number], stored), (value, stored)


def test_most_values_need_no_look() -> None:
    dates = affinity("DATETIME")
    assert dates is not None
    assert not may_convert("2024-01-01 10:00:00", dates)
    assert affinity("") is affinity("BLOB") is None


@pytest.mark.parametrize("rule", list(MergeRule))
@pytest.mark.parametrize(
    ("here", "there", "value"),
    [
        ("INTEGER", "TEXT", 3),
        ("TEXT", "INTEGER", "3"),
        ("REAL", "INTEGER", 3.0),
        ("", "REAL", 3),
        ("BLOB", "DECIMAL(5)", "3.50"),
    ],
)
def test_nodes_whose_columns_differ_in_type_hold_the_same(here: str, there: str, value: Value, rule: MergeRule) -> None:
    a, b = Attached(pages(here), rule=rule), Attached(pages(there), rule=rule)
    a.sql("INSERT INTO pages (name, title) VALUES ('x', ?)", value)
    assert b.merged(a.published()).held == 1
    assert not same(shown(b)[0], value)
    assert b.fold() is None, "what is shown is nobody's write"
    assert agree(a, b)
    b.merged(a.write("UPDATE pages SET visits = 2"))
    a.sql("UPDATE pages SET title = ?", 5 if value == 3 else value)
    b.merge(a.fold() or b"")
    assert agree(a, b)
    exchange(a, b)
    a.merged(b.write("UPDATE pages SET body = x'01'"))
    assert agree(a, b)
    assert (a.fold(), b.fold()) == (None, None), "and it comes to rest"


@pytest.mark.parametrize("strict", ["", "STRICT"])
def test_a_row_whose_key_would_become_another_is_held_whole(strict: str) -> None:
    schema = "CREATE TABLE pages (name {} PRIMARY KEY NOT NULL, title TEXT, visits INTEGER NOT NULL DEFAULT 0) {}"
    a, b = Attached(schema.format("NUMERIC", "")), Attached(schema.format("TEXT", strict))
    b.sql("INSERT INTO pages VALUES ('x', 'mine', 1)")
    a.merged(b.published())
    a.sql("INSERT INTO pages VALUES (1, 'one', 5)")
    assert b.merged(a.published()).held == 1
    assert b.fold() is None
    assert b.rows() == [("x", "mine", 1)]
    assert agree(a, b)
    b.merged(a.write("UPDATE pages SET title = 'eins', visits = 6 WHERE name = 1"))
    assert agree(a, b)
    b.merged(a.write("DELETE FROM pages WHERE name = 1"))
    assert agree(a, b)
    assert b.rows() == [("x", "mine", 1)]


def test_what_is_held_is_shown_when_the_column_is_declared_as_elsewhere() -> None:
    a, b = Attached(pages("INTEGER")), Attached(pages("TEXT"))
    b.merged(a.write("INSERT INTO pages (name, title) VALUES ('x', 3), ('y', 'text')"))
    assert shown(b) == ["3", "text"]
    b.connection.executescript(
        f"{pages('DECIMAL').replace('pages', 'new')}; INSERT INTO new SELECT * FROM pages; DROP TABLE pages;"
        "ALTER TABLE new RENAME TO pages"
    )
    assert b.fold() is None
    assert shown(b) == [3, "text"]
    assert b.sql("SELECT * FROM _litecast_held") == []


def test_what_is_held_stays_held_while_the_schema_changes_elsewhere() -> None:
    a, b = Attached(pages("INTEGER")), Attached(pages("TEXT"))
    b.merged(a.write("INSERT INTO pages (name, title) VALUES ('x', 3)"))
    b.sql("CREATE INDEX by_title ON pages (title)")
    assert b.fold() is None
    assert len(b.sql("SELECT * FROM _litecast_held")) == 1
    assert agree(a, b)


def test_who_writes_over_what_is_held_wins() -> None:
    a, b = Attached(pages("INTEGER")), Attached(pages("TEXT"))
    b.merged(a.write("INSERT INTO pages (name, title) VALUES ('x', 3)"))
    a.merged(b.write("UPDATE pages SET title = 'mine'"))
    assert shown(a) == shown(b) == ["mine"]
    assert agree(a, b)


def test_without_it_nodes_differ_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showing, "converted", lambda *_, **__: ())
    a, b = Attached(pages("INTEGER")), Attached(pages("TEXT"))
    b.merged(a.write("INSERT INTO pages (name, title) VALUES ('x', 3)"))
    assert not agree(a, b)
