"""What a node is asked about its database by whoever compares nodes: plain values, and their checks.

Each question is a call to the actor `Digests`:

    ["look"]                                          how far it has merged, what is attached, has anything changed
    ["digest", tables, covered, buckets_max]          a digest of these tables
    ["rows", table, buckets, numbers, after, covered] a page of the rows in some buckets, by their hashes
    ["values", table, keys]                           what these rows hold
    ["repair", how]                                   adopt or restore what was damaged there
    ["exchange"]                                      fetch and merge all that each peer has
    ["next", ref, number]                             a later part of an answer

        tables    [[name, [column to ignore, ...], [counter, ...]], ...]; table is one of them
        covered   {site: stamp}: everybody has merged as much, so nothing older needs to be told
        after     a packed key, or None;  keys are packed as well

A scan of a large table takes seconds, and the longest answer is larger than a message. So every answer comes in parts,
and an asker may be told to ask again:

    ["part", ref, number, count, value]               one part, and how many there are
    ["working", ref]                                  not yet: ask for the next part
    ["error", text]                                   there is no answer, and why"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from replication.engine import received
from replication.engine.comparable import DigestTable
from replication.engine.digests import BUCKETS_MAX, TABLES_MAX
from replication.engine.listings import parse_key
from replication.engine.received import Malformed
from replication.engine.row_values import packed_keys, parse_keys
from replication.engine.stamps import Site, Stamp
from replication.engine.values import Key, pack

DIGESTS: Final = "Digests"
"""The actor's name on every node."""

PARTS_MAX: Final = 1_000
ERROR_MAX: Final = 1_000
MARK_MAX: Final = 200


class Repair(StrEnum):
    """What becomes of rows that were changed behind everybody's back."""

    ADOPT = "adopt"
    """They are taken for writes of this node, and sent to all."""
    RESTORE = "restore"
    """They become what they were."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskLook:
    """`["look"]`"""

    def plain(self) -> list[object]:
        """As it is asked."""
        return ["look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskDigest:
    """`["digest", ...]`"""

    tables: tuple[DigestTable, ...]
    covered: Mapping[Site, Stamp]
    buckets_max: int

    def plain(self) -> list[object]:
        """As it is asked."""
        return ["digest", [_plain_table(table) for table in self.tables], dict(self.covered), self.buckets_max]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskRows:
    """`["rows", ...]`"""

    table: DigestTable
    buckets: int
    numbers: tuple[int, ...]
    after: Key | None
    covered: Mapping[Site, Stamp]

    def plain(self) -> list[object]:
        """As it is asked."""
        after = None if self.after is None else pack(self.after)
        return ["rows", _plain_table(self.table), self.buckets, list(self.numbers), after, dict(self.covered)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskValues:
    """`["values", ...]`"""

    table: DigestTable
    keys: tuple[Key, ...]

    def plain(self) -> list[object]:
        """As it is asked."""
        return ["values", _plain_table(self.table), packed_keys(self.keys)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskRepair:
    """`["repair", ...]`"""

    how: Repair

    def plain(self) -> list[object]:
        """As it is asked."""
        return ["repair", self.how.value]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskExchange:
    """`["exchange"]`"""

    def plain(self) -> list[object]:
        """As it is asked."""
        return ["exchange"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskNext:
    """`["next", ...]`"""

    ref: int
    number: int

    def plain(self) -> list[object]:
        """As it is asked."""
        return ["next", self.ref, self.number]


type Question = AskLook | AskDigest | AskRows | AskValues | AskRepair | AskExchange
"""What there is to ask. `AskNext` only asks for more of an answer."""


def parse_question(message: object) -> Question | AskNext:
    """Raises Malformed."""
    match message:
        case ["look"]:
            return AskLook()
        case ["digest", tables, covered, buckets_max]:
            return AskDigest(
                tables=tuple(_table(table) for table in received.listed(tables, at_most=TABLES_MAX)),
                covered=received.stamps(covered),
                buckets_max=_power_of_two(buckets_max),
            )
        case ["rows", table, buckets, numbers, after, covered]:
            count = _power_of_two(buckets)
            return AskRows(
                table=_table(table),
                buckets=count,
                numbers=tuple(
                    received.whole(number, low=0, high=count - 1)
                    for number in received.listed(numbers, at_most=BUCKETS_MAX)
                ),
                after=None if after is None else parse_key(after),
                covered=received.stamps(covered),
            )
        case ["values", table, keys]:
            return AskValues(table=_table(table), keys=parse_keys(keys))
        case ["repair", str(how)] if how in set(Repair):
            return AskRepair(how=Repair(how))
        case ["exchange"]:
            return AskExchange()
        case ["next", int(ref), int(number)]:
            return AskNext(ref=ref, number=number)
        case _:
            raise Malformed("an unknown question")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a node says at a glance. `mark` is another one once anything was committed there."""

    mark: str
    vector: Mapping[Site, Stamp] = field(default_factory=dict[Site, Stamp])
    tables: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As plain values."""
        return {"mark": self.mark, "vector": dict(self.vector), "tables": list(self.tables)}

    @classmethod
    def parse(cls, value: object) -> "Look":
        """What `plain` gave. Raises Malformed."""
        mark, vector, tables = received.fields(value, "mark", "vector", "tables")
        return cls(
            mark=received.text(mark, at_most=MARK_MAX),
            vector=received.stamps(vector),
            tables=tuple(received.name(table) for table in received.listed(tables, at_most=TABLES_MAX)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of an answer."""

    ref: int
    number: int
    count: int
    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """There will be an answer."""

    ref: int


class NoAnswer(Exception):
    """The node says that it cannot answer, and why."""


def parse_answer(message: object) -> Part | Working:
    """Raises NoAnswer and Malformed."""
    match message:
        case ["part", int(ref), int(number), int(count), value] if 0 <= number < count <= PARTS_MAX:
            return Part(ref=ref, number=number, count=count, value=value)
        case ["working", int(ref)]:
            return Working(ref=ref)
        case ["error", str(text)]:
            raise NoAnswer(text[:ERROR_MAX])
        case _:
            raise Malformed("not an answer")


def _plain_table(table: DigestTable) -> list[object]:
    return [table.name, list(table.ignore), list(table.counters)]


def _table(value: object) -> DigestTable:
    match value:
        case [name, ignore, counters]:
            return DigestTable(
                name=received.name(name),
                ignore=received.distinct_names(ignore),
                counters=received.distinct_names(counters),
            )
        case _:
            raise Malformed("not a table to compare")


def _power_of_two(value: object) -> int:
    number = received.whole(value, low=1, high=BUCKETS_MAX)
    if number & (number - 1):
        raise Malformed("the number of buckets is no power of two")
    return number
