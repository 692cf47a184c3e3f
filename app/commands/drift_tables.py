"""A drift report for people."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.commands import asking
from replication.drift import DriftReport, RowDrift, TableDrift
from replication.engine.comparing import Verdict
from replication.engine.values import Value
from replication.measuring.mending import ClusterRepair
from replication.measuring.questions import Repair

VALUE_MAX_CHARACTERS = 80

_STYLES = {Verdict.EQUAL: "green", Verdict.DRIFT: "red", Verdict.UNKNOWN: "yellow"}
_WORDS = {Verdict.EQUAL: "equal", Verdict.DRIFT: "drift", Verdict.UNKNOWN: "could not be told"}


def print_report(report: DriftReport) -> None:
    """What was found, then each table, then the rows, if there are any."""
    console = asking.console()
    facts = Table.grid(padding=(0, 2))
    verdict = Text(_WORDS[report.verdict], style=_STYLES[report.verdict])
    facts.add_row(Text("verdict", style="bold"), verdict)
    if report.reason:
        facts.add_row(Text("because", style="bold"), Text(report.reason))
    facts.add_row(Text("compared", style="bold"), Text(", ".join(report.nodes) or "nobody"))
    for node, why in report.unreachable.items():
        facts.add_row(Text("not compared", style="bold"), Text(f"{node}: {why}", style="yellow"))
    console.print(facts)
    if report.tables:
        _print_tables(console, report)
    for table in report.tables:
        _print_rows(console, table)


def print_repair(how: Repair, repaired: ClusterRepair) -> None:
    """What became of the damaged rows of each node."""
    console = asking.console()
    done = "adopted" if how is Repair.ADOPT else "restored"
    lines = Table.grid(padding=(0, 2))
    for node, result in repaired.nodes.items():
        if not result.tables:
            lines.add_row(Text(node, style="bold"), Text("no damaged rows"))
        for table in result.tables:
            text = f"{table.name}: {table.found - table.left:,} of {table.found:,} damaged row(s) {done}"
            lines.add_row(
                Text(node, style="bold"),
                Text(f"{text}; {table.why}" if table.why else text, style="yellow" if table.left or table.why else ""),
            )
    for node, why in repaired.lost.items():
        lines.add_row(Text(node, style="bold"), Text(f"not repaired: {why}", style="yellow"))
    console.print(lines)
    console.print()


def _print_tables(console: Console, report: DriftReport) -> None:
    tables = Table("table", "verdict", box=None, pad_edge=False)
    tables.add_column("rows differing", justify="right")
    tables.add_column("counters apart by")
    tables.add_column("")
    for table in report.tables:
        tables.add_row(
            Text(table.name),
            Text(_WORDS[table.verdict], style=_STYLES[table.verdict]),
            "many" if table.rows_differing is None else f"{table.rows_differing:,}",
            Text(", ".join(f"{column} {spread:,}" for column, spread in table.counters.items()) or "-"),
            Text("; ".join(_notes(table))),
        )
    console.print()
    console.print(tables)


def _notes(table: TableDrift) -> list[str]:
    notes = [f"{node}: {why}" for node, why in table.absent.items()]
    if table.rows_untold:
        notes.append(f"{table.rows_untold:,} more row(s) could not be told")
    if table.uneven:
        notes.append(f"not on every node: {', '.join(table.uneven)}")
    return notes


def _print_rows(console: Console, table: TableDrift) -> None:
    for row in table.rows:
        console.print()
        console.print(Text(f"{table.name} {', '.join(shown(value) for value in row.key)}", style="bold"))
        lines = Table.grid(padding=(0, 2))
        columns = differing_columns(row)
        for node, values in row.nodes.items():
            lines.add_row("", Text(node), Text(_cells(values, columns)))
        console.print(lines)
    if table.rows and table.rows_differing and len(table.rows) < table.rows_differing:
        console.print()
        console.print(Text(f"{table.name}: {len(table.rows):,} of {table.rows_differing:,} rows are shown"))


def differing_columns(row: RowDrift) -> list[str]:
    """The columns in which two nodes that have the row differ; all, if they differ in having it."""
    there = [values for values in row.nodes.values() if values is not None]
    names = dict.fromkeys(name for values in there for name in values)
    differing = [
        name for name in names if len({(type(value), value) for values in there for value in (values.get(name),)}) > 1
    ]
    return differing or list(names)


def _cells(values: Mapping[str, Value] | None, columns: list[str]) -> str:
    if values is None:
        return "has no such row"
    return ", ".join(f"{name} {shown(values[name])}" for name in columns if name in values)


def shown(value: Value) -> str:
    """A value on one line, as SQL would have it, cut where it is long; nothing in it can move a terminal's cursor."""
    match value:
        case None:
            text = "NULL"
        case bytes():
            text = f"x'{value.hex()}'"
        case str():
            quoted = value.replace("'", "''").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            text = "'" + "".join(one if one.isprintable() else ascii(one)[1:-1] for one in quoted) + "'"
        case _:
            text = str(value)
    return text if len(text) <= VALUE_MAX_CHARACTERS else f"{text[: VALUE_MAX_CHARACTERS - 1]}…"
