"""`litecast drift`: whether all nodes hold the same, and if not, how far they are apart."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from app.commands import Subparsers, asking
from app.errors import AppError

if TYPE_CHECKING:
    from app.admin_client import AdminClient
    from replication.measuring.questions import Repair

EXIT_UNKNOWN = 2
ASK = True
CHOICE = (
    "--repair adopt takes what the damaged rows show now for writes, and sends it to every node; --repair restore sets "
    "them back to what was written"
)


def register(subparsers: Subparsers) -> None:
    """Adds `drift`."""
    parser = subparsers.add_parser(
        "drift",
        help="compare what all nodes hold, and say how far they are apart",
        description="Asks a running node to compare, now, the tables of all nodes that it knows. Exit status 0 if they "
        "are equal, 1 if they differ, 2 if it could not be told: a node is down, or did not answer, or nobody could be "
        "asked. --rows and --repair need the cluster's secret, if it has one: give it by LITECAST_BUS__SECRET, "
        "LITECAST_BUS__SECRET_FILE or --config.",
    )
    asking.add_arguments(parser, exclusive=False)
    parser.add_argument("--rows", action="store_true", help="list rows that differ, with each node's values")
    parser.add_argument(
        "--repair",
        nargs="?",
        const=ASK,  # no text: argparse would look for it among the choices
        choices=("adopt", "restore"),
        help="mend rows that were changed past capture: take them for writes (adopt), or set them back (restore); "
        "without a word it asks",
    )


def run(args: argparse.Namespace) -> int:
    """Prints what was found and gives its exit status; whatever keeps it from being told is said, and is 2."""
    try:
        client = asking.admin_client(args)
        return _compare(args, client) if args.repair is None else _repair(args, client)
    except AppError as error:
        print(f"litecast: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_UNKNOWN


def _compare(args: argparse.Namespace, client: "AdminClient") -> int:
    report = client.drift(rows=args.rows)
    if args.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        from app.commands.drift_tables import print_report

        print_report(report)
    return report.exit_code


def _repair(args: argparse.Namespace, client: "AdminClient") -> int:
    how = _how(args, client)
    if how is None:
        return EXIT_UNKNOWN
    repaired, report = client.repair(how)
    if args.json:
        print(json.dumps({"repair": repaired.as_json(), "drift": report.as_json()}, indent=2))
    else:
        from app.commands.drift_tables import print_repair, print_report

        print_repair(how, repaired)
        print_report(report)
    return report.exit_code


def _how(args: argparse.Namespace, client: "AdminClient") -> "Repair | None":
    """Which repair is wanted; None if nobody said so."""
    from replication.measuring.questions import Repair

    if args.repair is not ASK:
        return Repair(args.repair)
    if args.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        print(f"litecast: say which repair: {CHOICE}", file=sys.stderr)
        return None
    from app.commands.drift_tables import print_report

    print_report(client.drift(rows=True))
    print(f"\n{CHOICE}.")
    while True:
        answer = input("adopt, restore, or nothing? ").strip().lower()
        if answer in ("", "nothing"):
            print("litecast: nothing was repaired", file=sys.stderr)
            return None
        if answer in set(Repair):
            return Repair(answer)
