"""Digests tell equal from unequal, and what is unequal from what is only behind."""

import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replication.engine import comparing, differing, digesting
from replication.engine.comparing import Verdict
from replication.engine.coverage import Coverage
from replication.engine.listing import list_rows
from replication.engine.repairing import adopt, restore
from replication.engine.scanning import Harm, scan
from replication.engine.values import Key, Value, bound, canonical_key, fetch, same
from tests.support import drift, sql_schema
from tests.support.drift import Watch, compared, measured, shown, uncaptured
from tests.support.playing import AnySql, Counting, assert_equal, rows_of, state_of
from tests.support.replicas import Replica, attach_file, choices, fast_folder, new_site
from tests.support.seeded import noted, runs, seeds
from tests.support.sql_schema import BadText, Drawn, Table, quoted

RUNS = runs(10)


@pytest.fixture(scope="module")
def templates() -> Iterator[tuple[Path, ...]]:
    with fast_folder() as folder:
        paths = tuple(folder / f"{number}.template" for number in range(3))
        for number, path in enumerate(paths):
            attach_file(path, sql_schema.create, choices(), new_site(random.Random(number)))
        yield paths


def watched_counting(seed: int, folder: Path) -> list[Verdict]:
    with Counting(seed, folder, replicas=3, baselines=seed % 2 == 1) as counting:
        watch = Watch(counting.rng, counting.replicas.members)
        for _ in range(20):
            counting.play(2)
            watch.look()
            if counting.rng.random() < 0.3:
                watch.list_rows("clicks", between=lambda: counting.play(counting.rng.choice((0, 0, 1))))
        counting.check()
        assert compared(counting.replicas.members).verdict is Verdict.EQUAL
        return watch.verdicts


@pytest.mark.timeout(60 + 2 * RUNS)
def test_replicas_that_are_only_behind_never_show_drift_and_in_the_end_are_equal() -> None:
    verdicts: list[Verdict] = []
    for seed in seeds(RUNS):
        with fast_folder() as folder, noted(seed, __file__):
            verdicts += watched_counting(seed, folder)
    assert set(verdicts) == {Verdict.EQUAL, Verdict.UNKNOWN}


@pytest.mark.timeout(60 + 4 * RUNS)
def test_neither_do_replicas_with_any_sql(templates: tuple[Path, ...]) -> None:
    for seed in seeds(RUNS):
        with fast_folder() as folder, AnySql(seed, folder, templates) as playing:
            watch = Watch(playing.rng, playing.replicas.members)
            for _ in range(8):
                playing.play(6)
                watch.look()
                table = playing.rng.choice(sql_schema.TABLES)
                watch.list_rows(table.name, between=lambda: playing.play(playing.rng.choice((0, 0, 0, 1))))
            playing.check()
            found = compared(playing.replicas.members)
            assert found.verdict is Verdict.EQUAL, found
            assert set(found.tables) == {table.name for table in sql_schema.TABLES}


def damage(rng: random.Random, members: Sequence[Replica]) -> None:
    """One write that nobody captures, into some row of some table of one replica; the table may refuse it."""
    table, engine = rng.choice(sql_schema.TABLES), rng.choice(members).engine
    source, names = quoted(table.name), [quoted(name) for name in table.key]
    rows = fetch(engine, f"SELECT {', '.join(names)} FROM {source}")
    way = rng.choice(("change", "delete", "insert")) if rows else "insert"
    key = [text_of(draw(rng)) for draw in table.key.values()] if way == "insert" else rng.choice(rows)
    holes, values = bound(key)
    where = " AND ".join(f"{name} = {hole}" for name, hole in zip(names, holes, strict=True))
    with uncaptured(engine), suppress(sqlite3.IntegrityError):
        if way == "insert":
            engine.execute(f"INSERT INTO {source} ({', '.join(names)}) VALUES ({', '.join(holes)})", values)
        elif way == "delete":
            engine.execute(f"DELETE FROM {source} WHERE {where}", values)
        else:
            column: str = rng.choice([*table.cells, *([sql_schema.COUNTER] if table.counter else [])])
            value = rng.choice((None, 1, 5, "x", b"y"))
            engine.execute(f"UPDATE {source} SET {quoted(column)} = ? WHERE {where}", (value, *values))


def text_of(value: Drawn) -> Value:
    return value.raw.decode("utf-8", "surrogateescape") if isinstance(value, BadText) else value


