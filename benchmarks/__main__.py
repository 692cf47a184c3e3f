"""`python -m benchmarks [--only NAME] [--quick] [--json]`."""

import argparse
import json
import sys
import time
from functools import partial

from rich.console import Console
from rich.status import Status

from benchmarks.backup import backup
from benchmarks.bus import calls, casts
from benchmarks.child import ChildFailed
from benchmarks.cluster import join, lag
from benchmarks.database import repo
from benchmarks.drift import drift
from benchmarks.engine import capture, merge
from benchmarks.feed import feed
from benchmarks.idle import idle, idle_convergent
from benchmarks.machine import shape
from benchmarks.measuring import Benchmark, Outcome, run
from benchmarks.middleware import middleware
from benchmarks.primary import primary
from benchmarks.report import as_json, table
from benchmarks.seven import seven
from benchmarks.storage import storage
from benchmarks.throughput import throughput

BENCHMARKS = {
    "casts": casts,
    "calls": calls,
    "repo": repo,
    "capture": capture,
    "merge": merge,
    "drift": drift,
    "lag": lag,
    "feed": feed,
    "join": join,
    "throughput": throughput,
    "storage": storage,
    "middleware": middleware,
    "primary": primary,
    "backup": backup,
    "seven": seven,
    "idle": idle,
    "idle-convergent": idle_convergent,
}
TABLE_WIDTH = 140  # where there is no terminal to ask


def main() -> int:
    """Measures and prints. Exit status 0 whatever the figures are, 1 if one could not be measured."""
    args = _parser().parse_args()
    names = args.only or list(BENCHMARKS)
    progress = Console(stderr=True, soft_wrap=True)
    out = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    machine = shape()
    if not args.json:
        out.print(", ".join(f"{name} {value}" for name, value in machine.items()), style="dim")
    results: dict[str, list[Outcome]] = {}
    began_s = time.monotonic()
    try:
        for name in names:
            benchmark = BENCHMARKS[name](quick=args.quick)
            with progress.status(f"{name}: starting") as status:
                results[name] = run(benchmark, partial(_show, status, benchmark))
            if not args.json:
                out.print(table(benchmark, results[name]))
    except ChildFailed as error:
        progress.print(f"benchmarks: {error}", style="red")
        return 1
    except KeyboardInterrupt:
        return 130
    if args.json:
        json.dump(as_json(machine, results), sys.stdout, indent=2)
        print()
    else:
        out.print(f"{time.monotonic() - began_s:.0f} s. Timings drift with the machine; compare ratios.", style="dim")
    return 0


def _show(status: Status, benchmark: Benchmark, who: str, number: int) -> None:
    turn = f"round {number} of {benchmark.rounds}" if number else "warming up"
    status.update(f"{benchmark.name}: {turn}, {who}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures Litecast beside what it is built on, turn by turn (docs/benchmarks.md).",
    )
    parser.add_argument(
        "--only", action="append", choices=list(BENCHMARKS), metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}"
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under half a minute, and less to rely on")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


if __name__ == "__main__":
    sys.exit(main())
