import pytest

from tests.support.attached import PAGES, Attached, exchange

AUDIT = """
CREATE TABLE audit (name, title);
CREATE TRIGGER note AFTER UPDATE OF title ON pages BEGIN INSERT INTO audit VALUES (new.name, new.title); END;
CREATE TRIGGER noted AFTER INSERT ON pages BEGIN INSERT INTO audit VALUES (new.name, new.title); END;
"""
CAPTURED = """
CREATE TABLE copies (name TEXT PRIMARY KEY NOT NULL, count INTEGER NOT NULL DEFAULT 0);
CREATE TRIGGER copy AFTER INSERT ON pages BEGIN
    INSERT INTO copies VALUES (new.name, 1) ON CONFLICT DO UPDATE SET count = count + 1; END;
"""
SEARCH = """
CREATE VIRTUAL TABLE search USING fts5(title, content='pages', content_rowid='rowid');
CREATE TRIGGER si AFTER INSERT ON pages BEGIN INSERT INTO search(rowid, title) VALUES (new.rowid, new.title); END;
CREATE TRIGGER sd AFTER DELETE ON pages BEGIN
    INSERT INTO search(search, rowid, title) VALUES ('delete', old.rowid, old.title); END;
CREATE TRIGGER su AFTER UPDATE ON pages BEGIN
    INSERT INTO search(search, rowid, title) VALUES ('delete', old.rowid, old.title);
    INSERT INTO search(rowid, title) VALUES (new.rowid, new.title); END;
"""


def test_local_triggers_run_where_a_change_is_merged_and_capture_does_not() -> None:
    a, b = Attached(f"{PAGES}; {AUDIT}"), Attached(f"{PAGES}; {AUDIT}")
    a.sql("INSERT INTO pages VALUES ('x', 'one', '', 1)")
    exchange(a, b)
    a.sql("UPDATE pages SET title = 'two'")
    exchange(a, b)
    assert b.sql("SELECT * FROM audit") == a.sql("SELECT * FROM audit") == [("x", "one"), ("x", "two")]
    assert b.sql("SELECT * FROM _litecast_merging") == []
    assert b.sql("SELECT * FROM _litecast_log_1") == []
    assert b.fold() is None
    b.sql("UPDATE pages SET title = 'three'")
    assert b.fold() is not None


def test_triggers_that_write_attached_tables_stay_off_while_merging() -> None:
    nodes = [Attached(f"{PAGES}; {CAPTURED}", attached=False) for _ in range(2)]
    for node in nodes:
        node.attach("copies", counters=("count",))
        node.attach("pages", counters=("visits",))
    a, b = nodes
    a.sql("INSERT INTO pages VALUES ('x', 'one', '', 1)")
    exchange(a, b)
    assert b.rows("copies") == a.rows("copies") == [("x", 1)]


def test_a_local_trigger_that_raises_holds_its_row_and_not_the_merge() -> None:
    raising = "CREATE TRIGGER no BEFORE INSERT ON pages WHEN new.title = 'bad' BEGIN SELECT raise(ABORT, 'bad'); END;"
    a, b = Attached(), Attached(f"{PAGES}; {AUDIT}")
    b.connection.executescript(raising)
    a.sql("INSERT INTO pages VALUES ('x', 'bad', '', 1), ('y', 'good', '', 1)")
    outcome = b.merged(a.published())
    assert [row[0] for row in b.rows()] in (["y"], ["x", "y"])
    assert b.sql("SELECT * FROM _litecast_merging") == []
    assert outcome.rows == 2
    assert b.fold() is None


def test_a_full_text_index_is_whole_after_merging() -> None:
    a, b = Attached(f"{PAGES}; {SEARCH}"), Attached(f"{PAGES}; {SEARCH}")
    a.sql("INSERT INTO pages VALUES ('x', 'first words', '', 1), ('y', 'other things', '', 1)")
    exchange(a, b)
    b.sql("UPDATE pages SET title = 'second words' WHERE name = 'x'")
    a.sql("DELETE FROM pages WHERE name = 'y'")
    exchange(a, b)
    for node in (a, b):
        node.sql("INSERT INTO search(search) VALUES ('integrity-check')")
        assert node.sql("SELECT title FROM search WHERE search MATCH 'words'") == [("second words",)]
        assert node.sql("SELECT title FROM search WHERE search MATCH 'things'") == []


@pytest.mark.parametrize("schema", [PAGES, f"{PAGES}; {AUDIT}"])
def test_a_counter_written_again_by_a_fold_is_not_captured(schema: str) -> None:
    node = Attached(schema)
    assert node.write("INSERT INTO pages VALUES ('x', '', '', 'many')").not_integers == 1
    assert node.fold() is None
