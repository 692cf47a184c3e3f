"""What a node has merged, also of a site of which two histories are about."""

from replication.engine.closing import close_site, unite_tips
from replication.engine.comparing import Verdict, compare
from replication.engine.coverage import Coverage, coverage
from replication.engine.digesting import attached_tables, digest
from replication.engine.digests import Digest
from replication.engine.listing import list_rows
from replication.engine.listings import RowListing
from replication.engine.sites import closed
from replication.engine.stamps import Site, Stamp
from tests.support.attached import Attached
from tests.support.drift import uncaptured

X, Y = Site("a" * 32), Site("b" * 32)


def test_what_was_written_up_to_the_head_is_merged() -> None:
    mine, theirs = Coverage(vector={X: Stamp(5)}), Coverage()
    assert mine.has(X, Stamp(5), of=theirs)
    assert not mine.has(X, Stamp(6), of=theirs)
    assert not mine.has(Y, Stamp(0), of=theirs)


def test_of_a_closed_site_the_same_is_merged_where_the_tips_are_the_same() -> None:
    here, there = Coverage(closed={X: b"1"}), Coverage(closed={X: b"2"})
    assert here.has(X, Stamp(9), of=here)
    assert not here.has(X, Stamp(1), of=there)
    unaware = Coverage(vector={X: Stamp(9)})
    assert not unaware.has(X, Stamp(1), of=here), "it may be the other history"
    assert not here.has(X, Stamp(1), of=unaware)


def verdict(*nodes: Attached) -> Verdict:
    digests = {}
    for number, node in enumerate(nodes):
        found = digest(node.connection, attached_tables(node.connection), covered={X: Stamp(2**62)})
        digests[str(number)] = Digest.parse(found.plain())
    return compare(digests).verdict


def close(node: Attached) -> None:
    close_site(node.connection, X, new_site=lambda: Site("c" * 32))


def test_nodes_with_a_closed_site_are_compared_once_they_have_merged_the_same_of_it() -> None:
    one, other = Attached(site=X), Attached(site=X)
    one.write("INSERT INTO pages (name, title) VALUES ('a', 'x')")
    other.write("INSERT INTO pages (name, title) VALUES ('a', 'y')")
    close(one)
    assert verdict(one, other) is Verdict.UNKNOWN, "one has closed it"
    close(other)
    assert verdict(one, other) is Verdict.UNKNOWN, "the tips differ"
    for node, there in ((one, other), (other, one)):
        unite_tips(node.connection, closed(there.connection))
    assert coverage(one.connection) == coverage(other.connection)
    assert coverage(one.connection).vector == {}
    assert verdict(one, other) is Verdict.DRIFT, "nothing more will come, and they show different titles"
    with uncaptured(one.connection):
        one.sql("UPDATE pages SET title = 'y'")
    assert verdict(one, other) is Verdict.EQUAL


def test_pages_between_which_a_site_was_closed_tell_nothing() -> None:
    node = Attached(site=X)
    node.write("INSERT INTO pages (name) VALUES ('a'), ('b')")
    table = attached_tables(node.connection)[0]
    first = list_rows(node.connection, table, buckets=1, numbers=[0], bytes_max=1)
    close(node)
    rest = list_rows(node.connection, table, buckets=1, numbers=[0], after=first.upto)
    assert RowListing.parse(rest.plain()).coverage == coverage(node.connection)
    assert RowListing.joined([first, rest]).unsettled
    assert not RowListing.joined([rest, rest]).unsettled
