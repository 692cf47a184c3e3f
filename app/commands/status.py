"""`litecast status`: what a running node says of itself."""

import argparse
import json

from app.commands import Subparsers, asking


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
    console = asking.console()
    facts = Table.grid(padding=(0, 2))
    for label, value in (
        ("node", f"{node['name']} ({node.get('region')}) at {report.url}"),
        ("ready", "yes" if report.ready else "no"),
        ("mode", cluster.get("mode")),
        ("incarnation", node.get("incarnation")),
        ("peers", f"{up} of {len(cluster['peers'])} up"),
    ):
        facts.add_row(Text(label, style="bold"), Text(str(value)))
    console.print(facts)
    if counters := cluster.get("counters"):
        table = Table("counter", box=None, pad_edge=False)
        table.add_column("since start", justify="right")
        for name, count in sorted(counters.items()):
            table.add_row(Text(str(name)), str(count))
        console.print()
        console.print(table)
    return 0 if report.ready else 1
