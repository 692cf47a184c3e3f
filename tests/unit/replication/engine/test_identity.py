import pytest

from replication.engine import state
from replication.engine.applying import Fork, Merged, merge_all
from replication.engine.attaching import TableChoice, attach
from replication.engine.folding import fold
from replication.engine.identity import StateReplaced, adopt_new_site, begin_run, is_as_remembered, remember
from replication.engine.session import NotAttached
from replication.engine.sites import vector
from replication.engine.stamps import Site
from replication.positions import of_next_fold
from tests.support.attached import CLUSTER, PAGES, Attached, exchange

FIRST, SECOND, THIRD = b"1" * 16, b"2" * 16, b"3" * 16
NEW = Site("e" * 32)
INSERT = "INSERT INTO pages VALUES ('a', 'A', '', 1)"
COUNT = "UPDATE pages SET visits = visits + 1"


def run(node: Attached, *, known: bytes | None, new: bytes, site: Site = NEW) -> Site | None:
    began = begin_run(node.connection, known_nonce=known, new_nonce=new, new_site=lambda: site)
    found = state.read(node.connection)
    assert found is not None
    assert (found.site, found.nonce) == (began.site, new)
    return began.former


def copy_of(node: Attached) -> Attached:
    copied = Attached("", attached=False)
    node.connection.backup(copied.connection)
    return copied


def put_back(node: Attached, backup: Attached) -> None:
    """Under the running node."""
    backup.connection.backup(node.connection)


def test_a_run_goes_on_under_its_site_where_the_last_nonce_is_known() -> None:
    node = Attached()
    run(node, known=None, new=FIRST)
    node.write(INSERT)
    assert run(node, known=FIRST, new=SECOND, site=Site("f" * 32)) is None
    assert node.published_site() == NEW


def test_a_database_whose_nonce_nobody_remembers_goes_on_under_a_new_site() -> None:
    node = Attached()
    node.write(INSERT)
    for known in (None, SECOND):
        former = node.published_site()
        site = Site(("7" if known else "8") * 32)
        assert run(node, known=known, new=FIRST, site=site) == former
        assert node.published_site() == site
        node.write(COUNT)


def test_a_site_that_never_wrote_is_given_up_without_a_word() -> None:
    """Three copies of a file that was attached and never run may not share its site."""
    node = Attached()
    assert run(node, known=None, new=FIRST) is None
    assert node.published_site() == NEW


def test_what_waits_in_the_log_of_an_older_copy_is_stamped_under_the_new_site_and_counts() -> None:
    node, peer = Attached(), Attached()
    run(node, known=None, new=FIRST)
    node.write(INSERT)
    backup = copy_of(node)
    backup.sql(COUNT)
    node.write(COUNT, COUNT)
    peer.pull(node)
    put_back(node, backup)
    assert run(node, known=SECOND, new=THIRD, site=Site("f" * 32)) == NEW
    exchange(node, peer)
    assert node.rows() == peer.rows() == [("a", "A", "", 4)]


def test_without_a_new_site_an_older_copy_would_be_a_fork() -> None:
    node, peer = Attached(), Attached()
    node.write(INSERT)
    backup = copy_of(node)
    node.write(COUNT)
    peer.pull(node)
    put_back(node, backup)
    assert isinstance(peer.merge(node.write(COUNT)), Fork)


def test_a_new_site_is_taken_before_what_waits_is_folded() -> None:
    node = Attached()
    node.write(INSERT)
    former = node.site
    node.sql(COUNT)
    adopt_new_site(node.connection, NEW)
    folded = node.published()
    assert folded.changeset.site == NEW
    assert set(folded.changeset.deps) == {former}


def test_a_state_that_was_put_back_under_a_running_node_is_noticed_and_left_alone() -> None:
    node, peer = Attached(), Attached()
    run(node, known=None, new=FIRST)
    node.write(INSERT)
    theirs = peer.write("INSERT INTO pages VALUES ('b', 'B', '', 1)")
    backup = copy_of(node)
    node.write(COUNT)
    expected = remember(node.connection)
    assert is_as_remembered(node.connection, expected)
    put_back(node, backup)
    node.sql(COUNT)
    before = list(node.connection.iterdump())
    assert not is_as_remembered(node.connection, expected)
    with pytest.raises(StateReplaced):
        fold(node.connection, now_ms=node.now_ms, expected=expected)
    with pytest.raises(StateReplaced):
        merge_all(node.connection, [theirs.encoded], now_ms=node.now_ms, expected=expected)
    assert list(node.connection.iterdump()) == before


def test_a_state_without_what_was_merged_since_is_noticed_though_the_clock_stood_still() -> None:
    node, peer = Attached(), Attached()
    theirs = peer.write("INSERT INTO pages VALUES ('b', 'B', '', 1)")
    node.now_ms += 1_000  # what the node writes is later than what the peer wrote
    node.write(INSERT)
    backup = copy_of(node)
    before = remember(node.connection)
    node.merged(theirs)
    after = remember(node.connection)
    assert after.clock == before.clock
    put_back(node, backup)
    assert not is_as_remembered(node.connection, after)


def test_a_database_that_is_attached_no_more_is_not_as_remembered() -> None:
    node = Attached()
    expected = remember(node.connection)
    put_back(node, Attached(attached=False))
    assert not is_as_remembered(node.connection, expected)
    with pytest.raises(NotAttached):
        remember(node.connection)
    with pytest.raises(NotAttached):
        begin_run(node.connection, known_nonce=None, new_nonce=FIRST, new_site=lambda: NEW)


def test_attaching_one_more_table_replaces_nothing() -> None:
    node = Attached(f"{PAGES}; CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL); INSERT INTO notes VALUES ('n')")
    node.write(INSERT)
    expected = remember(node.connection)
    attach(node.connection, [TableChoice(name="notes")], cluster=CLUSTER, new_site=lambda: NEW)
    node.sql(COUNT)
    assert fold(node.connection, now_ms=node.now_ms, expected=expected) is not None


def test_as_long_as_nobody_interferes_all_is_as_remembered() -> None:
    node, peer = Attached(), Attached()
    for name in "xyz":
        expected = remember(node.connection)
        node.sql("INSERT INTO pages VALUES (?, '', '', 1)", name)
        assert fold(node.connection, now_ms=node.now_ms, expected=expected) is not None
        theirs = peer.write(f"INSERT INTO pages VALUES ('{name}{name}', '', '', 1)")
        expected = remember(node.connection)
        (outcome,) = merge_all(node.connection, [theirs.encoded], now_ms=node.now_ms, expected=expected)
        assert isinstance(outcome, Merged)


def test_a_position_that_was_read_after_a_restore_and_before_joining_is_reached_too_early() -> None:
    """Known to be wrong: the site has another history, of which peers have a later stamp."""
    a, peer = Attached(), Attached()
    a.write(INSERT)
    backup = copy_of(a)
    a.write(COUNT)
    peer.pull(a)
    put_back(a, backup)
    a.sql(COUNT)
    ((site, stamp),) = of_next_fold(a.connection).stamps.items()
    assert vector(peer.connection)[site].stamp >= stamp
    adopt_new_site(a.connection, NEW)  # what joining comes to
    assert a.published().changeset.site != site
