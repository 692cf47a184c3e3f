"""`litecast status`: what a running node says of itself."""

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from app.commands import Subparsers, asking

if TYPE_CHECKING:
    from rich.console import Console


def register(subparsers: Subparsers) -> None:
    """Adds `status`."""
    parser = subparsers.add_parser(
        "status",
        help="show what a running node says of itself",
        description="Shows what a running node says of itself, its peers and its counters. "
        "Exit status 1 if it does not answer, or is not ready.",
    )
    asking.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the node's report: 0 if it is ready, else 1. Raises ConfigError or NodeUnreachable."""
    report = asking.ask(args)
    cluster = report.cluster
    if args.json:
        print(json.dumps(cluster | {"ready": report.ready}, indent=2))
        return 0 if report.ready else 1

    from rich.table import Table
    from rich.text import Text

    node = cluster["node"]
    up = sum(peer.get("state") == "up" for peer in cluster["peers"])
    replication = cluster.get("replication")
    console = asking.console()
    facts = Table.grid(padding=(0, 2))
    for label, value, style in (
        ("node", f"{node['name']} ({node.get('region')}) at {report.url}", ""),
        ("ready", "yes" if report.ready else "no", ""),
        ("mode", cluster.get("mode"), ""),
        ("incarnation", node.get("incarnation"), ""),
        ("peers", f"{up} of {len(cluster['peers'])} up", ""),
        *(_replication(replication) if isinstance(replication, dict) else ()),
    ):
        facts.add_row(Text(label, style="bold"), Text(str(value), style=style))
    console.print(facts)
    _print_counts(console, "counter", cluster.get("counters"))
    if isinstance(replication, dict):
        _print_counts(console, "replication", replication.get("counts"))
    return 0 if report.ready else 1


def _replication(replication: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """How replication stands, in modes convergent and primary: label, text and style of each line."""
    from app.standing import in_words

    if role := replication.get("role"):
        primary = replication.get("primary") or "nobody"
        yield "role", role if role == "primary" else f"{role}; the primary is {primary}", ""
        yield "epoch", str(replication.get("epoch")), ""
    if tails := replication.get("tails"):
        yield "tails", f"{tails:,} changeset(s) of epochs that are over are kept here and merged nowhere", "yellow"
    yield "site", f"{replication.get('site')}, {replication.get('sites')} known", ""
    behind = {peer: sites for peer, sites in (replication.get("behind") or {}).items() if sites}
    waiting = replication.get("waiting") or 0
    lag = [f"behind {peer} by {sites} site(s)" for peer, sites in sorted(behind.items())]
    if waiting:
        lag.append(f"{waiting:,} changeset(s) wait for others")
    if not replication.get("joined"):
        lag.append("waits for what its peers know of it")
    if under_way := replication.get("catching_up"):
        lag.append(
            in_words(
                under_way.get("peer"),
                under_way.get("part"),
                under_way.get("changesets") or 0,
                under_way.get("rows") or 0,
                under_way.get("bytes") or 0,
            )
        )
    yield "replication", "; ".join(lag) or "has merged all that its peers have", "yellow" if lag else ""
    schemas = replication.get("schemas") or {}
    if schemas:
        yield "schemas", ", ".join(f"{table} {digits}" for table, digits in sorted(schemas.items())), ""
    if problem := replication.get("problem"):
        yield "problem", str(problem), "red"
    for note in replication.get("notes") or ():
        yield "note", str(note), "yellow"


def _print_counts(console: "Console", title: str, counts: Mapping[str, Any] | None) -> None:
    from rich.table import Table
    from rich.text import Text

    if not counts:
        return
    table = Table(title, box=None, pad_edge=False)
    table.add_column("since start", justify="right")
    for name, count in sorted(counts.items()):
        table.add_row(Text(str(name)), str(count))
    console.print()
    console.print(table)
