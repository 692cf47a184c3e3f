"""Large transactions go other ways, in pieces. With small limits every transaction is a large one: all laws hold."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from replication.engine import applying, decoding, folding, journal
from tests.support import sql_schema
from tests.support.playing import AnySql, Counting
from tests.support.replicas import attach_file, choices, fast_folder, new_site
from tests.support.seeded import noted, runs, seeds

RUNS = runs(15)


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "FEW_KEYS", 1)
    monkeypatch.setattr(folding, "PAGE_KEYS", 2)
    monkeypatch.setattr(folding, "PAGE_BYTES", 60)
    monkeypatch.setattr(decoding, "PIECE_ROWS", 2)
    monkeypatch.setattr(applying, "LARGE_BYTES", 0)
    monkeypatch.setattr(journal, "PIECE_BYTES", 50)


@pytest.fixture(scope="module")
def templates() -> Iterator[tuple[Path, ...]]:
    with fast_folder() as folder:
        paths = tuple(folder / f"{number}.template" for number in range(3))
        for number, path in enumerate(paths):
            attach_file(path, sql_schema.create, choices(), new_site(random.Random(number)))
        yield paths


@pytest.mark.timeout(60 + RUNS)
def test_replicas_that_count_at_once_end_equal_and_exact() -> None:
    for seed in seeds(RUNS):
        with fast_folder() as folder, noted(seed, __file__), Counting(seed, folder) as counting:
            counting.play(counting.rng.choice((10, 30, 60)), deletes=seed % 3 > 0)
            counting.check()


@pytest.mark.timeout(60 + RUNS)
def test_any_sql_on_three_replicas_ends_equal(templates: tuple[Path, ...]) -> None:
    for seed in seeds(RUNS):
        with fast_folder() as folder, noted(seed, __file__), AnySql(seed, folder, templates) as playing:
            playing.play(playing.rng.choice((20, 60, 100)))
            playing.check()


@pytest.mark.timeout(60 + RUNS)
def test_what_databases_held_before_joins_what_others_hold() -> None:
    for seed in seeds(RUNS):
        with fast_folder() as folder, noted(seed, __file__), Counting(seed, folder, baselines=True) as counting:
            counting.play(counting.rng.choice((10, 30)), deletes=seed % 3 > 0)
            counting.check()
