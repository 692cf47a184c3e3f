"""What is trimmed, and what must not be."""

from replication.engine import state
from replication.engine.applying import Merged
from replication.engine.closing import close_site
from replication.engine.identity import begin_run
from replication.engine.sites import vector
from replication.engine.stamps import Site
from replication.engine.trimming import JournalLimits, bytes_since, trim_journal, trim_tombstones
from tests.support.attached import Attached, exchange

DAY_MS = 24 * 3_600_000


def count(node: Attached, table: str) -> int:
    (found,) = node.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(found)


def trim(node: Attached, *others: Attached, min_age_ms: int = 0) -> int:
    return trim_tombstones(
        node.connection,
        members=[vector(other.connection) for other in others],
        min_age_ms=min_age_ms,
        now_ms=node.now_ms + 1,
    )


def test_the_oldest_changesets_go_until_the_others_are_small_enough() -> None:
    a = Attached()
    for number in range(10):
        a.write(f"INSERT INTO pages (name, title) VALUES ('{number}', '{'x' * 1000}')")
    assert trim_journal(a.connection, now_ms=a.now_ms, max_age_ms=DAY_MS, max_bytes=6_000) == 5
    (oldest,) = a.connection.execute("SELECT min(upto) FROM _litecast_journal").fetchone()
    assert trim_journal(a.connection, now_ms=a.now_ms, max_age_ms=DAY_MS, max_bytes=6_000) == 0
    assert oldest == a.connection.execute("SELECT min(upto) FROM _litecast_journal").fetchone()[0]


def test_what_a_peer_is_about_to_need_stays() -> None:
    a = Attached()
    pin = a.write("INSERT INTO pages (name) VALUES ('one')").changeset.upto
    a.write("INSERT INTO pages (name) VALUES ('two')")
    later_ms = a.now_ms + 10 * DAY_MS
    assert trim_journal(a.connection, now_ms=later_ms, max_age_ms=DAY_MS, max_bytes=0, pinned={a.site: pin}) == 1
    assert count(a, "_litecast_journal") == 1


def test_of_a_site_that_who_is_served_does_not_know_everything_stays() -> None:
    a, b = Attached(), Attached()
    a.write("INSERT INTO pages (name) VALUES ('one')")
    a.merged(b.write("INSERT INTO pages (name) VALUES ('two')"))
    later_ms = a.now_ms + 10 * DAY_MS
    assert trim_journal(a.connection, now_ms=later_ms, max_age_ms=DAY_MS, max_bytes=0, pinned={}) == 0
    assert trim_journal(a.connection, now_ms=later_ms, max_age_ms=DAY_MS, max_bytes=0) == 2


def test_what_a_closed_site_wrote_goes_at_once() -> None:
    a, b = Attached(), Attached()
    a.merged(b.write("INSERT INTO pages (name) VALUES ('two')"))
    close_site(a.connection, b.site, new_site=lambda: b.site)
    assert trim_journal(a.connection, now_ms=a.now_ms, max_age_ms=DAY_MS, max_bytes=10**6, pinned={}) == 1


def test_a_closed_site_s_tombstones_go_once_everybody_has_merged_the_same_of_it() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write("INSERT INTO pages (name) VALUES ('home')"))
    b.merged(a.write("DELETE FROM pages"))
    for node in (a, b):
        close_site(node.connection, a.site, new_site=lambda: Site("e" * 32))
    assert trim(b) == 0
    assert trim_tombstones(b.connection, members=[{}], settled=[a.site], min_age_ms=0, now_ms=a.now_ms + 1) == 1


def test_what_lacks_its_row_for_long_goes() -> None:
    a, b, c = Attached(), Attached(), Attached()
    b.merged(a.write("INSERT INTO pages (name) VALUES ('home')"))
    close_site(c.connection, a.site, new_site=lambda: c.site)
    late = b.write("UPDATE pages SET title = 'lacks its row'")
    c.merged(late)
    c.now_ms = (late.changeset.upto >> 16) - 1
    assert trim(c) == 0
    assert count(c, "_litecast_held_tables") == 1
    c.now_ms += 1
    assert trim(c) == 0
    assert count(c, "_litecast_held_tables") == 0


def test_a_baseline_goes_when_anything_goes_and_not_by_its_age() -> None:
    a = Attached("CREATE TABLE pages (name TEXT PRIMARY KEY NOT NULL, title)", counters=(), attached=False)
    a.connection.execute("INSERT INTO pages VALUES ('home', 'Home')")
    a.attach("pages")
    assert trim_journal(a.connection, now_ms=a.now_ms, max_age_ms=DAY_MS, max_bytes=10**6) == 0
    a.write("INSERT INTO pages VALUES ('about', 'About')")
    assert trim_journal(a.connection, now_ms=a.now_ms + 2 * DAY_MS, max_age_ms=DAY_MS, max_bytes=10**6) == 2


