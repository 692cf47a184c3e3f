"""What a forgotten site proves, and what is a tip of it."""

from replication.engine.closing import FORGOTTEN, branches, close_site, closed, forget_site, frozen
from replication.engine.sites import Head
from replication.engine.stamping_again import set_aside, stamp_again
from replication.engine.stamps import Site, Stamp, ms_of
from tests.support.attached import Attached

SITE, NEW = Site("d" * 32), Site("e" * 32)
ONE, TWO = (Head(stamp=Stamp(number), digest=bytes([number]) * 16) for number in (1, 2))


def test_it_proves_what_those_merged_who_had_all_of_its_one_history() -> None:
    whole = {SITE: frozenset({ONE, FORGOTTEN})}
    assert frozen(whole, whole) == frozen({}, whole) == frozen({SITE: {FORGOTTEN}}, whole) == {SITE: 1}


def test_it_proves_nothing_where_it_has_two_histories_or_is_closed_for_another_reason() -> None:
    whole = {SITE: frozenset({ONE, FORGOTTEN})}
    assert frozen(whole, {SITE: frozenset({ONE, TWO, FORGOTTEN})}) == {}
    assert frozen({SITE: {TWO, FORGOTTEN}}, whole) == {}
    assert frozen({SITE: {ONE}}, whole) == {}
    assert frozen(whole, {SITE: frozenset({ONE})}) == {}
    assert frozen(whole, {SITE: frozenset({FORGOTTEN})}) == {}


def test_who_has_less_of_it_than_others_has_no_history_of_its_own() -> None:
    a, b, c = Attached(), Attached(), Attached()
    first = a.write("INSERT INTO pages VALUES ('x', 'X', '', 1)")
    for node in (b, c):
        node.merged(first)
    c.merged(a.write("UPDATE pages SET visits = 2"))
    forget_site(c.connection, a.site)
    told = closed(c.connection)[a.site]
    assert len(branches(told)) == 1
    forget_site(b.connection, a.site, told)
    assert closed(b.connection)[a.site] == {FORGOTTEN}
    d = Attached()
    d.pull(c)
    close_site(d.connection, a.site, new_site=lambda: NEW)
    forget_site(d.connection, a.site, told)
    assert FORGOTTEN in closed(d.connection)[a.site]


def test_its_tip_moves_no_clock() -> None:
    a = Attached()
    forget_site(a.connection, SITE)
    a.now_ms += 600_000
    a.write("INSERT INTO pages VALUES ('x', 'X', '', 1)")
    a.now_ms -= 600_000
    set_aside(a.connection)
    assert ms_of(stamp_again(a.connection, (), new_site=NEW, now_ms=a.now_ms).changeset.upto) <= a.now_ms + 1
