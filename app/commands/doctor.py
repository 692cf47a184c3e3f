"""`litecast doctor`: what is wrong or unwise with a database or a node, and what to do about it."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.commands import Subparsers

if TYPE_CHECKING:
    from app.doctor.checks import Finding

EXIT_UNWISE = 3
EXIT_WRONG = 4


def register(subparsers: Subparsers) -> None:
    """Adds `doctor`."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what is wrong or unwise with a database or a node",
        description="Looks at a database, or at a node by its settings: its file, clock, disk, settings, and whom it "
        "finds; says what is wrong or unwise, and what to do. Changes nothing, and may be asked while the node runs. "
        f"Exit status: 0 well, or nothing but advice; {EXIT_UNWISE} something is unwise; {EXIT_WRONG} something is "
        "wrong.",
    )
    parser.add_argument(
        "target",
        nargs="?",
        type=Path,
        metavar="DB|CONFIG",
        help="a database file, or a node's settings (*.toml); without it, the settings of the environment",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints what is found; the exit status is as the gravest of it."""
    from app.doctor.checks import CHECKS, Gravity, judged
    from app.doctor.gathering import facts_of_config, facts_of_database

    target: Path | None = args.target
    if target is None or target.suffix == ".toml":
        found = judged(facts_of_config(target))
    else:
        found = judged(facts_of_database(target))
    gravity = max((finding.gravity for finding in found), default=Gravity.WELL)
    if args.json:
        print(json.dumps({"gravity": gravity.name.lower(), "findings": [one.as_json() for one in found]}, indent=2))
    else:
        _print(found, checks=len(CHECKS))
    if gravity is Gravity.WRONG:
        return EXIT_WRONG
    return EXIT_UNWISE if gravity is Gravity.UNWISE else 0


def _print(found: "Sequence[Finding]", *, checks: int) -> None:
    if not found:
        print(f"All is well, as far as {checks} checks can tell.")
    for finding in found:
        print(f"{finding.gravity.name.lower()}: {finding.check}: {finding.what}")
        print(f"    {finding.remedy}")