def test_a_tombstone_goes_when_everybody_has_it() -> None:
    a, b = Attached(), Attached()
    a.write("INSERT INTO pages (name) VALUES ('home')")
    a.write("DELETE FROM pages")
    assert trim(a, b) == 0
    exchange(a, b)
    assert trim(a, b) == 1
    assert count(a, "_litecast_clock_1") == 0


def test_a_tombstone_stays_while_another_member_has_what_this_node_has_not() -> None:
    """Else an insert that is older than the delete, and still on its way, brings the row back."""
    a, b, c = Attached(), Attached(), Attached()
    insert = c.write("INSERT INTO pages (name, title) VALUES ('home', 'C')")
    a.now_ms = c.now_ms + 10
    a.write("INSERT INTO pages (name, title) VALUES ('home', 'A')")
    a.write("DELETE FROM pages")
    for node in (b, c):
        node.pull(a)
    assert trim(a, b, c) == 0
    a.merged(insert)
    b.merged(insert)
    assert trim(a, b, c) == 1
    assert a.rows() == b.rows() == c.rows() == []


def test_a_young_tombstone_stays() -> None:
    a = Attached()
    a.write("INSERT INTO pages (name) VALUES ('home')")
    a.write("DELETE FROM pages")
    assert trim(a, min_age_ms=DAY_MS) == 0
    a.now_ms += 2 * DAY_MS
    assert trim(a, min_age_ms=DAY_MS) == 1


def test_the_row_of_a_trimmed_tombstone_comes_back_in_a_higher_life() -> None:
    a, b = Attached(), Attached()
    a.write("INSERT INTO pages (name, visits) VALUES ('home', 5)")
    a.write("DELETE FROM pages")
    exchange(a, b)
    assert trim(a, b) == 1
    again = a.write("INSERT INTO pages (name, visits) VALUES ('home', 1)")
    (row,) = again.changeset.tables[0].rows
    assert row.life == 3
    assert isinstance(b.merge(again), Merged)
    assert a.rows() == b.rows()


def test_what_was_written_to_a_row_that_is_trimmed_elsewhere_ends_with_it() -> None:
    a, b = Attached(), Attached()
    a.write("INSERT INTO pages (name) VALUES ('home')")
    exchange(a, b)
    late = b.write("UPDATE pages SET title = 'late'")
    a.now_ms = b.now_ms + 10
    a.write("DELETE FROM pages")
    b.pull(a)
    a.merged(late)
    assert trim(a, b) == 1
    assert a.rows() == b.rows() == []


def test_a_member_that_merged_another_history_keeps_tombstones_where_they_are() -> None:
    """Its head is as far as the delete, and it has not seen it. The journal does not show that any more."""
    a, b, c = Attached(), Attached(), Attached()
    a.write("INSERT INTO pages (name) VALUES ('home')")
    exchange(a, b, c)
    backup = Attached("", attached=False)
    a.connection.backup(backup.connection)
    before_ms = a.now_ms
    a.write("DELETE FROM pages")
    a.write("INSERT INTO pages (name) VALUES ('later')")
    b.pull(a)
    b.now_ms, a.now_ms = a.now_ms, before_ms
    backup.connection.backup(a.connection)
    found = state.read(a.connection)
    assert found is not None
    begin_run(a.connection, known_nonce=found.nonce, new_nonce=b"another run", new_site=lambda: Site("e" * 32))
    c.merged(a.write("INSERT INTO pages (name) VALUES ('another history')"))
    b.connection.execute("DELETE FROM _litecast_journal")
    (gone,) = b.sql("SELECT stamp FROM _litecast_clock_1 WHERE life = 2")[0]
    assert gone <= vector(c.connection)[a.site].stamp < vector(b.connection)[a.site].stamp
    assert trim(b, c) == 0
    assert trim(b) == 1


def test_how_near_a_changeset_is_to_being_trimmed_can_be_told() -> None:
    """By size it is the first to go when its bytes and those of all later ones are more than may be kept."""
    a, b = Attached(), Attached()
    stamps = [
        a.write(f"INSERT INTO pages (name, title) VALUES ('{n}', '{'x' * 1000}')").changeset.upto for n in range(6)
    ]
    b.now_ms = a.now_ms + 10
    a.merged(b.write("INSERT INTO pages (name) VALUES ('theirs')"))
    for index, stamp in enumerate(stamps):
        size = bytes_since(a.connection, stamp)
        limits = JournalLimits(max_age_ms=DAY_MS, max_bytes=size)
        assert limits.used(age_ms=0, size=size) == 1.0
        assert limits.used(age_ms=DAY_MS / 2, size=0) == 0.5
        trim_journal(a.connection, now_ms=a.now_ms, max_age_ms=DAY_MS, max_bytes=size)
        assert count(a, "_litecast_journal") == len(stamps) - index + 1, "it is the oldest that stays"
