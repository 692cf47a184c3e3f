from replication.engine.stamps import GENESIS, Site, is_baseline
from tests.support.attached import PAGES, Attached, changes, exchange

NOTES = "CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, text);"


def seeded(*rows: str, schema: str = PAGES) -> Attached:
    return Attached(f"{schema}; {' '.join(f'INSERT INTO pages VALUES {row};' for row in rows)}")


def visits(node: Attached) -> list[object]:
    return node.sql("SELECT visits FROM pages ORDER BY name")


def test_equal_baselines_are_one_site_and_nothing_is_sent() -> None:
    nodes = [seeded("('a', 'A', x'00', 30)", "('b', NULL, -0.0, 1)") for _ in range(3)]
    for node in nodes:
        assert node.fold() is None
    (baseline,) = nodes[0].journal()
    assert all(node.journal() == [baseline] for node in nodes)
    vectors = [{site: node.sites().head(site) for site in vector(node)} for node in nodes]
    assert vectors[0] == vectors[1] == vectors[2]
    assert all(is_baseline(site) for site in vector(nodes[0]))


def vector(node: Attached) -> list[Site]:
    return [Site(site) for (site,) in node.sql("SELECT site FROM _litecast_sites WHERE head IS NOT NULL")]


def test_thirty_on_three_nodes_stays_thirty_and_then_counts() -> None:
    nodes = [seeded("('a', 'A', '', 30)") for _ in range(3)]
    for node in nodes:
        node.sql("UPDATE pages SET visits = visits + 1")
    exchange(*nodes)
    assert [visits(node) for node in nodes] == [[(33,)]] * 3


def test_of_counters_that_differ_the_larger_value_wins() -> None:
    nodes = [seeded(f"('a', 'A', '', {count})") for count in (30, 28, 29)]
    exchange(*nodes)
    assert [visits(node) for node in nodes] == [[(30,)]] * 3
    nodes[1].sql("UPDATE pages SET visits = visits + 1")
    exchange(*nodes)
    assert [visits(node) for node in nodes] == [[(31,)]] * 3
    shares = nodes[0].sql("SELECT s.site, c.value FROM _litecast_count_1 c JOIN _litecast_sites s ON s.short = c.site")
    assert (GENESIS, 30) in shares


def test_what_a_newcomer_brings_of_what_the_cluster_itself_counted_is_there_twice() -> None:
    """Nothing in its rows tells what was counted before from what was counted by others meanwhile."""
    nodes = [seeded("('a', 'A', '', 30)") for _ in range(2)]
    for node in nodes:
        node.sql("UPDATE pages SET visits = visits + 1")
    exchange(*nodes)
    newcomer = seeded("('a', 'A', '', 32)")
    exchange(*nodes, newcomer)
    assert [visits(node) for node in (*nodes, newcomer)] == [[(32 + 2,)]] * 3


def test_baselines_that_differ_become_equal_and_nothing_is_lost() -> None:
    a = seeded("('a', 'A', 'mine', 1)", "('b', 'B', '', 2)")
    b = seeded("('a', 'A', 'yours', 1)", "('c', 'C', '', 3)")
    exchange(a, b)
    assert a.rows() == b.rows()
    assert [row[0] for row in a.rows()] == ["a", "b", "c"]
    assert a.fold() is None
    assert b.fold() is None


def test_a_write_beats_any_baseline() -> None:
    a, b = seeded("('a', 'A', 'mine', 1)"), seeded("('a', 'Z', 'zzz', 1)")
    a.sql("UPDATE pages SET title = 'written'")
    exchange(a, b)
    assert a.rows() == b.rows()
    assert a.rows()[0][1] == "written"


def test_a_node_with_rows_joins_one_without_and_the_reverse() -> None:
    for full, empty in ((0, 1), (1, 0)):
        nodes = [Attached(), Attached()]
        nodes[full] = seeded("('a', 'A', '', 5)")
        nodes[full].pull(nodes[empty])
        nodes[empty].pull(nodes[full])
        assert nodes[empty].rows() == nodes[full].rows() == [("a", "A", "", 5)]


def test_a_table_attached_late_takes_what_others_changed_and_deleted_meanwhile() -> None:
    rows = ("('a', 'A', '', 5)", "('b', 'B', '', 5)")
    a = seeded(*rows, schema=PAGES + ";" + NOTES)
    late = Attached(f"{PAGES}; {NOTES} {' '.join(f'INSERT INTO pages VALUES {row};' for row in rows)}", attached=False)
    late.attach("notes")
    a.sql("UPDATE pages SET title = 'new', visits = visits + 1 WHERE name = 'a'")
    a.sql("DELETE FROM pages WHERE name = 'b'")
    late.pull(a)
    assert len(late.rows()) == 2
    late.sql("UPDATE pages SET visits = 5")  # not captured, and no change
    late.attach("pages", counters=("visits",))
    assert late.fold() is None
    assert late.rows() == a.rows() == [("a", "new", "", 6)]


def test_a_second_table_is_a_baseline_of_its_own() -> None:
    node = Attached(f"{PAGES}; {NOTES} INSERT INTO pages VALUES ('a', '', '', 1); INSERT INTO notes VALUES ('n', '')")
    node.attach("notes")
    assert len(node.journal()) == 2
    assert node.fold() is None
    other = Attached(f"{PAGES}; {NOTES}")
    other.attach("notes")
    other.pull(node)
    assert other.rows("notes") == [("n", "")]


def test_columns_in_another_order_are_the_same_baseline() -> None:
    other_order = "CREATE TABLE pages (body, visits INTEGER NOT NULL DEFAULT 0, title, name TEXT PRIMARY KEY NOT NULL)"
    a = seeded("('a', 'A', 'B', 5)")
    b = Attached(f"{other_order}; INSERT INTO pages (name, title, body, visits) VALUES ('a', 'A', 'B', 5)")
    assert a.journal() == b.journal()


def test_the_first_fold_after_a_baseline_names_it() -> None:
    node = seeded("('a', 'A', '', 1)")
    folded = node.write("UPDATE pages SET title = 'B'")
    (baseline,) = [site for site in folded.changeset.deps if is_baseline(site)]
    assert folded.changeset.deps == {baseline: 0}
    assert [row.cells for row in changes(folded)] == [{"title": "B"}]
