"""What the oracle must notice: each test plants one thing that is wrong."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

import pytest

from replication.attaching_declared import attach_declared
from replication.engine.applying import merge
from replication.engine.folding import fold
from replication.engine.stamps import Site
from replication.engine.values import pack
from replication.simulation.application import CLUSTER, DECLARED, SCHEMA, Application
from replication.simulation.disk import Disk
from replication.simulation.oracle import Oracle

NOW_MS = 1_700_000_000_000


class Pair:
    """Two databases, an application on each, and an oracle that knows what they wrote."""

    def __init__(self, disks: list[Disk]) -> None:
        self.oracle = Oracle()
        self.connections = [disk.connect() for disk in disks]
        self.applications = [Application(Random(f"{number}"), f"M{number}.") for number in range(2)]
        for number, connection in enumerate(self.connections):
            for statement in SCHEMA:
                connection.execute(statement)
            site = Site(f"{number + 1:032x}")
            attach_declared(connection, DECLARED, cluster=CLUSTER, new_site=lambda site=site: site)  # type: ignore[misc]
        self.now_ms = NOW_MS

    def write(self, times: int = 30) -> None:
        for _ in range(times):
            for connection, application in zip(self.connections, self.applications, strict=True):
                self.oracle.acknowledged(application.write(connection))

    def exchange(self) -> None:
        self.now_ms += 1000
        made = [fold(connection, now_ms=self.now_ms) for connection in self.connections]
        for connection, folded in zip(self.connections, reversed(made), strict=True):
            if folded is not None:
                merge(connection, folded.encoded, now_ms=self.now_ms)

    def wrong(self) -> list[str]:
        return self.oracle.check(self.connections)

    def do(self, sql: str) -> None:
        """In both databases."""
        for connection in self.connections:
            connection.execute(sql)

    def do_unseen(self, *statements: str) -> None:
        """In both databases, by somebody whose writes nothing captures."""
        for connection in self.connections:
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)
            connection.execute("PRAGMA ignore_check_constraints = 1")
        for statement in statements:
            self.do(statement)


@pytest.fixture
def pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        pair = Pair([stack.enter_context(Disk()) for _ in range(2)])
        pair.write()
        pair.exchange()
        pair.write()
        pair.exchange()
        assert pair.wrong() == []
        yield pair


def one(pair: Pair) -> str:
    return pair.wrong()[0]


def test_rows_that_differ(pair: Pair) -> None:
    pair.connections[0].execute("UPDATE pages SET title = 'other' WHERE page = 'a'")
    assert "rows of 0 and 1 differ" in one(pair)


def test_entries_that_differ(pair: Pair) -> None:
    pair.connections[0].execute("UPDATE _litecast_clock_1 SET stamp = stamp + 1 WHERE k0 = 'a'")
    assert "entries of 0 and 1 differ" in one(pair)


def test_a_count_that_is_wrong_everywhere(pair: Pair) -> None:
    pair.do_unseen("UPDATE pages SET n = n + 1 WHERE page = 'a'")
    assert "page a shows" in one(pair)


def test_a_note_that_nobody_wrote(pair: Pair) -> None:
    pair.do_unseen("UPDATE notes SET low = 500")
    assert "low 500 above high" in one(pair)


def test_a_value_that_is_not_as_the_reference_has_it(pair: Pair) -> None:
    pair.do_unseen("UPDATE pages SET title = 'M0.1' WHERE page = 'a'")
    assert "not as the reference has it" in one(pair)


def test_an_acknowledged_op_that_is_lost(pair: Pair) -> None:
    pair.do_unseen("DELETE FROM ops WHERE op = 'M0.1'")
    assert "acknowledged, and lost: ['M0.1']" in pair.oracle._against_ops(pair.connections[0])


def test_a_row_that_is_shown_though_an_op_wrote_over_it(pair: Pair) -> None:
    cell, saw, name = next(
        (cell, saw, op.name)
        for op in reversed(pair.oracle.ops.values())
        for cell, saw in op.wrote
        if cell[0] == "pages" and saw is not None
    )
    pair.do_unseen(f"UPDATE pages SET title = '{saw}' WHERE page = '{cell[1]}'")
    assert any(f"which {name} has written over" in wrong for wrong in pair.oracle._against_ops(pair.connections[0]))


def test_a_note_that_is_gone_and_nobody_deleted(pair: Pair) -> None:
    pair.do_unseen("DELETE FROM notes")
    for op in list(pair.oracle.ops.values()):
        if op.deleted:
            del pair.oracle.ops[op.name]
            pair.do_unseen(f"DELETE FROM ops WHERE op = '{op.name}'")
    assert any("nobody deleted it" in wrong for wrong in pair.oracle._against_ops(pair.connections[0]))


def test_something_that_is_held(pair: Pair) -> None:
    pair.do("INSERT INTO _litecast_held (tid, key, name, value, reason) VALUES (1, x'00', 'a', 1, 'no column')")
    assert "held for ever" in one(pair)


def test_ops_that_nobody_has_any_more_may_be_lost(pair: Pair) -> None:
    before = {"M0.1", "M0.2", "M0.3"}
    with Disk() as other:
        connection = other.connect()
        connection.execute("CREATE TABLE ops (op TEXT)")
        connection.execute("INSERT INTO ops VALUES ('M0.3')")
        assert pair.oracle.loses(before, {"M0.1"}, [connection]) == 1
    assert pair.oracle.may_be_lost == {"M0.2"}


HELD_OP = "INSERT INTO _litecast_held (tid, key, name, reason) SELECT tid, ?, '', 'NOT NULL' FROM _litecast_catalogue"


def test_an_op_that_all_hold_is_wrong_unless_its_machine_lost_it(pair: Pair) -> None:
    op = next(iter(pair.oracle.ops))
    pair.do_unseen(f"DELETE FROM ops WHERE op = '{op}'")
    for connection in pair.connections:
        connection.execute(f"{HELD_OP} WHERE name = 'ops'", (pack((op,)),))
    assert "held for ever" in pair.wrong()[0]
    pair.oracle.may_be_lost.add(op)
    assert not pair.wrong()
    pair.connections[0].execute("DELETE FROM _litecast_held")
    assert pair.wrong()
