"""What merging cannot keep, why, and the way out. Each reason stands in docs/attach.md under its `code`.

Pure: everything is decided from descriptions. All reasons are given at once, and before anything is changed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from replication.engine.application_triggers import Triggers, TriggerWrites
from replication.engine.catalogue import MergeRule, TableSpec
from replication.engine.description import COUNTER_LIMIT, Column, Described, TableKind
from replication.engine.renaming import Names
from replication.errors import ReplicationError

_PRIMARY_MODE = "or run the cluster in primary mode, where one node writes at a time"


class RefusalCode(StrEnum):
    """The reasons, by the names under which docs/attach.md explains them."""

    NOT_FOUND = "not-found"
    NOT_A_TABLE = "not-a-table"
    NAMED_TWICE = "named-twice"
    NO_KEY = "no-primary-key"
    HANDED_OUT_KEY = "key-from-sqlite"
    NULLABLE_KEY = "nullable-key"
    KEY_COLLATION = "key-collation"
    UNIQUE = "unique"
    UNIQUE_EXPRESSION = "unique-expression"
    CHECK_ACROSS_COLUMNS = "check-across-columns"
    NO_SUCH_COUNTER = "no-such-counter"
    COUNTER_TYPE = "counter-type"
    COUNTER_IN_KEY = "counter-in-key"
    COUNTER_GENERATED = "counter-generated"
    COUNTER_IN_CHECK = "counter-in-check"
    COUNTER_VALUES = "counter-values"
    TRIGGERS_MIXED = "mixed-triggers"
    UNPREPARABLE = "cannot-be-written"
    ATTACHED_OTHERWISE = "attached-otherwise"
    ENCODING = "encoding"
    READ_ONLY = "read-only"
    OTHER_CLUSTER = "other-cluster"
    NEWER_LITECAST = "newer-litecast"
    NO_WAL = "no-wal"
    ONE_WRITER = "one-writer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason against attaching one table, or, with an empty `table`, against anything in this database."""

    table: str
    code: RefusalCode
    reason: str
    way_out: str

    def __str__(self) -> str:
        about = f"table {self.table}: " if self.table else ""
        return f"{about}{self.reason}; {self.way_out}"


class AttachRefused(ReplicationError):
    """Merging cannot keep what was to be attached. Nothing was changed. `refusals` are all the reasons."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        super().__init__("; ".join(map(str, self.refusals)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChoice:
    """A table that is to be attached, and how."""

    name: str
    counters: tuple[str, ...] = ()
    """Columns in which what each node adds is added up, instead of the last write winning."""
    rule: MergeRule = MergeRule.CELL
    shared_ids: bool = False
    """The application chooses the table's integer keys, and no two nodes choose one twice."""
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    """Old names of columns, each with the new one."""
    may_be_ahead: bool = False
    """It speaks of a schema that may be the next one: of counters, and of names, that are not there yet."""

    @property
    def all_counters(self) -> frozenset[str]:
        """The counters under all names that they have, had, or will have."""
        names = Names(self.renamed)
        return frozenset(other for counter in self.counters for other in (counter, *names.others(counter)))


def of_table(described: Described, choice: TableChoice, *, one_writer: bool = False) -> list[Refusal]:
    """What speaks against a table that is not attached yet, but for its triggers and the counters' values.

    `one_writer`: one node writes at a time, so that what two could break together cannot be broken."""
    if described.kind is not TableKind.TABLE:
        return [_of_kind(described)]
    found = [
        *_of_key(described, choice, one_writer=one_writer),
        *(_of_unique_expression if one_writer else _of_unique)(described),
        *([] if one_writer else _of_checks(described, choice)),
    ]
    for counter in choice.counters:
        found += _of_counter(described, counter)
    if described.unpreparable:
        found.append(
            Refusal(
                table=described.name,
                code=RefusalCode.UNPREPARABLE,
                reason=f"SQLite cannot prepare a write to it here ({described.unpreparable})",
                way_out="mend the trigger, index or column that asks for what is missing, or take it out; functions "
                "that only the application defines are not known to other programs",
            )
        )
    return found


def of_triggers(written: Mapping[str, TriggerWrites], attached: Collection[str]) -> list[Refusal]:
    """What speaks against these tables being attached together.

    `written` has, for each of them, what its triggers write; `attached` are all that are or will be attached. Names of
    written and of attached tables are in lower case.
    """
    return [
        _of_mixture(table, triggers, attached)
        for table, triggers in written.items()
        if triggers.classified(attached) is Triggers.MIXED
    ]


def of_counter_values(table: str, counter: str, rows: int) -> Refusal:
    """What speaks against a counter in which that many rows hold no usable value."""
    return Refusal(
        table=table,
        code=RefusalCode.COUNTER_VALUES,
        reason=f"counter {counter} holds, in {rows} row(s), what is no integer between -{COUNTER_LIMIT} and "
        f"{COUNTER_LIMIT} (2 to the power of 53)",
        way_out=f"put integers there, or attach it without counter {counter}",
    )


