"""Rows of who knows nothing of their delete: gone on all nodes, or there on all, whoever has forgotten the delete."""

from collections.abc import Callable, Sequence

import pytest

from replication.engine import sites
from replication.engine.changesets import ChangeKind
from replication.engine.decoding import decode
from replication.engine.folding import is_due
from replication.engine.session import NOTHING_FORGOTTEN
from replication.engine.stamps import stamp_at
from replication.engine.trimming import trim_journal, trim_tombstones
from tests.support.attached import PAGES, Attached, exchange
from tests.support.states import Moving

BEGUN = "INSERT INTO pages VALUES ('a', 'A', '', 1)"
OTHER = "INSERT INTO pages VALUES ('a', 'A', 'of who knew nothing of it', 5)"


def cluster(*, forget: bool = True) -> list[Attached]:
    """Three that had a row, and deleted it."""
    nodes = [Attached() for _ in range(3)]
    nodes[0].write(BEGUN)
    exchange(*nodes)
    nodes[1].write("DELETE FROM pages")
    exchange(*nodes)
    for node in nodes:
        node.now_ms += 1_000
        node.forgets_before = stamp_at(node.now_ms) if forget else NOTHING_FORGOTTEN
    return nodes


def trim(node: Attached, others: Sequence[Attached], *, journal: bool = False) -> None:
    heads = [sites.vector(other.connection) for other in others]
    assert trim_tombstones(node.connection, members=heads, min_age_ms=0, now_ms=node.now_ms) == 1
    if journal:
        assert trim_journal(node.connection, now_ms=node.now_ms, max_age_ms=0, max_bytes=0) > 0


def newcomer() -> Attached:
    """With the row from before it was attached."""
    return later(Attached(f"{PAGES}; {OTHER}"))


def ignorant() -> Attached:
    """Who inserts it; so does a database that was put back to before the row was there."""
    return later(Attached(), OTHER)


def later(node: Attached, *writes: str) -> Attached:
    node.now_ms += 2_000
    node.forgets_before = stamp_at(node.now_ms)
    if writes:
        node.write(*writes)
    return node


@pytest.mark.parametrize("who", [newcomer, ignorant])
@pytest.mark.parametrize("forgot", [(0,), (0, 1), (2,)])
def test_where_somebody_has_the_tombstone_the_row_goes_on_all(
    who: Callable[[], Attached], forgot: tuple[int, ...]
) -> None:
    nodes = cluster()
    for number in forgot:
        trim(nodes[number], nodes)
    everybody = [*nodes, who()]
    exchange(*everybody)
    exchange(*everybody)  # who refused it has said so by now
    assert [node.rows() for node in everybody] == [[]] * 4
    assert not any(is_due(node.connection) for node in everybody)


@pytest.mark.parametrize("who", [newcomer, ignorant])
def test_without_it_those_differ_who_have_forgotten_and_who_have_not(who: Callable[[], Attached]) -> None:
    nodes = cluster(forget=False)
    trim(nodes[0], nodes)
    node = who()
    node.forgets_before = NOTHING_FORGOTTEN
    exchange(*nodes, node)
    exchange(*nodes, node)
    assert [len(one.rows()) for one in nodes] == [1, 0, 0]


def test_where_nobody_knows_of_the_delete_any_more_the_row_is_there_on_all() -> None:
    nodes = cluster()
    for node in nodes:
        trim(node, nodes, journal=True)
    node = ignorant()
    for one in nodes:
        one.pull(node)
    assert [len(one.rows()) for one in nodes] == [1, 1, 1]


def test_a_young_tombstone_is_on_all_nodes_and_is_not_told_again() -> None:
    nodes = cluster()
    nodes[0].forgets_before = stamp_at(nodes[0].now_ms - 2_000)
    assert nodes[0].merged(ignorant().journal()[0]).again == 0
    assert not is_due(nodes[0].connection)


def test_it_is_told_as_a_delete_of_the_life_that_ended_and_once() -> None:
    a, _, _ = cluster()
    assert a.merged(ignorant().journal()[0]).again == 1
    folded = a.published()
    ((group,),) = [change.groups for change in decode(folded.encoded).tables]
    assert (group.kind, group.rows) == (ChangeKind.DELETE, (("a", 2),))
    assert a.fold() is None


def test_a_tombstone_that_is_to_be_told_again_is_not_trimmed_before() -> None:
    a, b, c = cluster()
    a.merged(ignorant().journal()[0])
    heads = [sites.vector(node.connection) for node in (b, c)]
    assert trim_tombstones(a.connection, members=heads, min_age_ms=0, now_ms=a.now_ms + 5_000) == 0
    assert a.fold() is not None


def test_a_row_that_was_written_again_meanwhile_stays() -> None:
    a, b, c = cluster()
    a.merged(ignorant().journal()[0])
    a.write("INSERT INTO pages VALUES ('a', 'new', '', 7)")
    exchange(a, b, c)
    assert [node.rows() for node in (a, b, c)] == [[("a", "new", "", 7)]] * 3


def test_a_state_that_has_the_row_though_its_sender_had_merged_the_delete_is_answered_too() -> None:
    a, b, c = cluster()
    trim(a, (b, c))
    a.pull(ignorant())
    moving = Moving(a.connection, b.connection, authority=False, forgets_before=b.forgets_before)
    moving.run(b.now_ms)
    assert is_due(b.connection)
    exchange(a, b, c)
    assert [node.rows() for node in (a, b, c)] == [[]] * 3


def test_a_living_row_that_was_deleted_as_ever_is_not_told_again() -> None:
    a, b, _ = cluster()
    a.write(BEGUN)
    b.pull(a)
    b.write("DELETE FROM pages")
    a.forgets_before = stamp_at(a.now_ms + 5_000)
    a.pull(b)
    assert not is_due(a.connection)
