"""Each check finds what it is for, and nothing where all is well."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.doctor import checks
from app.doctor.checks import CHECKS, Check, Gravity, judged
from app.doctor.facts import DatabaseFacts, Facts, MachineFacts, NodeFacts, SettingsFacts

NOW_MS = 1_800_000_000_000
MIB = 1024 * 1024

DATABASE = DatabaseFacts(
    path=Path("/data/app.db"),
    exists=True,
    size_bytes=10 * MIB,
    wal_bytes=4 * MIB,
    free_bytes=1000 * MIB,
    journal_mode="wal",
    attached=("pages",),
    attached_for="convergent",
    cluster="home",
    sites=3,
    journal_bytes=MIB,
    stamped_ms=NOW_MS,
)
SETTINGS = SettingsFacts(
    mode="convergent",
    cluster="home",
    synchronous="full",
    beyond_loopback=True,
    secret_variety=16,
    secret_file=Path("/data/secret"),
    secret_file_open=False,
    discovery="static",
    clock_bound_ms=60_000,
    journal_max_bytes=100 * MIB,
    declared=("pages",),
)
WELL = Facts(
    machine=MachineFacts(sqlite_version=(3, 51, 3), now_ms=NOW_MS),
    database=DATABASE,
    settings=SETTINGS,
    node=NodeFacts(peers_up=2, peers_known=2),
)
BARE = replace(WELL, settings=None, node=None)
"""Of a database alone."""


def database(**other: Any) -> Facts:
    return replace(WELL, database=replace(DATABASE, **other))


def bare(**other: Any) -> Facts:
    return replace(BARE, database=replace(DATABASE, **other))


def settings(**other: Any) -> Facts:
    return replace(WELL, settings=replace(SETTINGS, **other))


def machine(**other: Any) -> Facts:
    return replace(WELL, machine=replace(WELL.machine, **other))


def node(**other: Any) -> Facts:
    return replace(WELL, node=NodeFacts(**{"peers_up": 1, "peers_known": 1, **other}))


def alone(found: tuple[int, int] | None, **other: Any) -> Facts:
    """The node does not run."""
    return replace(settings(**other), node=None, found=found)


ADVICE, UNWISE, WRONG = Gravity.ADVICE, Gravity.UNWISE, Gravity.WRONG

FOUND: list[tuple[Check, Facts, Gravity, str]] = [
    (checks.sqlite_library, machine(sqlite_version=(3, 34, 1)), WRONG, "3.34.1"),
    (checks.sqlite_library, machine(sqlite_version=(3, 51, 2)), ADVICE, "corrupt"),
    (checks.machine_clock, machine(now_ms=1_000), WRONG, "before 2025"),
    (checks.stamps_ahead, database(stamped_ms=NOW_MS + 60_001), WRONG, "60 s after"),
    (checks.stamps_ahead, bare(stamped_ms=NOW_MS + 600_000), WRONG, "600 s after"),
    (checks.stamps_ahead, database(set_aside=True), WRONG, "stamped"),
    (checks.database_file, bare(exists=False), WRONG, "no file at /data/app.db"),
    (checks.database_file, database(exists=False), ADVICE, "yet"),
    (checks.database_file, database(problem="file is not a database"), WRONG, "file is not a database"),
    (checks.database_file, database(newer_format=99, attached=(), uncaptured=("pages",)), WRONG, "newer Litecast"),
    (checks.journal_mode, database(journal_mode="delete"), UNWISE, "delete"),
    (checks.journal_mode, bare(journal_mode="delete", attached=()), ADVICE, "delete"),
    (checks.capture_triggers, database(uncaptured=("pages",)), WRONG, "triggers of pages"),
    (checks.tables_gone, database(gone=("pages",)), WRONG, "pages"),
    (checks.held_values, database(held=(("no such column here", 7),)), UNWISE, "7 because: no such column here"),
    (checks.held_values, database(waiting_tables=("news",)), UNWISE, "changes of table news"),
    (checks.orphan_rows, database(orphans=(("notes", 3),)), UNWISE, "3 in notes"),
    (checks.forked_sites, database(forked_sites=1), ADVICE, "1 sites were forked"),
    (checks.many_sites, database(sites=1_000), UNWISE, "1000 sites"),
    (checks.pending_log, database(pending=100_000), UNWISE, "100000 writes"),
    (checks.pending_log, bare(pending=100_000), ADVICE, "100000 writes"),
    (checks.log_size, database(wal_bytes=256 * MIB), UNWISE, "256 MiB"),
    (checks.journal_size, database(journal_bytes=201 * MIB), UNWISE, "201 MiB"),
    (checks.disk_space, database(free_bytes=63 * MIB), WRONG, "63 MiB are free"),
    (checks.disk_space, database(size_bytes=2000 * MIB), UNWISE, "less than the database"),
    (checks.disk_space, database(exists=False, free_bytes=0), WRONG, "0 MiB are free"),
    (
        checks.settings,
        Facts(machine=WELL.machine, settings_problem="the secret has 5 characters"),
        WRONG,
        "5 characters",
    ),
    (checks.settings_warnings, settings(warnings=("look at this",)), UNWISE, "look at this"),
    (checks.secret, settings(secret_variety=None), WRONG, "no secret"),
    (checks.secret, settings(secret_variety=9), UNWISE, "guessed"),
    (checks.secret, settings(secret_file_open=True), UNWISE, "every user"),
    (checks.synchronous, settings(synchronous="normal"), ADVICE, "power cut"),
    (checks.nothing_attached, bare(attached=()), ADVICE, "no table"),
    (checks.nothing_attached, settings(declared=("pages", "news")), UNWISE, "news"),
    (checks.nothing_attached, settings(mode="primary", declared=("pages", "news")), UNWISE, "news"),
    (checks.another_mode, settings(mode="none"), UNWISE, "sent to nobody"),
    (checks.another_mode, settings(mode="naive"), WRONG, "for mode convergent, and [replication] mode is naive"),
    (checks.another_mode, database(attached_for="primary"), WRONG, "the node does not start"),
    (checks.another_cluster, database(cluster="away"), WRONG, "belongs to cluster away"),
    (checks.discovery, settings(discovery="none"), ADVICE, "looks for nobody"),
    (checks.discovery, node(peers_up=0, peers_known=3), UNWISE, "of 3 known"),
    (checks.discovery, alone((2, 0)), UNWISE, "gives 2 addresses"),
    (checks.standing_still, node(problem="merging stands still: disk full"), WRONG, "disk full"),
    (checks.backup, node(backup_problem="the store is down"), WRONG, "nothing is uploaded to the backup: the store"),
    (checks.backup, node(backup_journal_used=0.8), WRONG, "takes 80% of what the journal keeps"),
    (checks.refused_tables, node(refused=("table news has no key",)), WRONG, "news has no key"),
]

PASSED: list[tuple[Check, Facts]] = [
    (checks.stamps_ahead, database(stamped_ms=NOW_MS + 60_000)),
    (checks.stamps_ahead, settings(clock_bound_ms=10_000)),
    (checks.journal_size, database(journal_bytes=200 * MIB)),
    (checks.journal_size, bare(journal_bytes=5000 * MIB)),
    (checks.disk_space, database(free_bytes=None)),
    (checks.disk_space, database(free_bytes=64 * MIB)),
    (checks.secret, settings(secret_variety=None, beyond_loopback=False)),
    (checks.nothing_attached, settings(mode="naive", declared=("news",))),
    (checks.nothing_attached, settings(declared=())),
    (checks.another_mode, bare(attached_for="primary")),
    (checks.another_mode, database(attached_for="", attached=())),
    (checks.another_cluster, bare(cluster="away")),
    (checks.another_cluster, replace(settings(mode="none"), database=replace(DATABASE, cluster="away"))),
    (checks.discovery, alone((2, 1))),
    (checks.discovery, alone(None, discovery="zeroconf")),
    (checks.discovery, settings(mode="none", discovery="none")),
    (checks.discovery, node(peers_up=1, peers_known=5)),
    (checks.log_size, database(wal_bytes=256 * MIB - 1)),
    (checks.many_sites, database(sites=999)),
    (checks.pending_log, database(pending=99_999)),
    (checks.machine_clock, machine(now_ms=checks.EARLIEST_MS)),
]


@pytest.mark.parametrize(("check", "facts", "gravity", "said"), FOUND, ids=lambda value: getattr(value, "__name__", ""))
def test_a_check_finds_what_it_is_for_and_says_what_to_do(
    check: Check, facts: Facts, gravity: Gravity, said: str
) -> None:
    found = check(facts)
    assert found is not None
    assert (found.gravity, found.check) == (gravity, check.__name__.replace("_", " "))
    assert said in found.what
    assert len(found.remedy) > 10


@pytest.mark.parametrize(("check", "facts"), PASSED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_check_lets_pass_what_is_just_well(check: Check, facts: Facts) -> None:
    assert check(facts) is None


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("facts", [WELL, BARE, Facts(machine=WELL.machine)], ids=["a node", "a database", "nothing"])
def test_no_check_finds_anything_where_all_is_well(check: Check, facts: Facts) -> None:
    assert check(facts) is None


def test_each_check_is_shown_to_find_something() -> None:
    assert {check for check, *_ in FOUND} == set(CHECKS)


def test_what_cannot_be_read_is_said_once() -> None:
    (found,) = judged(bare(problem="it is locked", journal_mode="", uncaptured=("pages",)))
    assert found.check == "database file"


def test_the_gravest_comes_first() -> None:
    found = judged(replace(database(uncaptured=("pages",), orphans=(("notes", 1),), forked_sites=2)))
    assert [one.gravity for one in found] == [WRONG, UNWISE, ADVICE]