def of_attached(spec: TableSpec, choice: TableChoice, cells: Collection[str] = ()) -> list[Refusal]:
    """What speaks against the choice for a table that is attached already: other counters than it has.

    `cells`: columns that were no counters when the schema was last looked at. A column that nobody has looked at yet,
    or that is not there yet, may still become a counter, if the choice may be ahead.
    """
    known, wanted = _lower(spec.counters), _lower(choice.all_counters)
    if known == _lower(choice.counters):
        return []
    if choice.may_be_ahead and known <= wanted and _lower(cells).isdisjoint(wanted):
        return []
    has = ", ".join(spec.counters) or "none"
    return [
        Refusal(
            table=spec.name,
            code=RefusalCode.ATTACHED_OTHERWISE,
            reason=f"it is attached with other counters ({has})",
            way_out="keep these, or stop the nodes, detach the table on every node and attach it again there",
        )
    ]


def _lower(names: Iterable[str]) -> set[str]:
    return {name.lower() for name in names}


def of_rule(described: Described, choice: TableChoice) -> list[Refusal]:
    """What speaks against another merge rule for a table that is attached already."""
    return _of_checks(described, choice)


def named_twice(name: str) -> Refusal:
    """A table stands in the choices more than once."""
    return Refusal(
        table=name,
        code=RefusalCode.NAMED_TWICE,
        reason="it is named more than once",
        way_out="name it once, with all of its counters",
    )


def of_encoding(encoding: str) -> list[Refusal]:
    """What speaks against a database with this encoding."""
    if encoding == "UTF-8":
        return []
    return [
        Refusal(
            table="",
            code=RefusalCode.ENCODING,
            reason=f"the database's text is encoded in {encoding}, and only UTF-8 travels unchanged",
            way_out="make a new database with PRAGMA encoding = 'UTF-8' and load a .dump of this one into it",
        )
    ]


def read_only() -> Refusal:
    """The database cannot be written."""
    return Refusal(
        table="",
        code=RefusalCode.READ_ONLY,
        reason="the database cannot be written",
        way_out="make the file and its folder writable for this user",
    )


def one_writer(*, is_one: bool) -> Refusal:
    """Tables are attached for the other kind of mode."""
    found, wanted = ("primary", "convergent") if is_one else ("convergent", "primary")
    return Refusal(
        table="",
        code=RefusalCode.ONE_WRITER,
        reason=f"the database's tables are attached for mode {found}, and this is to be mode {wanted}",
        way_out="stop the nodes, detach the database on each of them and attach it again, or keep the mode",
    )


def other_cluster(found: str, wanted: str) -> Refusal:
    """The database carries another cluster's id."""
    return Refusal(
        table="",
        code=RefusalCode.OTHER_CLUSTER,
        reason=f"the database belongs to cluster {found}, not to {wanted}",
        way_out=f"name that cluster, or detach the database first if it shall leave {found}",
    )


def newer_format(found: object, known: int) -> Refusal:
    """A newer Litecast wrote its tables in the database."""
    return Refusal(
        table="",
        code=RefusalCode.NEWER_LITECAST,
        reason=f"its Litecast tables have format {found}, and this Litecast knows formats up to {known}",
        way_out="upgrade litecast",
    )


def no_wal(mode: str) -> Refusal:
    """The database cannot have a write-ahead log."""
    return Refusal(
        table="",
        code=RefusalCode.NO_WAL,
        reason=f"SQLite cannot use a write-ahead log here (it stays in mode {mode})",
        way_out="put the database on a local disk; network file systems have no shared memory",
    )


def _of_kind(described: Described) -> Refusal:
    match described.kind:
        case TableKind.MISSING:
            return Refusal(
                table=described.name,
                code=RefusalCode.NOT_FOUND,
                reason="there is no table of this name",
                way_out="create it first, or correct the name",
            )
        case TableKind.VIEW:
            way_out = "attach the tables that it reads; a view is the same on every node that has them"
        case TableKind.VIRTUAL:
            way_out = (
                "attach the tables that it is filled from; triggers on these fill it on every node (see docs/attach.md)"
            )
        case TableKind.SHADOW:
            way_out = "leave it to its virtual table, which keeps its data there"
        case TableKind.ELSEWHERE:
            way_out = "attach it in the database file that it is stored in; a temporary table cannot be attached"
        case _:
            way_out = "attach tables of the application"
    return Refusal(
        table=described.name,
        code=RefusalCode.NOT_A_TABLE,
        reason=f"it is a {described.kind.value}",
        way_out=way_out,
    )


