"""Each safeguard is needed, and each test would notice: with one taken out, some seed must fail."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from replication.engine import absorbing, applying, capture, deciding, folding, merging, showing
from replication.engine.applying import Fork, Outcome, Waits
from replication.engine.contributions import Shares
from replication.engine.sites import Sites
from replication.engine.table import Table
from tests.support.playing import Counting
from tests.support.replicas import fast_folder

SEEDS = 100
"""Among so many one fails without a safeguard."""
SEEDS_WITH_ALL = 40
STEPS = 40


def failing_seed(folder: Path, seeds: int = SEEDS) -> int | None:
    """The first seed whose run does not end equal and exact. None if all do."""
    for seed in range(seeds):
        place = folder / str(seed)
        place.mkdir()
        try:
            with Counting(seed, place, replicas=3, baselines=seed % 2 == 1) as counting:
                counting.play(STEPS)
                counting.check()
        except AssertionError:
            return seed
    return None


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as path:
        yield path


def test_with_every_safeguard_in_place_no_seed_fails(folder: Path) -> None:
    assert failing_seed(folder, SEEDS_WITH_ALL) is None


def without_deletes_that_end_a_life(patch: pytest.MonkeyPatch) -> None:
    dirty = Table._dirty
    patch.setattr(Table, "_dirty", lambda self, more: dirty(self, more).replace("max(ended)", "0"))


def without_deps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Sites, "covers", lambda _self, _site, _stamp: True)


def without_waiting_for_the_one_before(patch: pytest.MonkeyPatch) -> None:
    """A changeset is merged though its site's changesets before it are not here."""
    judge = applying._Merger._judge

    def lax(self: Any, changeset: Any, found: bytes) -> Outcome | None:
        outcome = judge(self, changeset, found)
        if isinstance(outcome, Waits) and set(outcome.missing) == {changeset.site}:
            return None
        return None if isinstance(outcome, Fork) else outcome

    patch.setattr(applying._Merger, "_judge", lax)


def without_the_fold_inside_a_merge(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(applying, "fold_inside", lambda _session, *, now_ms: None)


def without_taking_off_what_others_contributed(patch: pytest.MonkeyPatch) -> None:
    split = Shares.split
    patch.setattr(Shares, "split", lambda self, key, number, site: (0, split(self, key, number, site)[1]))


def without_clocks_of_cells(patch: pytest.MonkeyPatch) -> None:
    """Whatever arrives last wins."""
    patch.setattr(merging, "_wins", lambda *_: True)


def without_lives(patch: pytest.MonkeyPatch) -> None:
    """A row that comes back has the life that it had."""
    patch.setattr(folding, "_next_life", lambda _life, _floor: 1)


def without_triggers_off(patch: pytest.MonkeyPatch) -> None:
    """What a merge writes is captured, as if an application had."""

    @contextmanager
    def captured(_connection: sqlite3.Connection, _table: Table) -> Iterator[None]:
        _connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, True)
        yield

    patch.setattr(showing, "writing_rows", captured)


def without_a_look_at_how_many_rows_were_new(patch: pytest.MonkeyPatch) -> None:
    """In haste, rows are taken for new; those that were not are left as if they had been."""

    def credulous(self: Any, entries: Any) -> None:
        self._table.new_entries.run(self._session.connection, entries)

    patch.setattr(deciding.Decision, "_suppose_new", credulous)


def without_genesis(patch: pytest.MonkeyPatch) -> None:
    """What several databases held before counts once for each of them."""
    patch.setattr(absorbing, "is_baseline", lambda _site: False)


@pytest.mark.parametrize(
    "take_out",
    [
        without_deletes_that_end_a_life,
        without_deps,
        without_waiting_for_the_one_before,
        without_the_fold_inside_a_merge,
        without_taking_off_what_others_contributed,
        without_clocks_of_cells,
        without_lives,
        without_triggers_off,
        without_a_look_at_how_many_rows_were_new,
        without_genesis,
    ],
)
def test_without_it_some_seed_fails(
    take_out: Callable[[pytest.MonkeyPatch], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out(monkeypatch)
    found = failing_seed(folder)
    assert found is not None
    print(f"seed {found}")


@pytest.mark.parametrize("what", ["before_insert", "insert", "before_key", "update", "key", "delete"])
def test_without_this_trigger_some_seed_fails(what: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = capture._trigger

    def silent(spec: Any, name: str, event: str, kind: Any, row: str, *, when: str = "") -> str:
        return trigger(spec, name, event, kind, row, when="0" if name == what else when)

    monkeypatch.setattr(capture, "_trigger", silent)
    found = failing_seed(folder)
    assert found is not None
    print(f"seed {found}")
