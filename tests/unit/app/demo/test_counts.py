"""What the files say, and how the samples of an act are kept."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.counter import MIGRATIONS
from app.demo.counts import CountReader, Recorder, recording, thinned
from app.demo.errors import DemoError
from app.demo.results import Sample


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "node's #1?.db"  # a URI needs care with such a name
    with closing(sqlite3.connect(path, autocommit=True)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(MIGRATIONS[0])
    return path


@pytest.fixture
def reader(database: Path, tmp_path: Path) -> Iterator[CountReader]:
    with closing(CountReader({"alpha": database, "beta": tmp_path / "absent.db"})) as reader:
        yield reader


def count(database: Path, page: str, count: int) -> None:
    with closing(sqlite3.connect(database, autocommit=True)) as connection:
        connection.execute("INSERT OR REPLACE INTO page_counts (page, count) VALUES (?, ?)", (page, count))


def test_an_absent_row_and_an_absent_file_are_0(reader: CountReader, tmp_path: Path) -> None:
    assert reader.read("home") == {"alpha": 0, "beta": 0}
    assert not (tmp_path / "absent.db").exists()


def test_a_count_that_another_connection_committed_is_read(reader: CountReader, database: Path) -> None:
    for number in (1, 7):
        count(database, "home", number)
        assert reader.read("home") == {"alpha": number, "beta": 0}


async def test_a_file_that_cannot_be_read_is_waited_for_and_then_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.demo.counts.READ_WITHIN_S", 0.0)
    (tmp_path / "a.db").touch()  # a database without the table
    with closing(CountReader({"alpha": tmp_path / "a.db"})) as reader:
        assert reader.read("home") is None
        with pytest.raises(DemoError, match="could not be read"):
            await reader.wait_and_read("home")


async def test_a_recording_holds_what_was_there_at_its_beginning_and_at_its_end(
    reader: CountReader, database: Path
) -> None:
    answered = 0
    recorder = Recorder(reader, "home", lambda page: answered)
    async with recording(recorder):
        count(database, "home", 4)
        answered = 5
        began_s = time.monotonic()
        recorder.mark("killed")
        recorder.mark("back", began_s - 100)
    assert (recorder.samples[-1].counts, recorder.samples[-1].expected) == ({"alpha": 4, "beta": 0}, 5)
    assert [(mark.text, round(mark.at_s, -2)) for mark in recorder.marks] == [("killed", 0), ("back", -100)]


async def test_a_recording_that_turns_to_another_page_forgets_the_first(reader: CountReader, database: Path) -> None:
    count(database, "new", 2)
    recorder = Recorder(reader, "old", {"old": 1, "new": 2}.__getitem__)
    async with recording(recorder):
        recorder.sample()
        recorder.turn_to("new")
    assert [(sample.counts["alpha"], sample.expected) for sample in recorder.samples] == [(2, 2)]


def test_only_samples_that_say_what_both_neighbours_say_are_left_out() -> None:
    samples = [Sample(at_s=at, counts={"a": said}, expected=0) for at, said in enumerate([0, 0, 0, 0, 1, 1, 1])]
    assert [sample.at_s for sample in thinned(samples)] == [0, 3, 4, 6]
