"""What attach is about to do, after all that could speak against it has been looked at."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from replication.engine import catalogue, refusals, renaming, state
from replication.engine.application_triggers import Triggers
from replication.engine.catalogue import TableSpec
from replication.engine.columns import Columns
from replication.engine.description import Described, count_unusable, describe
from replication.engine.refusals import AttachRefused, Refusal, TableChoice
from replication.engine.renaming import Names

_MERGE_PRAGMAS = {"foreign_keys": 0, "ignore_check_constraints": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done."""

    new: tuple[TableChoice, ...]
    """With names and counters as the schema spells them."""
    known: tuple[tuple[TableSpec, TableChoice], ...]
    """What is attached already, and how it shall be from now on."""
    news: frozenset[str]
    """Names of those of them that are not so yet."""
    local: frozenset[str]
    """All tables, new and known, whose triggers will be local."""

    @property
    def changes_anything(self) -> bool:
        """False if everything is attached as it should be."""
        return bool(self.new or self.news)


def make_plan(
    connection: sqlite3.Connection, choices: Sequence[TableChoice], cluster: str, *, one_writer: bool = False
) -> Plan:
    """What attaching these tables takes. In a write transaction, in which nothing is changed.

    Raises AttachRefused with all that speaks against it.
    """
    specs = {name.lower(): spec for name, spec in catalogue.load(connection).items()}
    found = of_database(connection, cluster, one_writer=one_writer)
    new: list[tuple[Described, TableChoice]] = []
    known: list[tuple[TableSpec, TableChoice]] = []
    seen: set[str] = set()
    for choice in choices:
        if choice.name.lower() in seen:
            found.append(refusals.named_twice(choice.name))
            continue
        seen.add(choice.name.lower())
        spec = specs.get(choice.name.lower())
        if spec is None:
            described = describe(connection, choice.name)
            new.append((described, _as_named_here(described, choice)))
            continue
        found += of_attached(connection, spec, choice)
        if spec.rule is not choice.rule and not one_writer:
            found += refusals.of_rule(describe(connection, spec.name), choice)
        known.append((spec, choice))
    for described, choice in new:
        against = refusals.of_table(described, choice, one_writer=one_writer)
        found += against or _of_values(connection, described, choice)
    triggers = {described.name: described.triggers for described, _ in new if described.triggers is not None}
    triggers |= {
        spec.name: described.triggers
        for spec in specs.values()
        if (described := describe(connection, spec.name)).triggers is not None
    }
    attached = {*specs, *(described.name.lower() for described, _ in new)}
    # A table that an application's new trigger has made a mixture of keeps no other table from being attached.
    mixed_before = {
        name
        for name, written in triggers.items()
        if name.lower() in specs and name.lower() not in seen and written.classified(set(specs)) is Triggers.MIXED
    }
    found += refusals.of_triggers(
        {name: written for name, written in triggers.items() if name not in mixed_before}, attached
    )
    refuse(found)
    return Plan(
        new=tuple(_spelt(described, choice) for described, choice in new),
        known=tuple(known),
        news=frozenset(spec.name for spec, choice in known if not is_as_chosen(connection, spec, choice)),
        local=frozenset(name for name, written in triggers.items() if written.classified(attached) is Triggers.LOCAL),
    )


def of_attached(connection: sqlite3.Connection, spec: TableSpec, choice: TableChoice) -> list[Refusal]:
    """What speaks against the choice for a table that is attached already."""
    columns = Columns(connection, spec.tid)
    return refusals.of_attached(spec, choice, [name for name in spec.cells if columns.is_cell(name)])


def is_as_chosen(connection: sqlite3.Connection, spec: TableSpec, choice: TableChoice) -> bool:
    """Whether it is attached just so, and what the choice says of columns to come is noted."""
    if spec.rule is not choice.rule or of_attached(connection, spec, choice):
        return False
    if not choice.may_be_ahead:
        return True
    return {counter.lower() for counter in choice.all_counters} <= catalogue.declared_counters(
        connection, spec.tid
    ) and renaming.load(connection, spec.tid).renamed == choice.renamed


