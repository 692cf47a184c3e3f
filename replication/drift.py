"""Drift as a number: what was found when nodes were compared, for the command line, JSON, the live page and metrics.

Pure, and the same in every mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from replication.engine import received
from replication.engine.comparing import Comparison, TableComparison, Verdict, worst
from replication.engine.differing import Differences
from replication.engine.received import Malformed
from replication.engine.values import Key, Value

type Row = Mapping[str, Value]
type Shown = Mapping[str, Row | None]
"""What each node shows of a row; None: it does not have it. Nodes whose row could not be read are left out."""

_EXIT: Final = {Verdict.EQUAL: 0, Verdict.DRIFT: 1, Verdict.UNKNOWN: 2}
_ROWS_MAX: Final = 2**53
_LISTED_MAX: Final = 100_000
_NODES_MAX: Final = 10_000
_TEXT_MAX: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDrift:
    """One row that differs, and what each node shows."""

    key: Key
    nodes: Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDrift:
    """One table."""

    name: str
    verdict: Verdict
    nodes: tuple[str, ...]
    """Whose rows were compared."""
    rows_differing: int | None
    """None: they do differ, and it was not counted in how many rows."""
    rows_untold: int = 0
    """Rows that are not the same now, because one node is behind, or because it has drifted."""
    counters: Mapping[str, int] = field(default_factory=dict[str, int])
    """Per counter: largest minus smallest that nodes show of a row, summed over the rows that differ."""
    absent: Mapping[str, str] = field(default_factory=dict[str, str])
    """Nodes whose rows could not be compared, and why."""
    uneven: tuple[str, ...] = ()
    """Columns that not every node has; compared among those that do."""
    rows: tuple[RowDrift, ...] = ()
    """Rows that differ, if they were asked for; perhaps not all."""

    @property
    def reason(self) -> str:
        """Why it is not equal, in one sentence; empty if it is."""
        if self.verdict is Verdict.EQUAL:
            return ""
        if self.rows_differing is None:
            return "rows differ"
        if self.rows_differing:
            spreads = [f"{name} by {spread}" for name, spread in self.counters.items() if spread]
            return f"{_rows(self.rows_differing)} differ{'' if self.rows_differing > 1 else 's'}" + (
                f"; {', '.join(spreads)}" if spreads else ""
            )
        if self.absent:
            node, why = next(iter(self.absent.items()))
            return f"{node}: {why}"
        return "nodes are still behind each other"

    def as_json(self) -> dict[str, Any]:
        """For `--json`. Rows only if there are some."""
        found: dict[str, Any] = {
            "name": self.name,
            "verdict": self.verdict.value,
            "nodes": list(self.nodes),
            "rows_differing": self.rows_differing,
            "rows_untold": self.rows_untold,
            "counters": dict(self.counters),
            "absent": dict(self.absent),
            "uneven_columns": list(self.uneven),
        }
        if self.rows:
            found["rows"] = [
                {
                    "key": [_as_json(value) for value in row.key],
                    "nodes": {
                        node: None if shown is None else {name: _as_json(value) for name, value in shown.items()}
                        for node, shown in row.nodes.items()
                    },
                }
                for row in self.rows
            ]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """What was found. `exit_code` is that of `litecast drift`."""

    verdict: Verdict
    tables: tuple[TableDrift, ...]
    nodes: tuple[str, ...]
    """Those that answered."""
    unreachable: Mapping[str, str] = field(default_factory=dict[str, str])
    """Those that did not, each with the reason."""
    reason: str = ""
    """Why the nodes are not equal, or why it is not known, in one sentence; empty if they are."""

    @property
    def exit_code(self) -> int:
        """0 if all is equal, 1 on drift, 2 if it could not be told."""
        return _EXIT[self.verdict]

    def as_json(self) -> dict[str, Any]:
        """For `--json`, and what `from_json` reads."""
        return {
            "verdict": self.verdict.value,
            "reason": self.reason,
            "nodes": list(self.nodes),
            "unreachable": dict(self.unreachable),
            "tables": [table.as_json() for table in self.tables],
        }

    @classmethod
    def from_json(cls, value: object) -> "DriftReport":
        """What `as_json` gave. Raises Malformed, a ValueError."""
        verdict, reason, nodes, unreachable, tables = received.fields(
            value, "verdict", "reason", "nodes", "unreachable", "tables"
        )
        return cls(
            verdict=_verdict(verdict),
            reason=received.text(reason, at_most=_TEXT_MAX),
            nodes=_names(nodes),
            unreachable=_reasons(unreachable),
            tables=tuple(_table(table) for table in received.listed(tables, at_most=_NODES_MAX)),
        )


def report(
    comparison: Comparison,
    *,
    differences: Mapping[str, Differences] | None = None,
    rows: Mapping[str, Sequence[RowDrift]] | None = None,
    unreachable: Mapping[str, str] | None = None,
) -> DriftReport:
    """What a comparison says, and what was found when the rows of the buckets that differ were listed.

    `differences` and `rows` are by table; of tables that differ and are not in it, it is not known in how many rows.
    """
    tables = tuple(
        _drift(name, table, (differences or {}).get(name), tuple((rows or {}).get(name, ())))
        for name, table in comparison.tables.items()
    )
    lost = dict(unreachable or {})
    verdict = worst(table.verdict for table in tables)
    if verdict is Verdict.EQUAL and lost:
        verdict = Verdict.UNKNOWN
    return DriftReport(
        verdict=verdict,
        tables=tables,
        nodes=tuple(sorted(comparison.nodes)),
        unreachable=lost,
        reason=_reason(verdict, tables, lost),
    )


def unknown(reason: str, *, nodes: Sequence[str] = (), unreachable: Mapping[str, str] | None = None) -> DriftReport:
    """Nothing could be compared."""
    return DriftReport(
        verdict=Verdict.UNKNOWN, tables=(), nodes=tuple(nodes), unreachable=dict(unreachable or {}), reason=reason
    )


def _drift(name: str, table: TableComparison, found: Differences | None, rows: tuple[RowDrift, ...]) -> TableDrift:
    verdict = table.verdict
    differing: int | None = 0
    if table.differing:
        differing = None if found is None else found.differing
    if found is not None and not found.differing:
        # They differed when the digests were taken, and were made equal, or written to, before the rows were listed.
        verdict = Verdict.UNKNOWN if found.untold or table.untold or table.absent else Verdict.EQUAL
    return TableDrift(
        name=name,
        verdict=verdict,
        nodes=tuple(sorted(table.nodes)),
        rows_differing=differing,
        rows_untold=0 if found is None else found.untold,
        counters={} if found is None else dict(found.spreads),
        absent=dict(table.absent),
        uneven=tuple(sorted(table.uneven)),
        rows=rows,
    )


def _reason(verdict: Verdict, tables: Sequence[TableDrift], unreachable: Mapping[str, str]) -> str:
    of_tables = [f"{table.name}: {table.reason}" for table in tables if table.verdict is verdict is not Verdict.EQUAL]
    of_nodes = [f"{node} did not answer ({why})" for node, why in unreachable.items()]
    return "; ".join(of_tables + of_nodes)[:_TEXT_MAX]


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


# ---- JSON has fewer kinds of values than SQLite


def _as_json(value: Value) -> Any:
    if isinstance(value, bytes):
        return {"blob": value.hex()}
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"real": str(value)}
    return value


def _value(value: object) -> Value:
    match value:
        case {"blob": str(text)}:
            try:
                return bytes.fromhex(text)
            except ValueError:
                raise Malformed("not a blob in hex") from None
        case {"real": "inf" | "-inf" as text}:
            return float(text)
        case bool():
            raise Malformed("not a value that SQLite stores")
        case None | int() | float() | str():
            return value
        case _:
            raise Malformed("not a value that SQLite stores")


def _verdict(value: object) -> Verdict:
    try:
        return Verdict(value)  # type: ignore[arg-type]
    except ValueError:
        raise Malformed("not a verdict") from None


def _names(value: object) -> tuple[str, ...]:
    return tuple(received.name(one) for one in received.listed(value, at_most=_NODES_MAX))


def _reasons(value: object) -> dict[str, str]:
    return {
        name: received.text(one, at_most=_TEXT_MAX) for name, one in received.mapped(value, at_most=_NODES_MAX).items()
    }


def _table(value: object) -> TableDrift:
    rows: object = ()
    if isinstance(value, dict) and "rows" in value:
        value = dict(value)
        rows = value.pop("rows")
    name, verdict, nodes, differing, untold, counters, absent, uneven = received.fields(
        value,
        "name",
        "verdict",
        "nodes",
        "rows_differing",
        "rows_untold",
        "counters",
        "absent",
        "uneven_columns",
    )
    return TableDrift(
        name=received.name(name),
        verdict=_verdict(verdict),
        nodes=_names(nodes),
        rows_differing=None if differing is None else received.whole(differing, low=0, high=_ROWS_MAX),
        rows_untold=received.whole(untold, low=0, high=_ROWS_MAX),
        counters={
            column: received.whole(spread, low=0, high=2**127)
            for column, spread in received.mapped(counters, at_most=received.COLUMNS_MAX).items()
        },
        absent=_reasons(absent),
        uneven=_names(uneven),
        rows=tuple(_row(row) for row in received.listed(rows, at_most=_LISTED_MAX)),
    )


def _row(value: object) -> RowDrift:
    key, nodes = received.fields(value, "key", "nodes")
    return RowDrift(
        key=tuple(_value(one) for one in received.listed(key, at_most=received.COLUMNS_MAX)),
        nodes={
            node: None
            if shown is None
            else {name: _value(one) for name, one in received.mapped(shown, at_most=received.COLUMNS_MAX).items()}
            for node, shown in received.mapped(nodes, at_most=_NODES_MAX).items()
        },
    )
