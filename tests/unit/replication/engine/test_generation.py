"""Another generation begins when rows change by what no changeset tells of, and only then."""

from collections.abc import Callable

import pytest

from replication.engine import generation
from replication.engine.closing import close_site
from replication.engine.stamping_again import set_aside
from replication.engine.stamps import Site
from tests.support.attached import Attached
from tests.support.states import Moving

NEW = Site("f" * 32)


def written() -> Attached:
    node = Attached()
    node.write("INSERT INTO pages (name, title) VALUES ('a', 'x')")
    return node


def test_what_is_written_merged_and_taken_as_a_snapshot_begins_none() -> None:
    one, other, newcomer = written(), Attached(), Attached()
    other.pull(one)
    Moving(one.connection, newcomer.connection).run(one.now_ms)
    for node in (one, other, newcomer):
        assert node.rows() == [("a", "x", None, 0)]
        assert generation.read(node.connection) == generation.FIRST


def close(node: Attached, _: Attached) -> None:
    close_site(node.connection, Site("e" * 32), new_site=lambda: NEW)


def heal(node: Attached, other: Attached) -> None:
    Moving(other.connection, node.connection, authority=False).run(node.now_ms)


def stamp_again(node: Attached, _: Attached) -> None:
    set_aside(node.connection)


@pytest.mark.parametrize("change", [close, heal, stamp_again])
def test_each_time_another_one_begins_on_each_node(change: Callable[[Attached, Attached], None]) -> None:
    node, other = written(), Attached()
    change(node, other)
    first = generation.read(node.connection)
    assert len(first) == generation.DIGITS
    generation.advance(other.connection)
    assert generation.read(other.connection) not in (first, generation.FIRST)
    generation.advance(node.connection)
    assert generation.read(node.connection) not in (first, generation.FIRST)
