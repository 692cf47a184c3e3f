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
    parser.add_argument(
        "--forget",
        action="append",
        metavar="NODE",
        help="this node is gone for good: nobody waits for it any more, and what it has is not taken any more; may be "
        "repeated. Needs the cluster's secret, if it has one",
    )
    asking.add_arguments(parser, exclusive=False)


def run(args: argparse.Namespace) -> int:
    """Prints the peers, or forgets some. Raises ConfigError, NodeUnreachable, NodeRefused."""
    if args.forget:
        asking.admin_client(args).forget(args.forget)
        if args.json:
            print(json.dumps({"forgotten": args.forget}))
        else:
            print(f"{', '.join(args.forget)}: forgotten. Take the address out of discovery.peers, if it stands there.")
        return 0
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
