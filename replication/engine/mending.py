"""After the schema has changed: capture as it should be again.

A migration that rebuilds a table drops its triggers with the old one; an application may add triggers that write what
is not attached. Whoever finds `schema_version` changed calls `mend` before anything else, in its own transaction, and
then compares the tables that had lost triggers row by row: what was written meanwhile is in no log.
"""

import sqlite3
from dataclasses import dataclass

from replication.engine import catalogue, fence
from replication.engine.application_triggers import Triggers, TriggerWrites, written_by_triggers
from replication.engine.capture import drop_trigger_statements, is_complete, trigger_statements
from replication.engine.catalogue import TableSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """What was found."""

    uncaptured: frozenset[str]
    """Tables that had not all of their triggers: writes to them may be in no log. They have them again."""
    mixed: frozenset[str]
    """Tables whose application triggers write attached tables and others as well, which attach would have refused. They
    are merged with triggers off: what these triggers write into tables that are not attached is then missing here."""


def mend(connection: sqlite3.Connection) -> Mended:
    """Puts capture triggers back where they are missing, and gates those that have to be. Inside a transaction.

    Writes nothing if all is as it should be. Removes the connection's authorizer.
    """
    uncaptured = frozenset(
        name for name, spec in catalogue.load(connection).items() if not is_complete(connection, spec)
    )
    mixed = gate(connection)
    for name, spec in catalogue.load(connection).items():
        if name in uncaptured:
            _make_triggers(connection, spec)
    fence.mend(connection)
    return Mended(uncaptured=uncaptured, mixed=mixed)


def gate(connection: sqlite3.Connection) -> frozenset[str]:
    """Gates the capture triggers that have to be, and only these; gives the names of the tables with a mixture.

    Inside a transaction. Where triggers are missing it puts none back: whoever does that has to know that they were.
    Writes nothing if all is as it should be. Removes the connection's authorizer.
    """
    specs = catalogue.load(connection)
    names = frozenset(name.lower() for name in specs)
    mixed: set[str] = set()
    for name, spec in specs.items():
        written = _triggers_of(connection, spec)
        if written is None:
            continue
        verdict = written.classified(names)
        if verdict is Triggers.MIXED:
            mixed.add(name)
        local = verdict is Triggers.LOCAL
        if spec.local_triggers != local:
            whole = is_complete(connection, spec)
            catalogue.set_local_triggers(connection, spec, local)
            if whole:
                _make_triggers(connection, catalogue.load(connection)[name])
    return frozenset(mixed)


def _make_triggers(connection: sqlite3.Connection, spec: TableSpec) -> None:
    for statement in (*drop_trigger_statements(spec.tid), *trigger_statements(spec)):
        connection.execute(statement)


def _triggers_of(connection: sqlite3.Connection, spec: TableSpec) -> TriggerWrites | None:
    """What the application's triggers on the table write, or None if a write to it cannot be prepared just now."""
    try:
        return written_by_triggers(connection, spec.name, (*spec.key, *spec.cells, *spec.counters))
    except sqlite3.OperationalError:
        return None
