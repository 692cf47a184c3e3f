"""Who follows a node's feed while migrations run, on that node and on others, has the table in the end: see
`test_rolling_migrations`, whose clusters these are."""

import random

import pytest

from replication.feed import reading
from tests.property.replication.engine.test_rolling_migrations import Rolling
from tests.support.following import Follower, small_pages
from tests.support.seeded import in_chunks, noted, runs, seeds

RUNS = runs(15)
CHUNKS = 3


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name, value in small_pages(3):
        monkeypatch.setattr(place, name, value)


def follow(seed: int) -> list[Follower]:
    rolling = Rolling(seed)
    rng = random.Random(f"followers {seed}")
    followers = [(node, Follower(rng, "notes")) for node in rolling.nodes for _ in range(2)]
    with noted(seed, __file__, rolling.trace):
        rolling.begin()
        for _ in range(rng.choice((4, 12))):
            rolling.play(6)
            for node, follower in followers:
                if rng.random() < 0.6:
                    follower.read(node.database.connection)
        rolling.finish()
        rolling.check()
        for node, follower in followers:
            follower.catch_up(node.database.connection)
            follower.assert_is_copy_of(node.database.connection)
    return [follower for _, follower in followers]


def follow_all() -> None:
    for seed in range(100):
        follow(seed)


@pytest.mark.timeout(120 + RUNS)
@in_chunks(CHUNKS)
def test_who_follows_through_migrations_has_the_table(chunk: int) -> None:
    told = 0
    for seed in seeds(RUNS, chunk=chunk, chunks=CHUNKS):
        told += sum(follower.told for follower in follow(seed))
    assert told > 0


def test_without_the_shape_of_the_table_some_copy_is_not_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_shape", lambda _table: "")
    with pytest.raises(AssertionError):
        follow_all()
