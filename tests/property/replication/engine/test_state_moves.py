"""Replicas between which state moves at any moment end equal and exact; see `roaming`.

A failing run prints its seed; `LITECAST_SEED=n` replays it.
"""

import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from replication.engine import catalogue, snapshots, trimming
from replication.engine.snapshots import SnapshotStart
from replication.engine.table import Table
from tests.support import clicks, roaming, sql_schema, states
from tests.support.playing import AnySql, Counting, state_of
from tests.support.replicas import Replica, attach_file, choices, fast_folder, new_site
from tests.support.roaming import Roaming
from tests.support.seeded import in_chunks, noted, runs, seeds
from tests.support.sql_schema import content
from tests.support.states import Moving

RUNS = runs(15)
CHUNKS = 5
SAFEGUARD_SEEDS = 200


@pytest.fixture(scope="module")
def templates() -> Iterator[tuple[Path, ...]]:
    with fast_folder() as folder:
        paths = tuple(folder / f"{number}.template" for number in range(2))
        for number, path in enumerate(paths):
            attach_file(path, sql_schema.create, choices(), new_site(random.Random(number)))
        yield paths


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as path:
        yield path


@pytest.mark.timeout(60 + 2 * RUNS)
@in_chunks(CHUNKS)
def test_replicas_that_take_each_others_state_end_equal_and_exact(chunk: int) -> None:
    for seed in seeds(RUNS, chunk=chunk, chunks=CHUNKS):
        with fast_folder() as folder, noted(seed, __file__), Roaming(seed, folder, baselines=seed % 3 == 0) as run:
            run.play(run.rng.choice((60, 120)), deletes=seed % 4 > 0)
            run.check()


@pytest.mark.timeout(60 + 2 * RUNS)
@in_chunks(CHUNKS)
def test_replicas_that_are_put_back_to_older_states_end_equal(chunk: int) -> None:
    for seed in seeds(RUNS, chunk=chunk, chunks=CHUNKS):
        with (
            fast_folder() as folder,
            noted(seed, __file__),
            Roaming(seed, folder, forks=True, trims=seed % 2 > 0) as run,
        ):
            run.play(run.rng.choice((60, 120)), deletes=seed % 4 > 0)
            run.check()


def test_a_replica_that_gets_state_knows_what_one_that_got_the_changesets_knows() -> None:
    """Rows, entries, shares of counters; whatever was merged in which order at the sender."""
    for seed in range(12):
        with fast_folder() as folder, noted(seed, __file__), Counting(seed, folder, baselines=seed % 2 > 0) as counting:
            counting.play(60)
            counting.check()
            known = state_of(counting.replicas.members[0])
            rng = random.Random(f"newcomer {seed}")
            for member in counting.replicas.members:
                path = folder / f"{member.path.stem}.new"
                attach_file(path, clicks.create, choices([clicks.TABLE]), new_site(rng))
                newcomer = Replica(path)
                Moving(member.engine, newcomer.engine, max_rows=rng.choice((1, 3, 100))).run(counting.replicas.now_ms)
                found, heads = state_of(newcomer), newcomer.heads()
                newcomer.close()
                assert found == known
                assert heads == member.heads()


def test_any_sql_moves_as_state_as_it_does_as_changesets(templates: tuple[Path, ...]) -> None:
    """Values and tables of every kind."""
    for seed in range(8):
        with fast_folder() as folder, noted(seed, __file__), AnySql(seed, folder, templates) as playing:
            playing.play(60)
            playing.check()
            sender = playing.replicas.members[0]
            path = folder / "newcomer.db"
            attach_file(path, sql_schema.create, choices(), new_site(playing.rng))
            newcomer = Replica(path)
            Moving(sender.engine, newcomer.engine, max_rows=playing.rng.choice((1, 2, 100))).run(
                playing.replicas.now_ms
            )
            try:
                assert content(newcomer.engine) == content(sender.engine)
                assert state_of(newcomer) == state_of(sender)
                assert newcomer.fold(playing.replicas.now_ms) is None
            finally:
                newcomer.close()


# ---- with a safeguard taken out


def failing_seed(folder: Path) -> int | None:
    """The first seed whose run does not end equal and exact. None if all do."""
    for seed in range(SAFEGUARD_SEEDS):
        place = folder / str(seed)
        place.mkdir()
        try:
            with Roaming(seed, place, baselines=seed % 2 > 0) as run:
                run.play(60)
                run.check()
        except AssertionError:
            return seed
    return None


def without_a_fold_before_a_range_is_merged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(snapshots, "fold_inside", lambda _session, *, now_ms: None)


def without_shares_of_counters(patch: pytest.MonkeyPatch) -> None:
    """A sum arrives as its sender's own."""
    patch.setattr(Table, "counts", lambda _self, _key, _life: [])


def without_floors(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(catalogue, "raise_floor", lambda _connection, _spec, _life: None)


def without_asking_what_members_have(patch: pytest.MonkeyPatch) -> None:
    """Tombstones are trimmed as soon as they are old enough."""
    trim = trimming.trim_tombstones

    def lax(connection: sqlite3.Connection, *, members: Any, **when: Any) -> int:
        return trim(connection, members=[], **when)

    patch.setattr(roaming, "trim_tombstones", lax)


def without_heads_that_wait_for_the_last_range(patch: pytest.MonkeyPatch) -> None:
    merge_range = snapshots.merge_range

    def hasty(connection: sqlite3.Connection, encoded: bytes, start: SnapshotStart, **options: Any) -> Any:
        merged = merge_range(connection, encoded, start, **options)
        if options["authority"]:
            snapshots.finish(connection, start)
        return merged

    patch.setattr(states, "merge_range", hasty)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "take_out",
    [
        without_a_fold_before_a_range_is_merged,
        without_shares_of_counters,
        without_floors,
        without_asking_what_members_have,
        without_heads_that_wait_for_the_last_range,
    ],
)
def test_without_it_some_seed_fails(
    take_out: Callable[[pytest.MonkeyPatch], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out(monkeypatch)
    found = failing_seed(folder)
    assert found is not None
    print(f"seed {found}")
