import pytest

from replication.engine.changesets import COUNT_MAX
from tests.support.attached import Attached, changes, exchange


def visits(node: Attached, name: str = "a") -> object:
    ((found,),) = node.sql("SELECT visits FROM pages WHERE name = ?", name)
    return found


@pytest.fixture
def pair() -> tuple[Attached, Attached]:
    a, b = Attached(), Attached()
    a.sql("INSERT INTO pages VALUES ('a', 'A', 'text', 10)")
    exchange(a, b)
    return a, b


def test_increments_on_two_nodes_add_up(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    a.sql("UPDATE pages SET visits = visits + 1")
    b.sql("UPDATE pages SET visits = visits + 2")
    exchange(a, b)
    assert visits(a) == visits(b) == 13


def test_the_own_contribution_is_the_cell_without_the_others(pair: tuple[Attached, Attached]) -> None:
    _, b = pair
    (row,) = changes(b.write("UPDATE pages SET visits = 15"))
    assert row.counts == {"visits": 5}
    assert row.cells == {}


def test_zero_subtracts_what_this_node_saw(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    a.sql("UPDATE pages SET visits = 0")
    b.sql("UPDATE pages SET visits = visits + 1")
    exchange(a, b)
    assert visits(a) == visits(b) == 1


def test_first_inserts_at_once_add_up() -> None:
    a, b = Attached(), Attached()
    a.sql("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")
    b.sql("INSERT INTO pages VALUES ('a', 'A', 'text', 4)")
    exchange(a, b)
    assert visits(a) == visits(b) == 7


def test_a_delete_ends_the_contributions_of_the_life(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    a.sql("DELETE FROM pages")
    b.sql("UPDATE pages SET visits = visits + 5")
    exchange(a, b)
    assert a.rows() == b.rows() == []
    assert a.sql("SELECT * FROM _litecast_count_1") == b.sql("SELECT * FROM _litecast_count_1") == []


def test_a_reset_is_delete_and_insert(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    b.sql("UPDATE pages SET visits = visits + 5")
    a.sql("DELETE FROM pages")
    a.sql("INSERT INTO pages VALUES ('a', 'A', 'text', 1)")
    exchange(a, b)
    assert visits(a) == visits(b) == 1


def test_what_slips_in_before_a_merge_is_folded_inside_it(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    theirs = b.write("UPDATE pages SET visits = visits + 2")
    a.sql("UPDATE pages SET visits = visits + 1")
    outcome = a.merged(theirs)
    assert outcome.folded is not None
    assert visits(a) == 13
    b.merged(outcome.folded)
    assert visits(b) == 13
    assert a.fold() is None
    assert b.fold() is None


def test_a_contribution_beyond_the_limit_is_clamped_and_the_cell_written_again() -> None:
    a, b = Attached(), Attached()
    a.sql(f"INSERT INTO pages VALUES ('a', '', '', {2**62})")
    folded = a.published()
    assert folded.clamped == 1
    assert visits(a) == COUNT_MAX
    b.merged(folded)
    assert visits(b) == COUNT_MAX
    b.sql("UPDATE pages SET visits = -9223372036854775807")
    assert b.published().clamped == 1
    assert visits(b) == 0
    assert a.fold() is None
    assert b.fold() is None


@pytest.mark.parametrize("site_count", [1_024, 1_100])
def test_a_sum_stays_within_what_a_cell_can_hold(site_count: int) -> None:
    a = Attached()
    a.write("INSERT INTO pages VALUES ('a', '', '', 1)")
    a.connection.executemany(
        "INSERT INTO _litecast_count_1 SELECT 'a', id, 1, ?, ?, 1 FROM _litecast_columns WHERE name = 'visits'",
        [(site, COUNT_MAX) for site in range(100, 100 + site_count)],
    )
    b = Attached()
    b.merged(a.journal()[0])
    a.merged(b.write("UPDATE pages SET visits = visits + 1"))
    assert visits(a) == 2**63 - 1
    assert a.fold() is None
    a.sql("UPDATE pages SET title = 'touched'")
    (row,) = changes(a.published())
    assert row.counts == {}


@pytest.mark.parametrize("written", ["'many'", "1.5", "x'00'"])
def test_what_is_not_an_integer_counts_nothing_and_is_written_again(
    pair: tuple[Attached, Attached], written: str
) -> None:
    a, b = pair
    a.sql(f"UPDATE pages SET title = 'B', visits = {written}")
    folded = a.published()
    assert folded.not_integers == 1
    assert visits(a) == 10
    b.merged(folded)
    assert b.rows() == a.rows() == [("a", "B", "text", 10)]
    assert a.fold() is None


def test_what_is_not_an_integer_in_a_new_row_counts_as_zero() -> None:
    node = Attached()
    folded = node.write("INSERT INTO pages VALUES ('a', '', '', 'many')")
    assert (folded.not_integers, visits(node)) == (1, 0)


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
@pytest.mark.parametrize(
    "statement",
    [
        "REPLACE INTO pages VALUES ('a', 'A', 'text', 11)",
        "INSERT INTO pages VALUES ('a', 'A', 'text', 1) ON CONFLICT DO UPDATE SET visits = visits + 1",
        "UPDATE OR REPLACE pages SET visits = visits + 1",
    ],
)
def test_every_form_of_an_increment_is_exact(pair: tuple[Attached, Attached], statement: str, recursive: str) -> None:
    a, b = pair
    a.sql(f"PRAGMA recursive_triggers = {recursive}")
    a.sql(statement)
    b.sql("UPDATE pages SET visits = visits + 5")
    exchange(a, b)
    assert visits(a) == visits(b) == 16
