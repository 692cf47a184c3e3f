"""Whatever a peer sends, it is what it should be, or Malformed and nothing else."""

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest

from replication.engine.digesting import attached_tables, digest
from replication.engine.digests import Digest
from replication.engine.received import Malformed
from tests.support.attached import Attached

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 3, 2**63, 2**70, 1.5, float("nan"), "", "x", "t" * 5_000, "a" * 32, b"", b"\x00" * 7,
    b"\xff" * 24, b"\x01" * 80_000, [], [1], ["x", "x"], [[]], {}, {"x": 1}, {"a" * 32: 5}, {"a" * 32: b"\x05" * 10},
    [None] * 3_000,
)  # fmt: skip


def spoilt(rng: random.Random, value: Any) -> Any:
    """The value with something in it put in the place of something else, taken out, or added."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        changed = dict(value)
        key = rng.choice(list(changed))
        roll = rng.random()
        if roll < 0.1:
            del changed[key]
        elif roll < 0.2:
            changed[rng.choice(("x", 5, b"x", None))] = rng.choice(JUNK)
        else:
            changed[key] = spoilt(rng, changed[key])
        return changed
    if isinstance(value, list | tuple) and value and rng.random() < 0.9:
        found = list(value)
        at = rng.randrange(len(found))
        found[at] = spoilt(rng, found[at])
        return found if rng.random() < 0.9 else [*found, *found]
    if isinstance(value, bytes) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return rng.choice((value[:at], value[at:], value[:at] + bytes([rng.randrange(256)]) + value[at + 1 :]))
    return copy.copy(rng.choice(JUNK))


def some_digest() -> Any:
    nodes = [Attached(), Attached()]
    for node in nodes:
        node.write("INSERT OR REPLACE INTO pages (name, title) VALUES ('a', 'x'), ('b', 'y')")
        node.write("UPDATE pages SET visits = visits + 3")
        nodes[1].pull(node)
    nodes[1].sql("UPDATE pages SET body = 'z'")
    return digest(nodes[1].connection, attached_tables(nodes[1].connection), buckets_max=8).plain()


@pytest.mark.parametrize(("make", "parse"), [(some_digest, Digest.parse)])
def test_what_is_spoilt_is_malformed_or_still_what_it_should_be(
    make: Callable[[], Any], parse: Callable[[Any], Any]
) -> None:
    value = make()
    parse(value)
    refused = 0
    for seed in range(3_000):
        rng = random.Random(seed)
        sent = spoilt(rng, value)
        try:
            found = parse(sent)
        except Malformed:
            refused += 1
        else:
            assert parse(found.plain()) == found
    assert refused > 1_500
    for junk in JUNK:
        with pytest.raises(Malformed):
            parse(junk)
