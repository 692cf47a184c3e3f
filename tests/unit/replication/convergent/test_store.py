"""The engine's side of a node, on a disk that has its troubles."""

import sqlite3
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from replication.attaching_declared import AttachOutcome, attach_declared
from replication.convergent import opened, repairs
from replication.convergent.saying import notes
from replication.convergent.trimming import trim
from replication.engine.catalogue import load
from replication.engine.comparable import NotComparable
from replication.engine.epochs import epoch_site
from replication.engine.identity import StateReplaced
from replication.engine.stamps import Stamp
from replication.simulation.application import DECLARED, SCHEMA
from replication.simulation.disk import TROUBLES, Disk
from tests.support.stores import NOW_MS, disk_with_tables, open_store

LATER_MS = NOW_MS + 3_600_000


@pytest.fixture
def disk() -> Iterator[Disk]:
    with disk_with_tables() as disk:
        yield disk


def test_damaged_rows_are_adopted_by_the_node_that_writes_and_by_no_replica_or_former_primary(disk: Disk) -> None:
    store = open_store(disk, fence="written on the primary")
    with pytest.raises(NotComparable, match="adopt them on the primary"):
        repairs.adopt(store, "pages", [])
    store.begin_epoch(epoch_site(1, "0" * 19))
    repairs.adopt(store, "pages", [])
    store.end_epoch("written on the primary")
    with pytest.raises(NotComparable, match="adopt them on the primary"):
        repairs.adopt(store, "pages", [])


def test_a_peer_of_the_other_mode_is_named_as_that_and_not_by_a_schema(disk: Disk) -> None:
    view = open_store(disk).view()
    said = notes(view, (), {"b": ("_litecast_forwarded", "pages"), "c": ("pages",)})
    assert "b runs in the other one of the modes convergent and primary" in said[0]
    assert said[1:] == ("c has another schema of pages",)


def test_what_is_owed_and_was_folded_already_takes_no_write_lock(disk: Disk) -> None:
    store, application = open_store(disk), disk.connect()
    application.execute("INSERT INTO pages (page, n) VALUES ('a', 1)")
    done = store.fold_news()
    assert done is not None
    asked: list[str] = []
    disk.trouble = asked.append
    assert store.fold_news({done.view.site: done.view.vector[done.view.site].stamp}) is None
    assert not any(sql.startswith("BEGIN") for sql in asked)
    disk.trouble = None
    store.close()


def test_nothing_is_owed_under_a_site_that_the_database_has_left(disk: Disk) -> None:
    store, application = open_store(disk), disk.connect()
    application.execute("INSERT INTO pages (page, n) VALUES ('a', 1)")
    done = store.fold_news()
    assert done is not None
    later = Stamp(done.view.vector[done.view.site].stamp + 1)
    store.adopt_new_site()
    store.fold_news()  # what making the new site has changed
    assert store.fold_news({done.view.site: later}) is None
    assert store.view().site not in store.view().vector, "an empty changeset began it"
    made = store.fold_news({store.view().site: later})
    assert made is not None
    assert made.made, "under the site that it has, it is owed"
    store.close()


def test_what_could_not_be_made_durable_is_not_taken_for_somebody_elses_state(disk: Disk) -> None:
    store, application = open_store(disk), disk.connect()
    application.execute("INSERT INTO pages (page, n) VALUES ('a', 1)")
    disk.trouble = TROUBLES["unsyncable"]
    with pytest.raises(OSError, match="Input/output error"):
        store.fold()
    disk.trouble = None
    application.execute("INSERT INTO pages (page, n) VALUES ('b', 1)")
    done = store.fold()
    assert done is not None
    assert len(done.made) == 1
    assert done.durable


@pytest.mark.parametrize("trouble", ["full", "unsyncable"])
def test_a_copy_that_is_put_under_the_node_is_not_taken_for_its_own_when_the_disk_is_full(
    disk: Disk, trouble: str
) -> None:
    """Seed 2832: what the first try to begin again had left half done made the second one believe that all was well."""
    store, other = open_store(disk), disk.copy()
    with other:
        another = open_store(other)
        other.connect().execute("INSERT INTO pages (page, n) VALUES ('theirs', 1)")
        assert another.fold() is not None
        theirs = another.look().site
        disk.connect().execute("INSERT INTO pages (page, n) VALUES ('ours', 1)")
        assert store.fold() is not None
        disk.overwrite(other.image())
        disk.connect().execute("INSERT INTO pages (page, n) VALUES ('late', 1)")
        disk.trouble = TROUBLES[trouble]
        with pytest.raises(StateReplaced):
            store.fold_news()
        with pytest.raises((sqlite3.Error, OSError)):
            store.begin_again()
        with pytest.raises(StateReplaced):
            store.fold_news()
        disk.trouble = None
        assert store.begin_again().site != theirs


def test_no_tombstone_goes_while_a_journal_is_kept_for_somebody(disk: Disk) -> None:
    """A delete that is in a journal here is told again by who has its tombstone, if that has to be."""
    store, application = open_store(disk, journal_max_age_ms=-1_000), disk.connect()
    for statement in ("INSERT INTO ops (op) VALUES ('a')", "DELETE FROM ops"):
        application.execute(statement)
        store.fold()
    members = [store.look().vector]
    assert trim(store, {}, members, clock_ms=LATER_MS) == (0, 0)
    assert trim(store, None, members, clock_ms=LATER_MS) == (2, 1)


def test_no_tombstone_goes_that_is_young_by_the_clock_of_a_member(disk: Disk) -> None:
    """It would not know that others may have trimmed it, and would not tell the delete again."""
    store, application = open_store(disk, journal_max_age_ms=-1_000), disk.connect()
    for statement in ("INSERT INTO ops (op) VALUES ('a')", "DELETE FROM ops"):
        application.execute(statement)
        store.fold()
    members = [store.look().vector]
    assert trim(store, None, members, clock_ms=NOW_MS - 1_000) == (2, 0)
    assert trim(store, None, members, clock_ms=NOW_MS) == (0, 1)


@pytest.mark.parametrize("draw", range(6))
def test_a_power_cut_while_a_run_begins_costs_no_site(disk: Disk, draw: int) -> None:
    """Whether the database has the old nonce then or the new one."""
    store, application = open_store(disk), disk.connect()
    application.execute("INSERT INTO pages (page, n) VALUES ('a', 1)")
    done = store.fold()
    assert done is not None
    site = done.view.site
    disk.barrier()
    disk.kill()
    disk.trouble = TROUBLES["unsyncable"]
    with pytest.raises(OSError, match="Input/output error"):
        open_store(disk)
    disk.trouble = None
    disk.power_cut(Random(draw))
    assert open_store(disk).look().site == site


def test_a_table_that_comes_while_another_is_attached_is_attached_too(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = SCHEMA

    with Disk() as disk:
        store, program = open_store(disk), disk.connect()

        def others_come_meanwhile(*arguments: Any, **options: Any) -> AttachOutcome:
            outcome = attach_declared(*arguments, **options)
            while others:
                program.execute(others.pop(0))
            return outcome

        program.execute(first)
        monkeypatch.setattr(opened, "attach_declared", others_come_meanwhile)
        store.fold_news()
        assert not others
        store.fold_news()
        assert {name.lower() for name in load(program)} == {declared.name.lower() for declared in DECLARED}
        store.close()
