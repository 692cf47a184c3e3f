"""Whatever a peer sends, it is what it should be, or Malformed and nothing else."""

import copy
import random
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from replication.drift import DriftReport, RowDrift, report
from replication.engine.comparable import DigestTable
from replication.engine.comparing import compare
from replication.engine.differing import Differences
from replication.engine.digesting import attached_tables, digest
from replication.engine.digests import Digest
from replication.engine.listing import list_rows
from replication.engine.listings import RowListing
from replication.engine.received import Malformed
from replication.engine.row_values import RowValues, read_rows
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


def written() -> Attached:
    nodes = [Attached(), Attached()]
    for node in nodes:
        node.write("INSERT OR REPLACE INTO pages (name, title) VALUES ('a', 'x'), ('b', 'y')")
        node.write("UPDATE pages SET visits = visits + 3")
        nodes[1].pull(node)
    nodes[1].sql("UPDATE pages SET body = 'z'")
    return nodes[1]


def some_digest() -> Any:
    node = written()
    return digest(node.connection, attached_tables(node.connection), buckets_max=8).plain()


def digest_with_rows(count: int) -> Digest:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (k PRIMARY KEY NOT NULL, n)")
    connection.executemany("INSERT INTO t VALUES (?, 1)", [(number,) for number in range(count)])
    found = digest(connection, [DigestTable(name="t", counters=["n"]), DigestTable(name="none")])
    connection.close()
    return found


def some_listing() -> Any:
    node = written()
    return list_rows(node.connection, DigestTable(name="pages"), buckets=1, numbers=[0]).plain()


def some_values() -> Any:
    node = written()
    return read_rows(node.connection, DigestTable(name="pages"), [("a",), ("x",), ("b",)], bytes_max=20).plain()


def some_report() -> Any:
    digests = {"1": digest_with_rows(1), "2": digest_with_rows(2)}
    rows = [RowDrift(key=("a", b"x"), nodes={"1": {"t": b"x", "f": float("inf")}, "2": None})]
    differences = Differences(differing=1, spreads={"n": 5})
    return report(compare(digests), differences={"t": differences}, rows={"t": rows}).as_json()


def parse_report(value: Any) -> Any:
    return Again(DriftReport.from_json(value))


@dataclass(frozen=True)
class Again:
    """A report that goes the same way again."""

    report: DriftReport

    def plain(self) -> Any:
        return self.report.as_json()


@pytest.mark.parametrize(
    ("make", "parse"),
    [
        (some_digest, Digest.parse),
        (some_listing, RowListing.parse),
        (some_values, RowValues.parse),
        (some_report, parse_report),
    ],
)
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