def unequal(members: Sequence[Replica], table: Table) -> tuple[set[Key], int]:
    """The keys of the rows that differ, and how far their counters are apart, by looking at everything."""
    rows = [rows_of(member, [table]).get(table.name, {}) for member in members]
    keys = {key for one in rows for key in one if len({exactly(other.get(key)) for other in rows}) > 1}
    spread = 0
    for key in keys if table.counter else ():
        counts = [count if isinstance(count := one.get(key, {}).get(sql_schema.COUNTER), int) else 0 for one in rows]
        spread += max(counts) - min(counts)
    return keys, spread


def exactly(row: Mapping[str, Value] | None) -> str:
    if row is None:
        return "no row"
    return repr([(name, 0.0 if same(value, 0.0) else value) for name, value in sorted(row.items())])


def check_measured(members: Sequence[Replica]) -> int:
    """What is measured is what is there. Gives how many rows differ."""
    expected = {table.name: unequal(members, table) for table in sql_schema.TABLES}
    found = measured(members)
    assert found.verdict is (Verdict.DRIFT if any(keys for keys, _ in expected.values()) else Verdict.EQUAL)
    for table in found.tables:
        keys, spread = expected[table.name]
        assert table.rows_differing == len(keys), (table, keys)
        assert {row.key for row in table.rows} == {canonical_key(key) for key in keys}
        assert sum(table.counters.values()) == spread
        by_name = {one.name: one for one in sql_schema.TABLES}
        there = [rows_of(member, [by_name[table.name]]).get(table.name, {}) for member in members]
        for row in table.rows:
            for at, rows in enumerate(there):
                shown = row.nodes[str(at)]
                whole = rows.get(row.key)
                assert (shown is None) == (whole is None)
                if shown is not None and whole is not None:
                    assert exactly(shown) == exactly({name: whole[name] for name in shown})
                    assert whole.keys() - shown.keys() <= {"loud", "old"}, "what SQLite computes"
    return sum(len(keys) for keys, _ in expected.values())


@pytest.mark.timeout(60 + 4 * RUNS)
def test_whatever_is_damaged_is_found_in_its_table_and_in_number(templates: tuple[Path, ...]) -> None:
    for seed in seeds(RUNS):
        with fast_folder() as folder, AnySql(seed, folder, templates) as playing:
            playing.play(60)
            playing.check()
            damaged = 0
            for times in (1, 3, 10):
                for _ in range(times):
                    damage(playing.rng, playing.replicas.members)
                damaged += check_measured(playing.replicas.members)
            assert damaged, "nothing was damaged: the run proves nothing"


def harmed(before: Mapping[Key, Mapping[str, Value]], now: Mapping[Key, Mapping[str, Value]]) -> dict[Key, Harm]:
    """What became of rows, by looking at everything."""
    found = {key: Harm.UNKNOWN for key in now if key not in before}
    found |= {key: Harm.MISSING for key in before if key not in now}
    changed = [key for key in before if key in now and exactly(before[key]) != exactly(now[key])]
    return found | dict.fromkeys(changed, Harm.CHANGED)


class Damaged:
    """Replicas that were equal, until some of them were damaged."""

    def __init__(self, playing: AnySql, harmed: Sequence[int]) -> None:
        self.members = playing.replicas.members
        self.before = [rows_of(member, sql_schema.TABLES) for member in self.members]
        self.known = [state_of(member) for member in self.members]
        self.harmed = tuple(map(str, harmed))
        for _ in range(playing.rng.choice((1, 3, 20))):
            damage(playing.rng, [self.members[at] for at in harmed])

    def check_scans(self) -> int:
        """Each scan finds on its replica what was damaged there. Gives how many rows that is."""
        count = 0
        for member, before in zip(self.members, self.before, strict=True):
            now = rows_of(member, sql_schema.TABLES)
            for table in sql_schema.TABLES:
                expected = harmed(before.get(table.name, {}), now.get(table.name, {}))
                found = scan(member.engine, table.name)
                assert {row.key: row.harm for row in found.rows} == expected
                assert found.count == len(expected)
                for row in found.rows:
                    if row.harm is Harm.CHANGED:
                        was, is_now = before[table.name][row.key], now[table.name][row.key]
                        differ = {name for name in was if exactly({name: was[name]}) != exactly({name: is_now[name]})}
                        assert set(row.columns) == differ - {"loud", "old"}, "but what SQLite computes"
                count += len(expected)
        return count


