"""Attach: from an SQLite database of anybody's to one whose tables are captured.

Attach looks first and writes afterwards. All that speaks against any of the tables is gathered and raised at once, with
the database as it was. Then one transaction makes state, catalogue, logs, clocks, triggers, and the baseline, which is
the changeset of the rows that are there already. Other processes may write all the while: a row is either in the
baseline or captured.
"""

import secrets
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from replication.engine import baseline, capture, catalogue, fence, forwarded, held, refusals, state, tails
from replication.engine.catalogue import MergeRule
from replication.engine.detaching import NOTE, detach_table
from replication.engine.detaching import detach as detach
from replication.engine.journal_mode import IN_MEMORY, journal_mode, set_journal_mode
from replication.engine.mending import gate
from replication.engine.planning import Plan, as_merge_sees_it, declare, make_plan, of_database, refuse
from replication.engine.refusals import AttachRefused
from replication.engine.refusals import TableChoice as TableChoice
from replication.engine.stamps import Site
from replication.engine.transacting import transaction
from replication.tables import quoted

_NONCE_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachedTable:
    """What became of one choice."""

    name: str
    counters: tuple[str, ...]
    rule: MergeRule
    rows: int
    """Rows in the baseline: those that were there. 0 if it was attached before."""
    was_attached: bool
    local_triggers: bool
    """The application's triggers on it run on every node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachReport:
    """What attach did."""

    cluster: str
    tables: tuple[AttachedTable, ...]
    journal_mode_found: str
    """The journal mode before anything was attached, which detach brings back."""


def is_attached(connection: sqlite3.Connection) -> bool:
    """Whether anything of the database is attached."""
    return catalogue.is_there(connection)


def check(
    connection: sqlite3.Connection, choices: Sequence[TableChoice], *, cluster: str, one_writer: bool = False
) -> AttachReport:
    """What `attach` would report, with nothing changed. Raises what it would raise."""
    with as_merge_sees_it(connection), _looking(connection):
        plan = make_plan(connection, choices, cluster, one_writer=one_writer)
        found = state.read(connection)
        new = [
            AttachedTable(
                name=choice.name,
                counters=choice.counters,
                rule=choice.rule,
                rows=_count(connection, choice.name),
                was_attached=False,
                local_triggers=choice.name in plan.local,
            )
            for choice in plan.new
        ]
        known = [
            AttachedTable(
                name=spec.name,
                counters=spec.counters,
                rule=choice.rule,
                rows=0,
                was_attached=True,
                local_triggers=spec.name in plan.local,
            )
            for spec, choice in plan.known
        ]
        return AttachReport(
            cluster=cluster,
            tables=(*new, *known),
            journal_mode_found=journal_mode(connection) if found is None else found.journal_mode_found,
        )


def attach(
    connection: sqlite3.Connection,
    choices: Sequence[TableChoice],
    *,
    cluster: str,
    new_site: Callable[[], Site],
    one_writer: bool = False,
) -> AttachReport:
    """Attaches these tables to the cluster. What is attached already, with the same counters, stays as it is.

    `one_writer`: for mode primary, in which one node writes at a time: all tables are attached so, or none.

    The connection is in autocommit mode, with no transaction open; its authorizer is removed. `new_site` is asked for
    the database's site when nothing of it was attached before. Raises AttachRefused, with nothing changed, and
    sqlite3.OperationalError if the write lock cannot be had within the connection's busy timeout.
    """
    if connection.in_transaction:
        raise RuntimeError("a transaction is open on the connection: attach makes its own")
    with as_merge_sees_it(connection):
        with _looking(connection):
            plan = make_plan(connection, choices, cluster, one_writer=one_writer)
        mode_before = journal_mode(connection)
        if not plan.changes_anything:
            return _report(connection, plan, {}, cluster)
        _use_wal(connection, mode_before)
        try:
            with transaction(connection):
                # Somebody may have changed the schema in between.
                plan = make_plan(connection, choices, cluster, one_writer=one_writer)
                rows = _attach(connection, plan, cluster, new_site, mode_before, one_writer=one_writer)
                return _report(connection, plan, rows, cluster)
        except BaseException:
            set_journal_mode(connection, mode_before)
            raise


def begin_without_tables(
    connection: sqlite3.Connection, *, cluster: str, new_site: Callable[[], Site], one_writer: bool = False
) -> None:
    """Makes the database one of the cluster's with no table attached, unless it is one: what peers send is held then.

    Upgrades what an older Litecast attached. Raises as `attach` does: for a database of another cluster, too."""
    with as_merge_sees_it(connection):
        with _looking(connection):
            refuse(of_database(connection, cluster, one_writer=one_writer))
        if is_attached(connection) and catalogue.is_one_writer(connection) is one_writer:
            state.upgrade(connection)
            return
        mode_before = journal_mode(connection)
        _use_wal(connection, mode_before)
        try:
            with transaction(connection):
                make_plan(connection, [], cluster, one_writer=one_writer)
                _begin_with(connection, cluster, new_site, mode_before, one_writer=one_writer)
        except BaseException:
            set_journal_mode(connection, mode_before)
            raise


def _attach(
    connection: sqlite3.Connection,
    plan: Plan,
    cluster: str,
    new_site: Callable[[], Site],
    mode_before: str,
    *,
    one_writer: bool,
) -> Mapping[str, int]:
    """Makes everything, and gives the number of rows in the baseline of each new table."""
    _begin_with(connection, cluster, new_site, mode_before, one_writer=one_writer)
    state.upgrade_inside(connection)
    for spec, choice in plan.known:
        catalogue.set_rule(connection, spec, choice.rule)
        declare(connection, spec, choice)
    rows: dict[str, int] = {}
    _forget_former(connection, plan)
    for choice in plan.new:
        spec = catalogue.add(connection, name=choice.name, counters=choice.counters, rule=choice.rule)
        declare(connection, spec, choice)
        catalogue.raise_floor(connection, spec, held.take_floor(connection, choice.name))
        if choice.name in plan.local:
            catalogue.set_local_triggers(connection, spec, True)
            spec = catalogue.load(connection)[choice.name]
        for statement in capture.create_statements(spec):
            connection.execute(statement)
        rows[choice.name] = _count(connection, choice.name)
    gate(connection)  # those that were attached before may have local triggers no more
    specs = catalogue.load(connection)
    baseline.take(connection, [specs[choice.name] for choice in plan.new])
    fence.mend(connection)
    return rows


def _forget_former(connection: sqlite3.Connection, plan: Plan) -> None:
    """Tables of these names that were attached and are gone, or got another key: they are other tables now."""
    names = {choice.name.lower() for choice in plan.new}
    for tid, name in catalogue.names(connection).items():
        if name.lower() in names:
            detach_table(connection, tid)


def _begin_with(
    connection: sqlite3.Connection,
    cluster: str,
    new_site: Callable[[], Site],
    mode_before: str,
    *,
    one_writer: bool,
) -> None:
    """What there has to be of a database before its first table; nothing where it is there."""
    if not is_attached(connection):
        _begin_state(connection, cluster, new_site, mode_before)
    if one_writer and not catalogue.is_one_writer(connection):
        fence.create(connection)
        connection.execute(tails.CREATE)
        forwarded.create(connection)


def _begin_state(connection: sqlite3.Connection, cluster: str, new_site: Callable[[], Site], mode_before: str) -> None:
    format_found, mode_before = _found(connection, mode_before)
    state.create(
        connection,
        cluster=cluster,
        site=new_site(),
        nonce=secrets.token_bytes(_NONCE_BYTES),
        journal_mode_found=mode_before,
    )
    for statement in (*catalogue.CREATE, capture.CREATE_MERGING):
        connection.execute(statement)
    connection.execute(f"CREATE TABLE {NOTE} (format_found INTEGER)")
    connection.execute(f"INSERT INTO main.{NOTE} (format_found) VALUES (?)", (format_found,))


def _report(connection: sqlite3.Connection, plan: Plan, rows: Mapping[str, int], cluster: str) -> AttachReport:
    specs = catalogue.load(connection)
    names = [choice.name for choice in plan.new] + [spec.name for spec, _ in plan.known]
    found = state.read(connection)
    return AttachReport(
        cluster=cluster,
        tables=tuple(
            AttachedTable(
                name=name,
                counters=specs[name].counters,
                rule=specs[name].rule,
                rows=rows.get(name, 0),
                was_attached=name not in rows,
                local_triggers=specs[name].local_triggers,
            )
            for name in names
        ),
        journal_mode_found=found.journal_mode_found if found is not None else journal_mode(connection),
    )


def _count(connection: sqlite3.Connection, table: str) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM main.{quoted(table)}").fetchone()
    return int(count)


def _found(connection: sqlite3.Connection, mode_now: str) -> tuple[int | None, str]:
    """What a node noted that opened the database before anything was attached, None if none did; and the journal mode
    of before. What the run that attaches it opened it with was not there before."""
    plain = state.plain(connection)
    if plain is None:
        return None, mode_now
    form, mode_found = plain
    return (form, mode_now) if mode_found is None else (None, mode_found)


def _use_wal(connection: sqlite3.Connection, mode: str) -> None:
    if mode not in ("wal", IN_MEMORY):
        (now,) = connection.execute("PRAGMA main.journal_mode = WAL").fetchone()
        if now != "wal":
            raise AttachRefused([refusals.no_wal(now)])


@contextmanager
def _looking(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
