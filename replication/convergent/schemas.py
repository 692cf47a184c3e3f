"""Which schema each node has: a few hex digits for each attached table, told to peers, and compared with theirs.

Migrations reach nodes at different times. Who has another schema is shown to people (`litecast status`); and rows that
could not be shown here, since a node with an older schema inserted them, can be asked for once it has migrated."""

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from replication.convergent.messages import NotAMessage
from replication.engine import catalogue, received
from replication.engine.values import pack

TABLES_MAX: Final = 1_000
_DIGITS: Final = 8

type Schemas = Mapping[str, str]
"""Attached tables, each with the digits of its schema."""


def schemas_of(connection: sqlite3.Connection) -> dict[str, str]:
    """The schemas as they are now. Only reads.

    Key, names, types and NOT NULL of columns count, and which of them are counters; defaults, constraints, indexes and
    the order of columns do not: they come out differently where one node was migrated and another made anew."""
    found: dict[str, str] = {}
    for name, spec in list(catalogue.load(connection).items())[:TABLES_MAX]:
        columns = connection.execute(
            "SELECT name, upper(type), \"notnull\", pk FROM pragma_table_xinfo(?, 'main')", (name,)
        ).fetchall()
        described = pack((sorted(columns), spec.counters))
        found[name] = hashlib.blake2b(described, digest_size=_DIGITS // 2).hexdigest()
    return found


def plain_schemas(schemas: Schemas) -> list[object]:
    """As it is cast: `["schemas", [[table, digits], ...]]`."""
    return ["schemas", [[table, digits] for table, digits in schemas.items()]]


def parse_schemas(message: list[Any]) -> dict[str, str]:
    """What a peer said. Raises NotAMessage."""
    try:
        _, told = message
        pairs = [(table, digits) for table, digits in received.listed(told, at_most=TABLES_MAX)]
        return {received.name(table): received.text(digits, at_most=_DIGITS) for table, digits in pairs}
    except (TypeError, ValueError) as error:
        raise NotAMessage(f"no schemas: {error}") from None


@dataclass(slots=True)
class PeerSchemas:
    """What the peers that are up said of their schemas."""

    told: dict[str, Schemas] = field(default_factory=dict[str, Schemas])
    _agreed: set[str] = field(default_factory=set[str])

    def heard(self, peer: str, schemas: Schemas) -> None:
        """A peer said which it has."""
        self.told[peer] = schemas

    def down(self, peer: str) -> None:
        """A peer is gone."""
        self.told.pop(peer, None)
        self._agreed.discard(peer)

    def differing(self, own: Schemas) -> dict[str, tuple[str, ...]]:
        """Peers that have another schema than this node, and of which tables. One that is not there is another one."""
        found = {peer: tuple(_unlike(own, theirs)) for peer, theirs in sorted(self.told.items())}
        return {peer: tables for peer, tables in found.items() if tables}

    def agreed(self, own: Schemas) -> tuple[list[str], list[str]]:
        """Peers that have the schemas of this node, and those of them that had not when this was last asked."""
        agreed = self.told.keys() - self.differing(own).keys()
        new = sorted(agreed - self._agreed)
        self._agreed = set(agreed)
        return sorted(agreed), new


def _unlike(own: Schemas, theirs: Schemas) -> Iterator[str]:
    for table in sorted({*own, *theirs}):
        if own.get(table) != theirs.get(table):
            yield table