@pytest.fixture(params=["adopt", "restore"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.timeout(60 + 4 * RUNS)
def test_damage_is_found_where_it_is_and_repaired_either_way(templates: tuple[Path, ...], way: str) -> None:
    damaged = 0
    for seed in seeds(RUNS):
        with fast_folder() as folder, AnySql(seed, folder, templates) as playing:
            playing.play(60)
            for member in playing.replicas.members:
                assert not any(scan(member.engine, table.name).count for table in sql_schema.TABLES)
            playing.check()
            found = Damaged(playing, range(3) if way == "adopt" else [seed % 3])
            damaged += found.check_scans()
            if way == "adopt":
                adopt_all(playing)
            else:
                restore_all(playing, found)
            for member in playing.replicas.members:
                assert not any(scan(member.engine, table.name).count for table in sql_schema.TABLES)
            assert compared(playing.replicas.members).verdict is Verdict.EQUAL
    assert damaged > RUNS


def adopt_all(playing: AnySql) -> None:
    """What is adopted is as good as written: it reaches everybody, and merges with what others adopt."""
    for member in playing.replicas.members:
        for table in sql_schema.TABLES:
            rows = scan(member.engine, table.name).rows
            adopt(member.engine, table.name, [row.key for row in rows], now_ms=playing.replicas.tick())
            member.collect()
    playing.replicas.settle()
    assert_equal(playing.replicas, sql_schema.TABLES)


def restore_all(playing: AnySql, found: Damaged) -> None:
    """With the others' help every row is as it was, and nobody else notices."""
    nodes = {str(at): member for at, member in enumerate(playing.replicas.members)}
    (at,) = found.harmed
    for table in sql_schema.TABLES:
        keys = [row.key for row in scan(nodes[at].engine, table.name).rows]
        for other in nodes.keys() - {at}:
            given = {row.key: row.nodes[other] for row in shown(nodes, table.name, keys)}
            restored = restore(nodes[at].engine, table.name, given, now_ms=playing.replicas.tick())
            assert restored.folded is None
            assert restored.rows == len(keys)
            assert not restored.unverified
            keys = []
    assert not any(member.fold(playing.replicas.tick()) for member in nodes.values())
    assert [rows_of(member, sql_schema.TABLES) for member in nodes.values()] == found.before
    assert [state_of(member) for member in nodes.values()] == found.known
    assert_equal(playing.replicas, sql_schema.TABLES)


def by_the_newest_of_all_sites(patch: pytest.MonkeyPatch) -> None:
    """A bucket counts as covered if the newest write in it is, whoever made it."""

    def is_covered(table: Any, merged: Any, elsewhere: Any, bucket: int) -> bool:
        written = [(stamp, site) for site, stamp in table.bucket_sites.get(bucket, {}).items()]
        return not written or elsewhere.has(max(written)[1], max(written)[0], of=merged)

    patch.setattr(comparing, "_is_covered", is_covered)


def without_pending(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(digesting, "_pending", lambda *_: frozenset())


def without_cells_written_later(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(digesting, "later_dots", lambda _blob: ())


def without_contributions(patch: pytest.MonkeyPatch) -> None:
    read = digesting._Newest._read

    def some(self: Any, sql: str) -> None:
        if "_count_" not in sql:
            read(self, sql)

    patch.setattr(digesting._Newest, "_read", some)


def without_tombstones(patch: pytest.MonkeyPatch) -> None:
    read = digesting._Newest._read

    def living(self: Any, sql: str) -> None:
        read(self, sql.replace("WHERE", "WHERE life & 1 AND (") + ")" if "_clock_" in sql else sql)

    patch.setattr(digesting._Newest, "_read", living)


def without_a_look_at_baselines(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Coverage, "same_baselines", lambda _one, _other: True)


def without_a_look_at_who_wrote_a_row(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(differing._Pair, "is_told", lambda _self, _key: True)


def without_who_deleted_a_row(patch: pytest.MonkeyPatch) -> None:
    """Of a row that is not there, nothing is listed."""

    def only_rows(*args: Any, **options: Any) -> Any:
        page = list_rows(*args, **options)
        return replace(page, rows={key: row for key, row in page.rows.items() if row.hashes is not None})

    patch.setattr(drift, "list_rows", only_rows)


@pytest.mark.parametrize(
    "take_out",
    [
        without_a_look_at_who_wrote_a_row,
        without_who_deleted_a_row,
        by_the_newest_of_all_sites,
        without_pending,
        without_cells_written_later,
        without_contributions,
        without_tombstones,
        without_a_look_at_baselines,
    ],
)
def test_without_it_some_seed_raises_a_false_alarm(
    take_out: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out(monkeypatch)
    for seed in range(200):
        with fast_folder() as folder:
            try:
                watched_counting(seed, folder)
            except AssertionError:
                print(f"seed {seed}")
                return
    pytest.fail("no seed failed")