def _of_key(described: Described, choice: TableChoice, *, one_writer: bool) -> list[Refusal]:
    key = [column for column in described.columns if column.key_position]
    if not key:
        return [
            Refusal(
                table=described.name,
                code=RefusalCode.NO_KEY,
                reason="it has no primary key, so its rows cannot be told apart on two nodes",
                way_out="rebuild it with a PRIMARY KEY that the application sets, a UUID for instance",
            )
        ]
    if described.rowid_is_key:
        if choice.shared_ids or one_writer:
            return []
        return [
            Refusal(
                table=described.name,
                code=RefusalCode.HANDED_OUT_KEY,
                reason=f"SQLite hands out its key {key[0].name} (INTEGER PRIMARY KEY), so two nodes would give one key "
                "to two rows",
                way_out="use a UUID as key, or attach with --shared-ids (shared_ids = true) if the application chooses "
                "each key itself, " + _PRIMARY_MODE,
            )
        ]
    nullable = [column for column in key if not column.not_null]
    found = [_of_collation(described, column) for column in key if column.collation != "BINARY"]
    if nullable:
        names = ", ".join(column.name for column in nullable)
        found.append(
            Refusal(
                table=described.name,
                code=RefusalCode.NULLABLE_KEY,
                reason=f"its key may be NULL ({names}), and any number of rows may have that key",
                way_out="rebuild it with NOT NULL on each column of the primary key",
            )
        )
    return found


def _of_collation(described: Described, column: Column) -> Refusal:
    return Refusal(
        table=described.name,
        code=RefusalCode.KEY_COLLATION,
        reason=f"its key {column.name} has collation {column.collation}, by which keys of different bytes are one",
        way_out="rebuild it with collation BINARY on its key, and store keys in one spelling",
    )


def _of_unique(described: Described) -> list[Refusal]:
    return [
        Refusal(
            table=described.name,
            code=RefusalCode.UNIQUE,
            reason=f"it has a UNIQUE beside its key ({unique.name} on {', '.join(unique.columns)}), which two nodes "
            "can break together without either noticing",
            way_out="make these columns the primary key, drop the UNIQUE (an index that is not unique may stay), "
            + _PRIMARY_MODE,
        )
        for unique in described.uniques
    ]


def _of_unique_expression(described: Described) -> list[Refusal]:
    return [
        Refusal(
            table=described.name,
            code=RefusalCode.UNIQUE_EXPRESSION,
            reason=f"its UNIQUE index {unique.name} is over an expression, so that nobody sees which row a REPLACE "
            "takes away",
            way_out="index a generated column with that expression instead, or drop UNIQUE from the index",
        )
        for unique in described.uniques
        if unique.has_expression
    ]


def _of_checks(described: Described, choice: TableChoice) -> list[Refusal]:
    if choice.rule is MergeRule.ROW:
        return []
    cells = {column.name.lower() for column in described.columns if not column.key_position}
    across = [mentioned & cells for mentioned in described.checks if len(mentioned & cells) > 1]
    if not across:
        return []
    names = " and on ".join(", ".join(sorted(mentioned)) for mentioned in across)
    return [
        Refusal(
            table=described.name,
            code=RefusalCode.CHECK_ACROSS_COLUMNS,
            reason=f"it has a CHECK across columns (on {names}), which cells of two nodes can break together",
            way_out='attach it with --merge row (merge = "row"), so that rows are merged whole',
        )
    ]


def _of_counter(described: Described, counter: str) -> list[Refusal]:
    def refusal(code: RefusalCode, reason: str, way_out: str) -> Refusal:
        return Refusal(table=described.name, code=code, reason=reason, way_out=way_out)

    column = described.column(counter)
    without = f"attach it without counter {counter}"
    if column is None:
        names = ", ".join(column.name for column in described.columns)
        reason = f"it has no column {counter} that could be a counter"
        return [refusal(RefusalCode.NO_SUCH_COUNTER, reason, f"its columns are {names}")]
    if column.key_position:
        reason = f"counter {counter} is part of its key"
        return [refusal(RefusalCode.COUNTER_IN_KEY, reason, without)]
    if column.generated:
        reason = f"counter {counter} is generated: SQLite computes it"
        return [
            refusal(RefusalCode.COUNTER_GENERATED, reason, "name the columns that it is computed from, or " + without)
        ]
    found: list[Refusal] = []
    if "INT" not in column.type.upper() or not column.not_null:
        declared = f"{column.type or 'without a type'}{' NOT NULL' if column.not_null else ''}"
        reason = f"counter {counter} is {declared}, and a counter has to be INTEGER NOT NULL"
        found.append(
            refusal(RefusalCode.COUNTER_TYPE, reason, f"rebuild it with {counter} INTEGER NOT NULL, or {without}")
        )
    if any(column.name.lower() in mentioned for mentioned in described.checks):
        reason = f"counter {counter} stands in a CHECK, which sums of several nodes can break"
        found.append(refusal(RefusalCode.COUNTER_IN_CHECK, reason, f"rebuild it without that CHECK, or {without}"))
    return found


def _of_mixture(table: str, triggers: TriggerWrites, attached: Collection[str]) -> Refusal:
    written = {name: triggers.of(name, attached) for name in sorted(triggers.direct)}
    listed = ", ".join(f"{name} writes {', '.join(sorted(tables)) or 'nothing'}" for name, tables in written.items())
    others = sorted({other for tables in written.values() for other in tables} - set(attached))
    return Refusal(
        table=table,
        code=RefusalCode.TRIGGERS_MIXED,
        reason=f"some of its triggers would have to run when a peer's changes are merged, and some must not ({listed})",
        way_out=f"attach {', '.join(others)} too, or see that its triggers write only tables that are attached, or "
        "only tables that are not",
    )
