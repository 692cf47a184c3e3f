"""`litecast attach`: from now on, what any program commits to these tables is captured."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from app.commands import Subparsers

if TYPE_CHECKING:
    from replication.engine.attaching import AttachReport, TableChoice
    from replication.engine.refusals import AttachRefused

EXIT_REFUSED = 1


def register(subparsers: Subparsers) -> None:
    """Adds `attach`."""
    parser = subparsers.add_parser(
        "attach",
        help="prepare tables of an SQLite database for replication",
        description="Prepares tables of an existing SQLite database: from then on, what any program commits to them is "
        "captured, whether Litecast runs or not. Refuses what merging cannot keep, with every reason and the way out, "
        "before it changes anything; exit status 1 then. Attaching what is attached changes nothing. "
        "`--counter`, `--merge` and `--shared-ids` belong to the `--table` before them. With `--config` instead of a "
        "database, the tables that the file declares are attached in the database that it names, as a node does when "
        "it starts in mode convergent or primary. See docs/attach.md.",
    )
    parser.set_defaults(wrong=parser.error)
    parser.add_argument("database", nargs="?", type=Path, metavar="DB", help="the database file")
    parser.add_argument("--config", type=Path, metavar="FILE", help="instead of DB and tables: a node's settings")
    parser.add_argument("--table", action=_Table, dest="tables", metavar="NAME", help="attach this table")
    parser.add_argument(
        "--counter",
        action=_OfTable,
        metavar="COLUMN",
        help="a column in which what each node adds is added up, instead of the last write winning",
    )
    parser.add_argument(
        "--merge",
        action=_OfTable,
        choices=("cell", "row"),
        help="merge each cell by itself (default), or rows whole",
    )
    parser.add_argument(
        "--shared-ids",
        action=_OfTable,
        nargs=0,
        help="the application chooses the table's integer keys itself, and no two nodes choose one twice",
    )
    parser.add_argument(
        "--mode",
        choices=("convergent", "primary"),
        help="for which mode (default: that of --config, else convergent): in primary, one node writes at a time, and "
        "UNIQUE, CHECK and keys that SQLite hands out are kept",
    )
    parser.add_argument("--cluster", metavar="NAME", help="the cluster it will belong to (default: as cluster.name)")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, or refused, and change nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Attaches and says so: 0; refused: 1. Raises ConfigError, DatabaseError."""
    from replication.database_file import attach
    from replication.engine.refusals import AttachRefused

    wanted = _wanted(args)
    try:
        report = attach(
            wanted.database,
            wanted.choices,
            cluster=wanted.cluster,
            dry_run=args.dry_run,
            skip_missing=wanted.skip_missing,
            one_writer=wanted.one_writer,
        )
    except AttachRefused as refused:
        _print_refusals(args, wanted, refused)
        return EXIT_REFUSED
    _print_report(args, wanted, report)
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What the arguments come to."""

    database: Path
    choices: "Sequence[TableChoice]"
    cluster: str
    skip_missing: bool
    """Tables that do not exist are for later, instead of being a mistake."""
    one_writer: bool


def _wanted(args: argparse.Namespace) -> _Wanted:
    from app.config import ConfigError, load_config

    wrong: Callable[[str], NoReturn] = args.wrong
    if args.config is None:
        if args.database is None or not args.tables:
            wrong("name the database and its tables, DB --table NAME, or a node's settings, --config FILE")
        choices = [_choice(table) for table in args.tables]
        cluster = load_config(None, os.environ).cluster.name if args.cluster is None else args.cluster
        return _Wanted(
            database=args.database,
            choices=choices,
            cluster=cluster,
            skip_missing=False,
            one_writer=args.mode == "primary",
        )
    if args.database is not None or args.tables:
        wrong("--config FILE names the database and its tables: leave DB and --table out")
    config = load_config(args.config, os.environ)
    cluster = config.cluster.name if args.cluster is None else args.cluster
    if config.node.slots_dir is not None:
        raise ConfigError(
            f"{args.config}: with [node] slots_dir, a node has a database only once it has started: name the file, "
            "litecast attach DB --table NAME"
        )
    choices = [declared.choice for declared in config.replication.tables]
    mode = config.replication.mode.value if args.mode is None else args.mode
    return _Wanted(
        database=config.database.path,
        choices=choices,
        cluster=cluster,
        skip_missing=True,
        one_writer=mode == "primary",
    )


class _Chosen:
    """What the command line says of one table."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counters: list[str] = []
        self.merge = "cell"
        self.shared_ids = False


