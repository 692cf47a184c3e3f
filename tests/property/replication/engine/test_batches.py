"""However changesets are merged, one in a transaction or many: what is stored is the same."""

import random
from typing import Any

import pytest

from replication.engine import absorbing
from replication.engine.applying import Merged, merge_all
from replication.engine.entries import split
from tests.support.attached import Attached

SEEDS = 15
CHANGESETS = 40


def history(rng: random.Random) -> list[bytes]:
    """Changesets of two nodes that write the same few rows and now and then hear of each other, in causal order."""
    nodes = [Attached(), Attached()]
    heard = [0, 0]
    found: list[bytes] = []
    by: list[int] = []
    while len(found) < CHANGESETS:
        number = rng.randrange(2)
        node = nodes[number]
        node.now_ms += rng.randrange(3)
        if rng.random() < 0.2:
            missing = [
                encoded
                for encoded, author in zip(found[heard[number] :], by[heard[number] :], strict=True)
                if author != number
            ]
            merge_all(node.connection, missing, now_ms=node.now_ms + 1_000)
            heard[number] = len(found)
        key = f"k{rng.randrange(8)}"
        statement = rng.choice(
            (
                f"INSERT OR IGNORE INTO pages VALUES ('{key}', {rng.randrange(9)}, NULL, {rng.randrange(4)})",
                f"INSERT OR IGNORE INTO pages (name, body) VALUES ('{key}', x'00')",
                f"UPDATE pages SET title = {rng.randrange(9)} WHERE name = '{key}'",
                f"UPDATE pages SET title = 'both', body = {rng.randrange(9)} WHERE name = '{key}'",
                f"UPDATE pages SET visits = visits + {rng.randrange(1, 9)} WHERE name = '{key}'",
                f"UPDATE pages SET visits = visits + 1 WHERE name < '{key}'",
                f"DELETE FROM pages WHERE name = '{key}'",
            )
        )
        node.connection.execute(statement)
        folded = node.fold()
        if folded is not None:
            found.append(folded.encoded)
            by.append(number)
    return found


def stored(node: Attached) -> dict[str, Any]:
    """Rows, entries and contributions; the records in an entry stand in no order."""
    entries = node.sql("SELECT k0, life, stamp, site, cells FROM _litecast_clock_1 ORDER BY 1")
    return {
        "rows": node.rows(),
        "entries": [(*rest, split(blob) if blob else None) for *rest, blob in entries],
        "counts": node.sql("SELECT * FROM _litecast_count_1 ORDER BY 1, 2, 3, 4"),
        "sites": node.sql("SELECT short, site, head, hash FROM _litecast_sites WHERE head IS NOT NULL ORDER BY 1"),
        "clock": node.sql("SELECT clock FROM _litecast_state"),
        "journal": node.sql("SELECT site, upto, after, hash, bytes FROM _litecast_journal ORDER BY 1, 2"),
    }


def merged(changesets: list[bytes], sizes: list[int]) -> dict[str, Any]:
    """What a third node stores that merges them in transactions of these sizes, over and over."""
    node = Attached(site="f" * 32)
    at, turn = 0, 0
    while at < len(changesets):
        some = changesets[at : at + sizes[turn % len(sizes)]]
        outcomes = merge_all(node.connection, some, now_ms=node.now_ms + 10_000)
        assert all(isinstance(outcome, Merged) for outcome in outcomes), outcomes
        at, turn = at + len(some), turn + 1
    return stored(node)


def differing_seed() -> int | None:
    for seed in range(SEEDS):
        rng = random.Random(seed)
        changesets = history(rng)
        alone = merged(changesets, [1])
        for sizes in ([CHANGESETS], [rng.randrange(1, 9) for _ in range(5)]):
            if merged(changesets, sizes) != alone:
                return seed
    return None


def test_many_in_a_transaction_come_to_the_same_as_one_at_a_time() -> None:
    assert differing_seed() is None


def test_a_key_that_comes_twice_in_what_was_put_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a look whether a key is there already, some seed differs."""

    class Forgetful(set[Any]):
        def isdisjoint(self, _other: object) -> bool:
            return True

    init = absorbing.Absorber.__init__

    def forgetful(self: Any, *args: Any, **named: Any) -> None:
        init(self, *args, **named)
        self._keys = Forgetful()

    monkeypatch.setattr(absorbing.Absorber, "__init__", forgetful)
    assert differing_seed() is not None
