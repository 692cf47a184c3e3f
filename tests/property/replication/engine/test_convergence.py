"""Three to five replicas that write at once end equal, to each other and to the reference, whatever the order.

Changesets arrive too early, twice, late and in any order that their deps allow. A failing run prints its seed;
`LITECAST_SEED=n` replays it.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from replication.engine.applying import Merged, Repeat, Waits
from tests.support import clicks, sql_schema
from tests.support.playing import AnySql, Counting, state_of
from tests.support.replicas import Replica, attach_file, choices, fast_folder, new_site
from tests.support.seeded import in_chunks, noted, runs, seeds

RUNS = runs(15)
CHUNKS = 5


@pytest.fixture(scope="module")
def templates() -> Iterator[tuple[Path, ...]]:
    with fast_folder() as folder:
        paths = tuple(folder / f"{number}.template" for number in range(3))
        for number, path in enumerate(paths):
            attach_file(path, sql_schema.create, choices(), new_site(random.Random(number)))
        yield paths


@pytest.mark.timeout(60 + RUNS)
@in_chunks(CHUNKS)
def test_replicas_that_count_at_once_end_equal_and_exact(chunk: int) -> None:
    for seed in seeds(RUNS, chunk=chunk, chunks=CHUNKS):
        with fast_folder() as folder, noted(seed, __file__), Counting(seed, folder) as counting:
            counting.play(counting.rng.choice((10, 30, 60)), deletes=seed % 3 > 0)
            counting.check()


@pytest.mark.timeout(60 + RUNS)
@in_chunks(CHUNKS)
def test_any_sql_on_three_replicas_ends_equal(chunk: int, templates: tuple[Path, ...]) -> None:
    for seed in seeds(RUNS, chunk=chunk, chunks=CHUNKS):
        with fast_folder() as folder, noted(seed, __file__), AnySql(seed, folder, templates) as playing:
            playing.play(playing.rng.choice((20, 60, 100)))
            playing.check()


@pytest.mark.timeout(60 + RUNS)
@in_chunks(CHUNKS)
def test_what_databases_held_before_joins_what_others_hold(chunk: int) -> None:
    for seed in seeds(RUNS, chunk=chunk, chunks=CHUNKS):
        with fast_folder() as folder, noted(seed, __file__), Counting(seed, folder, baselines=True) as counting:
            counting.play(counting.rng.choice((10, 30)), deletes=seed % 3 > 0)
            counting.check()


def newcomer(folder: Path, name: str, rng: random.Random) -> Replica:
    path = folder / f"{name}.db"
    attach_file(path, clicks.create, choices([clicks.TABLE]), new_site(rng))
    return Replica(path)


def test_merging_is_commutative_and_associative_in_every_order_that_deps_allow() -> None:
    """Each newcomer gets the same changesets in an order of its own; all it knows in the end is the same."""
    for seed in range(12):
        with fast_folder() as folder, noted(seed, __file__), Counting(seed, folder, replicas=3) as counting:
            counting.play(40)
            counting.check()
            known = state_of(counting.replicas.members[0])
            everything = counting.replicas.everything()
            for number in range(6):
                rng = random.Random(f"newcomer {number}")
                other = newcomer(folder, f"new{number}", rng)
                waiting = everything
                while waiting:
                    rng.shuffle(waiting)
                    outcomes = [(encoded, other.merge(encoded, counting.replicas.now_ms)) for encoded in waiting]
                    assert all(isinstance(outcome, Merged | Waits) for _, outcome in outcomes), outcomes
                    waiting = [encoded for encoded, outcome in outcomes if not isinstance(outcome, Merged)]
                found = state_of(other)
                other.close()
                assert found == known, [row for row in found["clicks"] if row not in known["clicks"]]


def test_merging_is_idempotent_down_to_the_last_byte_of_the_file_s_content() -> None:
    for seed in range(6):
        with fast_folder() as folder, noted(seed, __file__), Counting(seed, folder, replicas=3) as counting:
            counting.play(40)
            counting.check()
            for member in counting.replicas.members:
                before = list(member.engine.iterdump())
                for encoded in counting.replicas.everything():
                    assert isinstance(member.merge(encoded, counting.replicas.now_ms), Repeat)
                assert list(member.engine.iterdump()) == before