class _Table(argparse.Action):
    """Begins a table, of which the options after it speak."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        namespace.tables = [*(namespace.tables or ()), _Chosen(str(values))]


class _OfTable(argparse.Action):
    """An option of the table before it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        tables: Sequence[_Chosen] = namespace.tables or ()
        if not tables:
            parser.error(f"{option_string} belongs after the --table that it is meant for")
        match self.dest:
            case "counter":
                tables[-1].counters.append(str(values))
            case "merge":
                tables[-1].merge = str(values)
            case _:
                tables[-1].shared_ids = True


def _choice(table: _Chosen) -> "TableChoice":
    from replication.engine.attaching import TableChoice
    from replication.engine.catalogue import MergeRule

    return TableChoice(
        name=table.name,
        counters=tuple(table.counters),
        rule=MergeRule(table.merge),
        shared_ids=table.shared_ids,
    )


def _print_refusals(args: argparse.Namespace, wanted: _Wanted, refused: "AttachRefused") -> None:
    if args.json:
        listed = [
            {"table": one.table, "code": one.code.value, "reason": one.reason, "way_out": one.way_out}
            for one in refused.refusals
        ]
        print(json.dumps({"refused": listed}, indent=2))
        return
    lines = [f"litecast: {wanted.database} was left as it is. Merging cannot keep this:"]
    about = None
    for one in sorted(refused.refusals, key=lambda one: one.table):
        if one.table != about:
            about = one.table
            lines.append(f"table {about}" if about else "the database")
        lines += [f"  - {one.reason}", f"    way out: {one.way_out} [{one.code.value}]"]
    lines.append("docs/attach.md explains each reason under the word in brackets.")
    print("\n".join(lines), file=sys.stderr)


def _print_report(args: argparse.Namespace, wanted: _Wanted, report: "AttachReport") -> None:
    there = {table.name.lower() for table in report.tables}
    missing = [choice.name for choice in wanted.choices if choice.name.lower() not in there]
    if args.json:
        tables = [
            {
                "name": table.name,
                "counters": list(table.counters),
                "merge": table.rule.value,
                "baseline_rows": table.rows,
                "was_attached": table.was_attached,
                "local_triggers": table.local_triggers,
            }
            for table in report.tables
        ]
        answer = {
            "database": str(wanted.database),
            "cluster": report.cluster,
            "dry_run": args.dry_run,
            "journal_mode_found": report.journal_mode_found,
            "tables": tables,
            "missing": missing,
        }
        print(json.dumps(answer, indent=2))
        return
    for table in report.tables:
        facts = [f"merged by {table.rule.value}"]
        if table.counters:
            facts.append(f"counters {', '.join(table.counters)}")
        if table.local_triggers:
            facts.append("its triggers run on every node")
        if table.was_attached:
            done = "is attached already"
        else:
            done = f"{'would be' if args.dry_run else 'is'} attached, with {table.rows} row(s) as its baseline"
        print(f"table {table.name} {done} ({'; '.join(facts)})")
    for name in missing:
        print(f"table {name} is not there yet; a node in mode convergent attaches it as soon as it is")
    if report.tables:
        print(f"cluster {report.cluster}; journal mode wal, was {report.journal_mode_found}")
