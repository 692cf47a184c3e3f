"""Transactions of many rows: in pieces through fold, journal and merge, and nothing to be seen of the pieces."""

import pytest

from replication.engine import absorbing, applying, decoding, folding, journal, progress
from replication.engine.applying import Merged, Refused, merge_all
from replication.engine.changesets import encode
from replication.engine.decoding import LARGE_BYTES
from replication.engine.entries import split
from replication.engine.folding import fold
from replication.engine.progress import Progress
from replication.engine.sites import vector
from replication.engine.values import pack, unpack
from tests.support.attached import PAGES, Attached

ROWS = 500
INSERT_MANY = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500)"
    " INSERT INTO pages SELECT 'key ' || i, 'title', zeroblob(i % 7), i % 3 FROM n"
)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "FEW_KEYS", 50)
    monkeypatch.setattr(folding, "PAGE_KEYS", 64)
    monkeypatch.setattr(decoding, "PIECE_ROWS", 100)
    monkeypatch.setattr(applying, "LARGE_BYTES", 1_000)
    monkeypatch.setattr(journal, "PIECE_BYTES", 1_000)


@pytest.mark.usefixtures("small_pieces")
def test_a_large_transaction_passes_in_pieces_and_is_one_changeset() -> None:
    a, b = Attached(), Attached()
    folded = a.write(INSERT_MANY)
    assert folded.rows == ROWS
    (change,) = folded.changeset.tables
    assert max(len(group.rows) for group in change.groups) <= 64
    assert a.journal() == [folded.encoded]
    merged = b.merged(folded)
    assert merged.rows == ROWS
    assert b.rows() == a.rows()
    assert b.journal()[-1] == folded.encoded
    assert not a.sql("SELECT * FROM _litecast_log_1")


@pytest.mark.usefixtures("small_pieces")
def test_every_kind_of_change_in_one_large_transaction() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write(INSERT_MANY))
    for statement in (
        "BEGIN",
        "UPDATE pages SET visits = visits + 5 WHERE rowid % 2",
        "UPDATE pages SET title = rowid WHERE rowid % 3 = 0",
        "DELETE FROM pages WHERE rowid % 5 = 0",
        "DELETE FROM pages WHERE rowid % 7 = 0",
        "INSERT INTO pages SELECT k0, 'again', NULL, 1 FROM _litecast_log_1 WHERE kind = 3 GROUP BY k0 LIMIT 80",
        "REPLACE INTO pages SELECT name, 'replaced', body, visits FROM pages WHERE rowid % 11 = 0",
        "COMMIT",
    ):
        a.sql(statement)
    b.merged(a.published())
    assert b.rows() == a.rows()
    entries = "SELECT k0, life, stamp, cells FROM _litecast_clock_1 ORDER BY 1"
    assert [(*rest, cells and split(cells)[0]) for *rest, cells in b.sql(entries)] == [
        (*rest, cells and split(cells)[0]) for *rest, cells in a.sql(entries)
    ]
    assert {life for (life,) in a.sql("SELECT life FROM _litecast_clock_1")} == {1, 2, 3}


@pytest.mark.usefixtures("small_pieces")
def test_what_turns_out_bad_after_some_pieces_leaves_nothing_behind() -> None:
    a, b, c = Attached(), Attached(), Attached()
    folded = a.write(INSERT_MANY)
    good = c.write("INSERT INTO pages VALUES ('of c', 'good', NULL, 1)")
    fields = list(unpack(folded.encoded))
    (name, key, groups), *_ = fields[7]
    kind, cells, counters, rows = groups[-1]
    bad_rows = (*rows[:-1], (*rows[-1][:-1], "no count"))
    fields[7] = ((name, key, (*groups[:-1], (kind, cells, counters, bad_rows))),)
    before = b.rows(), vector(b.connection)
    refused, merged = merge_all(b.connection, [pack(tuple(fields)), good.encoded], now_ms=c.now_ms)
    assert isinstance(refused, Refused)
    assert isinstance(merged, Merged)
    assert b.rows() == c.rows() != before[0]
    assert set(vector(b.connection)) - set(before[1]) == {c.site}
    assert b.sql("SELECT count(*) FROM _litecast_clock_1") == [(1,)]
    assert b.journal() == [good.encoded]


