"""The digest of a table's rows: of all rows in any order, and of each value with its type."""

import pytest

from replication.backup.fingerprints import HELD, fingerprints, is_row_digest, row_digests
from tests.support.attached import Attached

TABLE = "CREATE TABLE pages (page TEXT PRIMARY KEY NOT NULL, a, b)"
ROWS = (
    "INSERT INTO pages VALUES ('1', 1, NULL)",
    "INSERT INTO pages VALUES ('2', 2.5, x'31')",
    "INSERT INTO pages VALUES ('3', CAST(x'ff' AS TEXT), 'x')",
)


def with_rows(*statements: str) -> Attached:
    node = Attached(TABLE, counters=())
    for statement in statements:
        node.sql(statement)
    return node


def digest(node: Attached) -> str:
    return row_digests(node.connection)["pages"]


def test_it_is_that_of_the_rows_in_any_order() -> None:
    assert digest(with_rows(*ROWS)) == digest(with_rows(*reversed(ROWS)))
    node = with_rows()
    assert is_row_digest(digest(node))
    assert not is_row_digest(fingerprints(node.connection)["pages"])


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE pages SET a = '1' WHERE page = '1'",
        "UPDATE pages SET a = 1.0 WHERE page = '1'",
        "UPDATE pages SET a = b, b = a WHERE page = '2'",
        "UPDATE pages SET b = '1' WHERE page = '2'",
        "UPDATE pages SET a = x'ff' WHERE page = '3'",
        "UPDATE pages SET page = '4' WHERE page = '3'",
        "UPDATE pages SET a = CASE page WHEN '1' THEN 2.5 WHEN '2' THEN 1 ELSE a END",
        "DELETE FROM pages WHERE page = '2'",
    ],
)
def test_it_is_another_one_after_a_change(change: str) -> None:
    node = with_rows(*ROWS)
    before = digest(node)
    node.sql(change)
    assert digest(node) != before


def test_what_is_held_counts() -> None:
    node = with_rows(*ROWS)
    connection = node.connection
    before = row_digests(connection)
    columns = len(connection.execute(f"PRAGMA table_info({HELD})").fetchall())
    connection.execute(f"INSERT INTO {HELD} VALUES ({', '.join(map(str, range(1, columns + 1)))})")
    after = row_digests(connection)
    assert after["pages"] == before["pages"]
    assert after[HELD] != before[HELD]