def declare(connection: sqlite3.Connection, spec: TableSpec, choice: TableChoice) -> None:
    """Notes what the choice says of columns to come."""
    if choice.may_be_ahead:
        catalogue.declare_counters(connection, spec.tid, choice.all_counters)
        renaming.declare(connection, spec.tid, choice.renamed)


def of_remaining(connection: sqlite3.Connection) -> list[Refusal]:
    """What speaks against the tables that are attached being so together, without any other."""
    names = list(catalogue.load(connection))
    triggers = {name: found for name in names if (found := describe(connection, name).triggers) is not None}
    return refusals.of_triggers(triggers, {name.lower() for name in names})


def of_format(connection: sqlite3.Connection) -> list[Refusal]:
    """What speaks against touching what a newer Litecast has written into the database."""
    if connection.execute("SELECT 1 FROM main.sqlite_master WHERE name = '_litecast_state'").fetchone() is None:
        return []
    row = connection.execute("SELECT format FROM main._litecast_state").fetchone()
    if row is None or row[0] <= state.NEWEST_FORMAT:
        return []
    return [refusals.newer_format(row[0], state.NEWEST_FORMAT)]


def refuse(found: Sequence[Refusal]) -> None:
    """Raises AttachRefused if anything was found."""
    if found:
        raise AttachRefused(found)


@contextmanager
def as_merge_sees_it(connection: sqlite3.Connection) -> Iterator[None]:
    """Foreign keys and CHECK off, as when a peer's changes are merged: a parent table may be missing.

    Rows come as plain tuples and text as str meanwhile, whatever the connection's owner wants of them. Around a
    transaction, not inside one: there SQLite ignores a change of foreign_keys.
    """
    factories = connection.row_factory, connection.text_factory
    connection.row_factory, connection.text_factory = None, str
    try:
        before = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _MERGE_PRAGMAS}
        try:
            for name, value in _MERGE_PRAGMAS.items():
                connection.execute(f"PRAGMA {name} = {value}")
            yield
        finally:
            for name, value in before.items():
                connection.execute(f"PRAGMA {name} = {value}")
    finally:
        connection.row_factory, connection.text_factory = factories


def of_database(connection: sqlite3.Connection, cluster: str, *, one_writer: bool = False) -> list[Refusal]:
    """What speaks against the database itself, whatever is attached of it. In a write transaction; changes nothing."""
    (encoding,) = connection.execute("PRAGMA encoding").fetchone()
    found = refusals.of_encoding(encoding)
    if not _can_write(connection):
        found.append(refusals.read_only())
    if newer := of_format(connection):
        return [*found, *newer]
    known = state.read(connection)
    if known is not None and known.cluster != cluster:
        found.append(refusals.other_cluster(known.cluster, cluster))
    is_one = catalogue.is_one_writer(connection)
    if is_one is not one_writer and (is_one or catalogue.names_if_there(connection)):
        found.append(refusals.one_writer(is_one=is_one))
    return found


def _can_write(connection: sqlite3.Connection) -> bool:
    """Tries it: BEGIN IMMEDIATE on a database that cannot be written only begins to read. Leaves nothing."""
    connection.execute("SAVEPOINT litecast_probe")
    try:
        connection.execute("CREATE TABLE main._litecast_probe (x)")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
            raise
        return False
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK TO litecast_probe")
            connection.execute("RELEASE litecast_probe")
    return True


def _of_values(connection: sqlite3.Connection, described: Described, choice: TableChoice) -> list[Refusal]:
    counted = [(counter, count_unusable(connection, described.name, counter)) for counter in choice.counters]
    return [refusals.of_counter_values(described.name, counter, count) for counter, count in counted if count]


def _spelt(described: Described, choice: TableChoice) -> TableChoice:
    columns = [described.column(counter) for counter in choice.counters]
    counters = dict.fromkeys(column.name for column in columns if column is not None)
    return replace(choice, name=described.name, counters=tuple(counters))


def _as_named_here(described: Described, choice: TableChoice) -> TableChoice:
    """The choice with the counters under the names that they have here, if they have had others or will."""
    names = Names(choice.renamed)
    counters = [
        next((other for other in (counter, *names.others(counter)) if described.column(other)), counter)
        for counter in choice.counters
    ]
    return replace(choice, counters=tuple(counters))
