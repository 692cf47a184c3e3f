"""Whatever SQL any process commits, a second database that merges what was folded has the same tables.

300 runs in `make test`; `make campaign` takes 10,000. A failing run prints its seed; `LITECAST_SEED=n` replays it.
"""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from replication.engine.applying import Merged
from tests.support.replicas import START_MS, attach_file, choices, copied, fast_folder, new_site
from tests.support.seeded import in_chunks, noted, runs, seeds
from tests.support.sql_schema import content, create
from tests.support.sql_writer import SqlWriter

RUNS = runs(300)
CHUNKS = 10
STEPS = 45


class Templates(NamedTuple):
    """Two attached databases, of two sites, to be copied; and where to put the copies."""

    folder: Path
    first: Path
    second: Path


@pytest.fixture(scope="module")
def templates() -> Iterator[Templates]:
    with fast_folder() as folder:
        made = Templates(folder, folder / "first.template", folder / "second.template")
        for number, path in enumerate((made.first, made.second)):
            attach_file(path, create, choices(), new_site(random.Random(number)))
        yield made


class Run:
    """One database that is written, another that merges."""

    def __init__(self, seed: int, templates: Templates) -> None:
        self.rng = random.Random(seed)
        self.now_ms = START_MS
        for old in templates.folder.glob("*.db*"):
            old.unlink()
        self.first = copied(templates.first, templates.folder / "first.db")
        self.second = copied(templates.second, templates.folder / "second.db")
        self.folds = 0

    def close(self) -> None:
        self.first.close()
        self.second.close()

    def play(self) -> None:
        with SqlWriter(self.rng, self.first.path) as writer:
            try:
                for _ in range(self.rng.randint(STEPS // 3, STEPS)):
                    writer.step()
                    if self.rng.random() < 0.12:
                        self.fold_and_merge(writer.trace)
                writer.settle()
                self.fold_and_merge(writer.trace)
                assert self.first.fold(self.now_ms) is None, "a fold after a fold found something"
                assert self.second.fold(self.now_ms) is None, "a merge was taken for an application's write"
            except Exception as error:
                error.add_note("\n".join(writer.trace))
                raise

    def fold_and_merge(self, trace: list[str]) -> None:
        """At any moment, with transactions open: what is committed arrives, and nothing else."""
        self.now_ms += self.rng.choice((0, 1, 500, -20))
        try:
            folded = self.first.fold(self.now_ms)
        except sqlite3.OperationalError as error:  # an application is writing just now
            if "locked" in str(error):
                return
            raise
        trace.append(f"-- folded {folded.rows if folded else 'nothing'}")
        if folded is not None:
            self.folds += 1
            outcome = self.second.merge(folded.encoded, self.now_ms)
            assert isinstance(outcome, Merged), outcome
        mine, theirs = content(self.first.engine), content(self.second.engine)
        assert mine == theirs, [
            (
                table,
                [row for row in rows if row not in theirs[table]],
                [row for row in theirs[table] if row not in rows],
            )
            for table, rows in mine.items()
            if rows != theirs[table]
        ]


def run(seed: int, templates: Templates) -> int:
    """The number of changesets that went over."""
    with closing(Run(seed, templates)) as playing, noted(seed, __file__):
        playing.play()
        return playing.folds


@pytest.mark.timeout(60 + RUNS)
@in_chunks(CHUNKS)
def test_random_sql_by_several_connections_arrives_whole(chunk: int, templates: Templates) -> None:
    chosen = seeds(RUNS, chunk=chunk, chunks=CHUNKS)
    folds = sum(run(seed, templates) for seed in chosen)
    assert folds >= len(chosen), "next to nothing was written: the runs prove nothing"
