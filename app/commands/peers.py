"""`litecast peers`: the nodes that a running node knows."""

import argparse
import json

from app.commands import Subparsers, asking

_STYLES = {"up": "green", "suspect": "yellow", "down": "red"}


def register(subparsers: Subparsers) -> None:
    """Adds `peers`."""
    parser = subparsers.add_parser(
        "peers",
        help="show the nodes that a running node knows",
        description="Shows the nodes that a running node knows, where they are, and whether they are up.",
    )
    asking.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the peers. Raises ConfigError or NodeUnreachable."""
    report = asking.ask(args)
    peers = report.cluster["peers"]
    if args.json:
        print(json.dumps({"peers": peers}, indent=2))
        return 0

    from rich.table import Table
    from rich.text import Text

    console = asking.console()
    if not peers:
        console.print(f"{report.cluster['node']['name']} knows of no other node.")
        return 0
    table = Table("name", "region", "address", "state", box=None, pad_edge=False)
    for peer in peers:
        # A peer still being connected to has no name yet.
        cells = [Text(str(peer.get(key) or "-")) for key in ("name", "region", "address", "state")]
        cells[-1].style = _STYLES.get(str(peer.get("state")), "")
        table.add_row(*cells)
    console.print(table)
    return 0
