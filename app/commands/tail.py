"""`litecast tail`: what a former primary wrote and nobody else had, on the node that keeps it."""

import argparse
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from app.commands import Subparsers, asking
from app.errors import NotConfirmedByUser

_LIMIT = 20


def register(subparsers: Subparsers) -> None:
    """Adds `tail`."""
    parser = subparsers.add_parser(
        "tail",
        help="look at, apply or drop what a former primary wrote and nobody else had, in mode primary",
        description="Of a node that was the primary, and lost the lease with writes that nobody else had. Ask that "
        "node. Needs the cluster's secret, if it has one.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    asking.add_arguments(verbs.add_parser("list", help="which tails the node keeps"), exclusive=False)
    show = verbs.add_parser("show", help="what one comes to, and what the cluster has in its place")
    show.add_argument("--limit", type=int, default=_LIMIT, metavar="ROWS", help="show so many rows (%(default)s)")
    apply = verbs.add_parser("apply", help="write it again, in one transaction on the primary, and drop it")
    drop = verbs.add_parser("drop", help="forget it, for good")
    drop.add_argument("--yes", action="store_true", help="do not ask")
    for verb in (show, apply, drop):
        verb.add_argument("name", metavar="NAME", help="as `litecast tail list` shows it")
        asking.add_arguments(verb, exclusive=False)


def run(args: argparse.Namespace) -> int:
    """Raises ConfigError, NodeUnreachable, NodeRefused, NotConfirmedByUser."""
    client = asking.admin_client(args)
    match args.verb:
        case "list":
            tails = client.tails()
            _print(args, {"tails": tails}, lambda: _list(tails))
        case "show":
            found = client.tail(args.name, limit=args.limit)
            _print(args, found, lambda: _show(found))
        case "apply":
            rows = client.apply_tail(args.name)
            _print(args, {"applied": args.name, "rows": rows}, lambda: print(f"{args.name}: applied, {rows} rows."))
        case _:
            _ask_first(args)
            dropped = client.drop_tail(args.name)
            _print(args, {"dropped": dropped}, lambda: print(f"{dropped['name']}: dropped."))
    return 0


def _ask_first(args: argparse.Namespace) -> None:
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise NotConfirmedByUser(
            f"dropping {args.name} loses what is in it for good, and nobody is here to be asked: add --yes"
        )
    if input(f"What is in {args.name} is lost for good. Type its name to drop it: ").strip() != args.name:
        raise NotConfirmedByUser(f"{args.name} is not dropped")


def _print(args: argparse.Namespace, found: object, say: Callable[[], None]) -> None:
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        say()


def _list(tails: list[dict[str, Any]]) -> None:
    from rich.table import Table

    console = asking.console()
    if not tails:
        console.print("This node keeps no tail.")
        return
    table = Table("name", "epoch", "from", "to", "changesets", "bytes", "rows", box=None, pad_edge=False)
    for one in tails:
        times = (_time(one["from_ms"]), _time(one["upto_ms"]))
        sizes = (str(one["changesets"]), f"{one['bytes']:,}")
        table.add_row(str(one["name"]), str(one["epoch"]), *times, *sizes, _rows(one["rows"]))
    console.print(table)


def _rows(rows: dict[str, int] | None) -> str:
    if rows is None:
        return "too large to be looked into"
    return ", ".join(f"{table} {count:,}" for table, count in rows.items()) or "none that stay"


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = asking.console()
    table = Table("table", "key", "op", "in the tail", "in the cluster", box=None, pad_edge=False)
    for change in found["changes"]:
        written = {**change["cells"], **{name: f"counter {value}" for name, value in change["counts"].items()}}
        now = change["now"]
        beside = "no such row" if now is None else _pairs({name: now.get(name) for name in written} or now)
        key = ", ".join(_value(part) for part in change["key"])
        cells = (change["table"], key, change["op"], _pairs(written) or "-", beside)
        table.add_row(*(Text(str(cell)) for cell in cells))
    console.print(table)
    more = found["rows"] - len(found["changes"])
    if more > 0:
        console.print(f"and {more} more rows: --limit shows more of them")


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {_value(value)}" for name, value in values.items())


def _value(value: object) -> str:
    """As JSON. Text that is not UTF-8 shows what it has instead."""
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace").decode()


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
