"""`litecast demo`: the story, with real nodes and real numbers."""

import argparse
import secrets
import sys
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path

from app.commands import Subparsers
from app.demo.plan import (
    CLICKS_MAX,
    CLICKS_MIN,
    DEFAULT_CLICKS,
    DEFAULT_NODES,
    NODES_MAX,
    NODES_MIN,
    SEED_MAX,
    Options,
    Plan,
)
from app.errors import AppError


def register(subparsers: Subparsers) -> None:
    """Adds `demo`."""
    parser = subparsers.add_parser(
        "demo",
        help="watch naive replication lose counts, and convergent replication and one primary keep them",
        description="Starts nodes on loopback, each a process with a SQLite file of its own in a temporary folder, "
        "sends them real requests, and tells in six acts what became of the counts: on a naive cluster, on a "
        "convergent one and, with three nodes or more, on one in mode primary. Leaves no process and no file. Exit "
        "status 0 whatever naive replication lost, 1 if an act could not be run, or if convergent replication or mode "
        "primary lost a count or left the nodes different.",
    )
    parser.add_argument(
        "--nodes",
        type=_between(NODES_MIN, NODES_MAX),
        default=DEFAULT_NODES,
        metavar="N",
        help=f"how many nodes, {NODES_MIN} to {NODES_MAX} (default {DEFAULT_NODES})",
    )
    parser.add_argument(
        "--clicks",
        type=_between(CLICKS_MIN, CLICKS_MAX),
        default=DEFAULT_CLICKS,
        metavar="N",
        help=f"views in the acts with much traffic, {CLICKS_MIN} to {CLICKS_MAX} (default {DEFAULT_CLICKS}); "
        "the acts that wait after each view send fewer",
    )
    parser.add_argument(
        "--seed",
        type=_between(0, SEED_MAX - 1),
        metavar="N",
        help="decides pages, and which node is asked when (default: by chance, and printed)",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a report with charts, which needs no network")
    parser.add_argument("--json", action="store_true", help="print one JSON object; progress goes to standard error")
    parser.add_argument(
        "--keep", action="store_true", help="leave the clusters running after the acts, until Ctrl-C, to look at them"
    )
    parser.add_argument(
        "--disaster",
        action="store_true",
        help="another story: nodes with a backup are killed under load, all disks deleted, the nodes started again; "
        "exit status 1 if anything is lost that was reported as safe. Goes with --nodes, --json and --backup",
    )
    parser.add_argument(
        "--backup",
        metavar="URL",
        help="with --disaster: where the backup is put, in a new folder that stays there (default: a temporary folder)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the demo. Raises AppError if the report cannot be written, or an act cannot be run."""
    if args.backup is not None and not args.disaster:
        raise AppError("--backup goes with --disaster: the other acts have no backup")
    if args.disaster and (args.html is not None or args.keep):
        raise AppError("--disaster has no report and keeps nothing: leave --html and --keep out")
    from app.demo.errors import DemoError

    try:
        return _disaster(args) if args.disaster else _acts(args)
    except DemoError as error:
        if error.log_tail:
            print(f"The end of the node's log:\n{error.log_tail}\n", file=sys.stderr)
        raise


def _plan(args: argparse.Namespace) -> Plan:
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a bar gets a question mark, and not a traceback.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    seed: int = args.seed if args.seed is not None else secrets.randbelow(SEED_MAX)
    return Plan(Options(nodes=args.nodes, clicks=args.clicks, seed=seed))


def _disaster(args: argparse.Namespace) -> int:
    import asyncio
    import json

    from rich.console import Console

    from app.demo.disaster import run_disaster
    from app.demo.disaster_terminal import show
    from app.demo.lost import Loss

    console = Console(stderr=args.json, highlight=False, markup=False, emoji=False)

    def told(loss: Loss) -> None:
        if args.json:
            print(json.dumps(loss.as_json(), indent=2), flush=True)
        else:
            show(console, loss)

    return asyncio.run(run_disaster(_plan(args), lambda text: console.print(f"{text} ..."), told, url=args.backup))


def _acts(args: argparse.Namespace) -> int:
    import asyncio
    import json

    from rich.console import Console

    from app.demo.report import check_writable, write_report
    from app.demo.results import ActResult
    from app.demo.run import run_demo
    from app.demo.terminal import Terminal

    report: Path | None = args.html
    if report is not None:
        check_writable(report)
    plan = _plan(args)

    class Audience(Terminal):
        """The terminal, and what is to be written after the last act."""

        def ends(self, plan: Plan, results: list[ActResult]) -> None:
            super().ends(plan, results)
            if report is not None:
                write_report(report, plan, results)
                self.wrote(str(report))
            if args.json:
                print(json.dumps({"acts": [result.as_json() for result in results]}, indent=2), flush=True)

    console = Console(stderr=args.json, highlight=False, markup=False, emoji=False)
    return asyncio.run(run_demo(plan, Audience(console, story=not args.json), keep=args.keep))


def _between(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return number

    return parse
