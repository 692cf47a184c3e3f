"""`litecast drift`: whether all nodes hold the same, and if not, how far they are apart."""

import argparse
import json
import sys

from app.commands import Subparsers, asking
from app.errors import AppError

EXIT_UNKNOWN = 2


def register(subparsers: Subparsers) -> None:
    """Adds `drift`."""
    parser = subparsers.add_parser(
        "drift",
        help="compare what all nodes hold, and say how far they are apart",
        description="Asks a running node to compare, now, the tables of all nodes that it knows. Exit status 0 if they "
        "are equal, 1 if they differ, 2 if it could not be told: a node is down, or did not answer, or nobody could be "
        "asked. --rows shows what is in tables: where the cluster has a secret, it has to be given, by "
        "LITECAST_BUS__SECRET, LITECAST_BUS__SECRET_FILE or --config.",
    )
    asking.add_arguments(parser, exclusive=False)
    parser.add_argument("--rows", action="store_true", help="list rows that differ, with each node's values")


def run(args: argparse.Namespace) -> int:
    """Prints what was found and gives its exit status; whatever keeps it from being told is said, and is 2."""
    try:
        report = asking.admin_client(args).drift(rows=args.rows)
    except AppError as error:
        print(f"litecast: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_UNKNOWN
    if args.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        from app.commands.drift_tables import print_report

        print_report(report)
    return report.exit_code
