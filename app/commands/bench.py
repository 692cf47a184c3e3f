"""`litecast bench regions`: what mode primary costs and saves across the world."""

import argparse
import sys

from app.bench.places import REGIONS
from app.commands import Subparsers

DEFAULT_PRIMARY = "ord"


def register(subparsers: Subparsers) -> None:
    """Adds `bench`."""
    parser = subparsers.add_parser("bench", help="measure reads and writes across regions, on this machine")
    benches = parser.add_subparsers(dest="bench", metavar="BENCH", required=True)
    regions = benches.add_parser(
        "regions",
        help="reads from the local file beside reads from the primary's region, and writes",
        description="Starts five nodes in mode primary, each a process that stands for a region, with the network's "
        "latency between them injected, and measures in each region: a read from the local file, the same read from "
        "the primary's region, and a write, with waiting until it can be read in its region and without. Takes under "
        "a minute, and leaves no process and no file.",
    )
    regions.add_argument(
        "--primary", choices=REGIONS, default=DEFAULT_PRIMARY, help=f"where is written (default: {DEFAULT_PRIMARY})"
    )
    regions.add_argument("--json", action="store_true", help="print one JSON object; progress goes to standard error")


def run(args: argparse.Namespace) -> int:
    """Measures and prints. Raises AppError if it cannot be measured."""
    import asyncio
    import json

    from rich.console import Console

    from app.bench.results import as_json, table
    from app.bench.run import measure

    with Console(stderr=True).status("starting") as status:
        regions = asyncio.run(measure(args.primary, status.update))
    if args.json:
        print(json.dumps(as_json(regions, primary=args.primary), indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else 140).print(table(regions, primary=args.primary))
    return 0
