"""Attaching what the settings declare: the tables that exist, and the others as soon as they do.

`litecast attach` is all or nothing, since a person stands by it. A node that starts has nobody to ask: it attaches what
can be attached, and says what cannot. So the tables that a refusal names are left out, and the others are tried again
without them. Where it names none of these (a table that was attached before has triggers that would then write attached
tables and others as well), the tables are tried one by one, in the order in which they are declared.

This is called at each start and whenever the schema has changed. Where there is nothing to do it only reads, and takes
no lock.
"""

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from replication.declared import TableDeclaration
from replication.engine import catalogue, state
from replication.engine.attaching import AttachedTable, attach, check
from replication.engine.description import TableKind, describe
from replication.engine.planning import as_merge_sees_it, is_as_chosen, of_format
from replication.engine.refusals import AttachRefused, Refusal, TableChoice
from replication.engine.stamps import Site


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachOutcome:
    """What became of the tables that are declared. One that is nowhere in it was attached before, as declared."""

    attached: tuple[AttachedTable, ...] = ()
    """Attached by this call. With `was_attached`: it was before, and only its merge rule is another now, or what is
    declared of columns to come."""
    missing: tuple[str, ...] = ()
    """Declared, and not there yet."""
    refusals: tuple[Refusal, ...] = ()
    """Why others are not attached, or not as they are declared. One with an empty `table` is why none is."""


def attach_declared(
    connection: sqlite3.Connection,
    declared: Sequence[TableDeclaration],
    *,
    cluster: str,
    new_site: Callable[[], Site],
    one_writer: bool = False,
) -> AttachOutcome:
    """Attaches, in one transaction, those tables that exist and are not attached as declared.

    `connection` and `new_site` are as `attach` wants them. Others may have the database open meanwhile, and write, if
    it is in WAL mode already. Raises sqlite3.OperationalError, with nothing changed, if the write lock cannot be had
    within the connection's busy timeout: it can be called again then.
    """
    choices = [declaration.choice for declaration in declared]
    with as_merge_sees_it(connection):
        missing = [choice.name for choice in choices if describe(connection, choice.name).kind is TableKind.MISSING]
        wanted = _not_as_chosen(connection, [choice for choice in choices if choice.name not in missing], cluster)
    attached: tuple[AttachedTable, ...] = ()
    refusals: list[Refusal] = []
    while wanted:
        try:
            attached = attach(connection, wanted, cluster=cluster, new_site=new_site, one_writer=one_writer).tables
            break
        except AttachRefused as refused:
            wanted, against = _without_refused(connection, wanted, cluster, refused.refusals, one_writer)
            refusals += against
    return AttachOutcome(attached=attached, missing=tuple(missing), refusals=tuple(refusals))


def _not_as_chosen(connection: sqlite3.Connection, choices: Sequence[TableChoice], cluster: str) -> list[TableChoice]:
    """What attach has something to do for, or to say of."""
    if of_format(connection):
        return list(choices)
    found = state.read(connection)
    if found is None or found.cluster != cluster:
        return list(choices)
    specs = {name.lower(): spec for name, spec in catalogue.load(connection).items()}
    return [
        choice
        for choice in choices
        if (spec := specs.get(choice.name.lower())) is None or not is_as_chosen(connection, spec, choice)
    ]


def _without_refused(
    connection: sqlite3.Connection,
    choices: Sequence[TableChoice],
    cluster: str,
    refusals: Sequence[Refusal],
    one_writer: bool,
) -> tuple[list[TableChoice], list[Refusal]]:
    """The choices that may do without the others, and what speaks against the others."""
    refused = {refusal.table.lower() for refusal in refusals}
    if "" in refused:
        return [], list(refusals)
    left = [choice for choice in choices if choice.name.lower() not in refused]
    if len(left) < len(choices):
        return left, [refusal for refusal in refusals if refusal.table.lower() in _names(choices)]
    return _one_by_one(connection, choices, cluster, one_writer)


def _one_by_one(
    connection: sqlite3.Connection, choices: Sequence[TableChoice], cluster: str, one_writer: bool
) -> tuple[list[TableChoice], list[Refusal]]:
    accepted: list[TableChoice] = []
    refusals: list[Refusal] = []
    for choice in choices:
        try:
            check(connection, [*accepted, choice], cluster=cluster, one_writer=one_writer)
            accepted.append(choice)
        except AttachRefused as refused:
            refusals += [_because_of(choice, refusal) for refusal in refused.refusals]
    return accepted, refusals


def _because_of(choice: TableChoice, refusal: Refusal) -> Refusal:
    """A refusal of another table, as one of the table that is to blame."""
    if refusal.table.lower() == choice.name.lower():
        return refusal
    return replace(refusal, table=choice.name, reason=f"with it, of table {refusal.table}: {refusal.reason}")


def _names(choices: Sequence[TableChoice]) -> set[str]:
    return {choice.name.lower() for choice in choices}
