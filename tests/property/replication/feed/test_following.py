"""Who follows the feed of a replica ends with the table, whatever is written and merged, in whatever order, and however
often it is interrupted and goes on from its position, there or on another replica.

A failing run prints its seed; `LITECAST_SEED=n` replays it.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from replication.engine import generation, journal
from replication.feed import reading, telling
from replication.feed.position import FeedPosition
from tests.support import clicks, sql_schema
from tests.support.following import Follower, small_pages
from tests.support.playing import AnySql, Counting
from tests.support.replicas import Replica, attach_file, choices, fast_folder, new_site
from tests.support.roaming import Roaming
from tests.support.seeded import SEED, in_chunks, noted, runs, seeds

RUNS = runs(45)
CHUNKS = 3
SAFEGUARD_SEEDS = 100


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for place, name, value in small_pages(3):
        monkeypatch.setattr(place, name, value)


@pytest.fixture(scope="module")
def templates() -> Iterator[tuple[Path, ...]]:
    with fast_folder() as folder:
        paths = tuple(folder / f"{number}.template" for number in range(3))
        for number, path in enumerate(paths):
            attach_file(path, sql_schema.create, choices(), new_site(random.Random(number)))
        yield paths


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as path:
        yield path


class Followers:
    """Some followers, and at which replica each is. `moves`: they go from one to another with their position."""

    def __init__(self, seed: int, tables: Sequence[str], *, moves: bool) -> None:
        self._rng = random.Random(f"followers {seed}")
        self._moves = moves
        self.all = [(Follower(self._rng, table), self._rng.randrange(99)) for table in tables for _ in range(2)]

    def read(self, members: Sequence[Replica]) -> None:
        """Some of them read on."""
        for at, (follower, where) in enumerate(self.all):
            if self._moves and self._rng.random() < 0.1:
                where = self._rng.randrange(99)
                self.all[at] = follower, where
            if self._rng.random() < 0.3:
                follower.read(members[where % len(members)].engine)

    def check(self, members: Sequence[Replica]) -> None:
        """In the end each has the table, wherever it is."""
        for follower, where in self.all:
            connection = members[where % len(members)].engine
            follower.catch_up(connection)
            follower.assert_is_copy_of(connection)


@pytest.mark.timeout(120 + 2 * RUNS)
@in_chunks(CHUNKS)
def test_any_sql_on_three_replicas_is_followed_from_any_position_on(chunk: int, templates: tuple[Path, ...]) -> None:
    told = 0
    for seed in seeds(RUNS, chunk=chunk, chunks=CHUNKS):
        with fast_folder() as folder, noted(seed, __file__), AnySql(seed, folder, templates) as playing:
            followers = Followers(seed, [table.name for table in sql_schema.TABLES], moves=seed % 2 > 0)
            for _ in range(playing.rng.choice((4, 12, 20))):
                playing.play(5)
                followers.read(playing.replicas.members)
            playing.check()
            followers.check(playing.replicas.members)
            assert not any(follower.started for follower, _ in followers.all), "nothing here makes one start over"
            told += sum(follower.told for follower, _ in followers.all)
    assert told > 100 or SEED is not None


@pytest.mark.timeout(120 + 2 * RUNS)
@in_chunks(CHUNKS)
def test_counters_that_all_count_in_are_followed(chunk: int) -> None:
    for seed in seeds(RUNS, chunk=chunk, chunks=CHUNKS):
        with fast_folder() as folder, noted(seed, __file__), Counting(seed, folder, baselines=seed % 2 > 0) as counting:
            followers = Followers(seed, ["clicks"], moves=seed % 3 > 0)
            for _ in range(10):
                counting.play(5, deletes=seed % 3 > 0)
                followers.read(counting.replicas.members)
            counting.check()
            followers.check(counting.replicas.members)


def roam(seed: int, folder: Path, *, forks: bool) -> Followers:
    """Replicas whose journals are trimmed, that take snapshots, and, with `forks`, are put back to older states."""
    with Roaming(seed, folder, forks=forks, trims=seed % 2 > 0, baselines=seed % 3 == 0 and not forks) as run:
        followers = Followers(seed, [clicks.TABLE.name], moves=seed % 3 > 0)
        for _ in range(12):
            run.play(8, deletes=seed % 4 > 0)
            followers.read(run.members)
        run.check()
        followers.check(run.members)
    return followers


@pytest.mark.timeout(120 + 2 * RUNS)
@pytest.mark.parametrize("forks", [False, True])
@in_chunks(CHUNKS)
def test_who_follows_while_state_moves_is_told_to_start_over_where_it_must(chunk: int, forks: bool) -> None:
    started = 0
    for seed in seeds(RUNS, chunk=chunk, chunks=CHUNKS):
        with fast_folder() as folder, noted(seed, __file__):
            started += sum(follower.started for follower, _ in roam(seed, folder, forks=forks).all)
    assert started > 0 or SEED is not None


# ---- with a safeguard taken out


def fails(play: Callable[[int, Path], None], folder: Path, first: int) -> bool:
    """Whether some seed ends with a copy that is not the table. `first`: one shortly before the first that does."""
    for seed in range(first, first + SAFEGUARD_SEEDS):
        place = folder / str(seed)
        place.mkdir()
        try:
            play(seed, place)
        except AssertionError:
            return True
    return False


def count(seed: int, folder: Path) -> None:
    with Counting(seed, folder) as counting:
        followers = Followers(seed, ["clicks"], moves=True)
        for _ in range(10):
            counting.play(5)
            followers.read(counting.replicas.members)
        counting.check()
        followers.check(counting.replicas.members)


def trim(seed: int, folder: Path) -> None:
    roam(2 * seed + 1, folder, forks=False)


def fork(seed: int, folder: Path) -> None:
    roam(seed, folder, forks=True)


def without_leaving_out_what_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(telling, "_stands", lambda *_: True)


def without_leaving_out_lives_that_are_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(telling, "_is_any_told", lambda *_: False)


def without_waiting_for_what_was_told_elsewhere(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FeedPosition, "reaches", {})


def without_a_look_whether_the_journal_joins(patch: pytest.MonkeyPatch) -> None:
    page = journal.page_inside
    patch.setattr(journal, "page_inside", lambda *args, **limits: replace(page(*args, **limits), beyond=frozenset()))
    patch.setattr(reading, "_joins", lambda *_: True)


def without_generations(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(generation, "advance", lambda _connection: None)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("take_out", "play", "first"),
    [
        (without_leaving_out_what_lost, count, 77),
        (without_leaving_out_lives_that_are_over, count, 0),
        (without_waiting_for_what_was_told_elsewhere, count, 77),
        (without_a_look_whether_the_journal_joins, trim, 0),
        (without_generations, fork, 0),
    ],
)
def test_without_it_some_copy_is_not_the_table(
    take_out: Callable[[pytest.MonkeyPatch], None],
    play: Callable[[int, Path], None],
    first: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_out(monkeypatch)
    assert fails(play, folder, first)
