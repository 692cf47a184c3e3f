"""A page of the journal joins on to what the asker has, or says that it does not."""

from replication.engine.closing import close_site
from replication.engine.journal import Page, page
from replication.engine.stamps import Site, Stamp
from replication.engine.trimming import trim_journal
from tests.support.attached import Attached, exchange

DAY_MS = 24 * 3_600_000


def written(node: Attached, count: int, *, prefix: str = "page") -> None:
    for number in range(count):
        node.write(f"INSERT INTO pages (name, title) VALUES ('{prefix} {number}', 'x')")


def all_of(
    node: Attached, have: dict[Site, Stamp] | None = None, *, max_count: int = 100, max_bytes: int = 10**6
) -> Page:
    return page(node.connection, have or {}, max_bytes=max_bytes, max_count=max_count)


def stamps(found: Page) -> list[Stamp]:
    return [one.upto for one in found.changesets]


def test_pages_bring_everything_once_and_in_a_causal_order() -> None:
    a, b = Attached(), Attached()
    for number in range(6):
        written((a, b)[number % 2], 1, prefix=str(number))
        exchange(a, b)
    c = Attached()
    have: dict[Site, Stamp] = {}
    more, rounds = True, 0
    while more:
        found = all_of(a, have, max_count=2)
        assert stamps(found) == sorted(stamps(found))
        for one in found.changesets:
            assert one.encoded is not None
            c.merged(one.encoded)
            have[one.site] = one.upto
        more, rounds = found.more, rounds + 1
    assert c.rows() == a.rows()
    assert rounds == 3


def test_a_page_is_bounded_by_bytes_and_never_empty() -> None:
    a = Attached()
    written(a, 3)
    found = all_of(a, max_bytes=1)
    assert len(found.changesets) == 1
    assert found.more


def test_who_has_everything_gets_nothing() -> None:
    a = Attached()
    written(a, 2)
    found = all_of(a, {a.site: stamps(all_of(a))[-1]})
    assert found == Page(changesets=(), more=False, beyond=frozenset())


def test_what_was_trimmed_is_beyond_for_who_lacks_it_and_not_for_who_has_it() -> None:
    a = Attached()
    written(a, 1, prefix="old")
    a.now_ms += 10 * DAY_MS
    (old,) = stamps(all_of(a))
    written(a, 1, prefix="new")
    assert trim_journal(a.connection, now_ms=a.now_ms, max_age_ms=DAY_MS, max_bytes=10**9) == 1
    assert all_of(a).beyond == {a.site}
    assert not all_of(a).changesets
    assert len(all_of(a, {a.site: old}).changesets) == 1


def test_a_journal_that_is_empty_up_to_the_head_is_beyond() -> None:
    a = Attached()
    written(a, 2)
    assert trim_journal(a.connection, now_ms=a.now_ms + 10 * DAY_MS, max_age_ms=DAY_MS, max_bytes=10**9) == 2
    assert all_of(a).beyond == {a.site}


def test_that_a_site_is_beyond_is_said_in_the_first_page() -> None:
    """Or what depends on it would be served before that is said."""
    a, b = Attached(), Attached()
    a.merged(b.write("INSERT INTO pages (name) VALUES ('b')"))
    a.sql("DELETE FROM _litecast_journal")
    written(a, 5)
    found = page(a.connection, {}, max_bytes=10**6, max_count=1)
    assert found.more
    assert found.beyond == {b.site}


def test_what_comes_before_a_hole_is_served_and_nothing_after_it() -> None:
    a = Attached()
    written(a, 5)
    third = stamps(all_of(a))[2]
    a.connection.execute("DELETE FROM _litecast_journal WHERE upto = ?", (third,))
    found = all_of(a)
    assert len(found.changesets) == 2
    assert found.beyond == {a.site}


def test_a_closed_site_is_not_served() -> None:
    a = Attached()
    written(a, 2)
    close_site(a.connection, a.site, (), new_site=lambda: Site("f" * 32))
    found = all_of(a)
    assert found == Page(changesets=(), more=False, beyond=frozenset())