@pytest.mark.usefixtures("small_pieces")
def test_a_large_change_of_a_table_that_is_not_there_is_held_and_shown_when_it_is() -> None:
    a, b = Attached(), Attached("CREATE TABLE other (id TEXT PRIMARY KEY NOT NULL)", table="other", counters=())
    folded = a.write(INSERT_MANY)
    assert b.merged(folded).held == ROWS
    b.connection.executescript(PAGES)
    b.attach("pages", counters=("visits",))
    b.fold()
    assert b.rows() == a.rows()


def test_orphans_of_more_rows_than_are_noted_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absorbing, "TOUCHED_MAX", 3)
    schema = (
        "CREATE TABLE pages (name TEXT PRIMARY KEY NOT NULL, title TEXT);"
        "CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, page TEXT REFERENCES pages (name))"
    )
    a, b = (Attached(schema, table="pages", counters=()) for _ in range(2))
    for node in (a, b):
        node.attach("notes")
    b.merged(a.write("INSERT INTO pages VALUES ('p', 1), ('q', 1)"))
    gone = b.write("DELETE FROM pages WHERE name = 'p'")
    notes = a.write("INSERT INTO notes VALUES ('1', 'q'), ('2', 'p'), ('3', 'q'), ('4', 'q'), ('5', 'q')")
    (violation,) = b.merged(notes).violations
    assert (violation.table, violation.key) == ("notes", ("2",))
    (violation,) = a.merged(gone).violations
    assert (violation.table, violation.key) == ("notes", ("2",))


def test_what_is_not_large_is_decoded_at_once() -> None:
    folded = Attached().write(INSERT_MANY)
    assert len(folded.encoded) < LARGE_BYTES
    assert encode(folded.changeset) == folded.encoded


def test_a_transaction_of_more_than_a_changeset_takes_becomes_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "FEW_KEYS", 50)
    monkeypatch.setattr(folding, "PAGE_KEYS", 64)
    monkeypatch.setattr(folding, "CHANGESET_BYTES", 5_000)
    a, b = Attached(), Attached()
    last = a.write(INSERT_MANY)
    made = a.journal()
    assert len(made) > 2
    assert made[-1] == last.encoded
    assert max(map(len, made)) < 10_000
    for encoded in made:
        b.merged(encoded)
    assert b.rows() == a.rows()
    assert b.sql("SELECT count(DISTINCT stamp) FROM _litecast_clock_1") == [(len(made),)]
    assert a.fold() is None


def test_pages_become_smaller_where_rows_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "FEW_KEYS", 10)
    monkeypatch.setattr(folding, "PAGE_BYTES", 20_000)
    a = Attached()
    folded = a.write(INSERT_MANY.replace("i % 7", "5000"))
    (change,) = folded.changeset.tables
    sizes = [len(group.rows) for group in change.groups]
    assert sizes[0] == 10
    assert max(sizes[1:]) <= 4


def test_it_is_said_how_far_a_large_transaction_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "FEW_KEYS", 50)
    monkeypatch.setattr(folding, "PAGE_KEYS", 100)
    monkeypatch.setattr(decoding, "PIECE_ROWS", 100)
    monkeypatch.setattr(applying, "LARGE_BYTES", 1_000)
    monkeypatch.setattr(progress, "LARGE_ROWS", 200)
    a, b = Attached(), Attached()
    said: list[str] = []

    class Listening(Progress):
        @property
        def rows(self) -> int:
            return self.counted

        @rows.setter
        def rows(self, rows: int) -> None:
            self.counted = rows
            said.append(self.in_words())

    a.sql(INSERT_MANY)
    folded = fold(a.connection, now_ms=a.now_ms, progress=Listening())
    assert folded is not None
    assert said[-1] == "folding a large transaction: 500 rows so far"
    assert said[:3] == ["", "", ""]
    said.clear()
    (outcome,) = merge_all(b.connection, [folded.encoded], now_ms=a.now_ms, progress=Listening())
    assert isinstance(outcome, Merged), outcome
    assert said[-1] == "merging a large transaction: 500 rows so far"
    assert len(said) > 5
