"""What a node says of itself at a glance, and how its tables are compared where nobody folds."""

from pathlib import Path

from replication.convergent.for_file import connect
from replication.engine.closing import close_site
from replication.engine.comparable import DigestTable
from replication.engine.digests import Digest
from replication.engine.stamps import Site
from replication.measuring.questions import AskDigest, Look
from replication.measuring.reader import Reader
from tests.support.attached import Attached, exchange

PAGES = AskDigest(tables=(DigestTable(name="pages"),), covered={}, buckets_max=1)


def looked(path: Path, *, clocks: bool = True) -> Look:
    reader = Reader(lambda: connect(path), clocks=clocks)
    (found,) = reader.look()
    reader.close()
    return Look.parse(found)


def test_it_says_what_is_attached_and_how_far_it_is_but_not_of_closed_sites(tmp_path: Path) -> None:
    one, other = Attached(path=tmp_path / "one.db"), Attached()
    for node in (one, other):
        node.write(f"INSERT INTO pages VALUES ('{node.site}', 'x', NULL, 1)")
    exchange(one, other)
    found = looked(tmp_path / "one.db")
    assert found.tables == ("pages",)
    assert {one.site, other.site} <= set(found.vector)
    close_site(one.connection, other.site, new_site=lambda: Site("f" * 32))
    assert other.site not in looked(tmp_path / "one.db").vector, "two histories of it are about"


def test_where_nobody_folds_what_is_in_the_log_does_not_keep_tables_from_being_compared(tmp_path: Path) -> None:
    node = Attached(path=tmp_path / "one.db")
    node.sql("INSERT INTO pages VALUES ('home', 'x', NULL, 1)")
    assert node.connection.execute("SELECT count(*) FROM _litecast_log_1").fetchone() == (1,)
    for clocks in (True, False):
        reader = Reader(lambda: connect(tmp_path / "one.db"), clocks=clocks)
        (piece,) = reader.digest(PAGES)
        table = Digest.parse(piece).tables["pages"]
        reader.close()
        assert (table.attached, bool(table.pending)) == (clocks, clocks)
    assert looked(tmp_path / "one.db", clocks=False).tables == ()


def test_a_digest_is_kept_until_somebody_commits(tmp_path: Path) -> None:
    node = Attached(path=tmp_path / "one.db")
    node.connection.execute("PRAGMA journal_mode = WAL")
    reader = Reader(lambda: connect(tmp_path / "one.db"), clocks=True)
    first = reader.digest(PAGES)
    assert reader.digest(PAGES) is first
    node.write("INSERT INTO pages VALUES ('home', 'x', NULL, 1)")
    assert reader.digest(PAGES) is not first
    reader.close()
