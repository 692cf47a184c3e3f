"""`litecast promote NODE`: another node becomes the one that writes."""

import argparse
import json

from app.commands import Subparsers, asking


def register(subparsers: Subparsers) -> None:
    """Adds `promote`."""
    parser = subparsers.add_parser(
        "promote",
        help="make another node the primary, in mode primary",
        description="Has the primary hand its lease over. Writes are held meanwhile, and none is lost. Ask any node. "
        "Needs the cluster's secret, if it has one.",
    )
    parser.add_argument("node", metavar="NODE", help="the name of the node that is to write")
    asking.add_arguments(parser, exclusive=False)


def run(args: argparse.Namespace) -> int:
    """Returns once it is the primary. Raises ConfigError, NodeUnreachable, NodeRefused."""
    asking.admin_client(args).promote(args.node)
    print(json.dumps({"primary": args.node}) if args.json else f"{args.node} is the primary.")
    return 0
