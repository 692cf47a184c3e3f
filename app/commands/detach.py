"""`litecast detach`: the database as it was before `litecast attach`."""

import argparse
import sys
from pathlib import Path

from app.commands import Subparsers

EXIT_REFUSED = 1


def register(subparsers: Subparsers) -> None:
    """Adds `detach`."""
    parser = subparsers.add_parser(
        "detach",
        help="leave a database as it was before attach",
        description="Detaches tables from their cluster, or all of them: nothing of Litecast's is left in the schema, "
        "rows stay as they are, and the journal mode is what it was. Stop the node first; what was written since it "
        "last looked will not reach the others. Detaching what is not attached changes nothing.",
    )
    parser.add_argument("database", type=Path, metavar="DB", help="the database file")
    parser.add_argument(
        "--table", action="append", dest="tables", metavar="NAME", help="detach only this table; may be repeated"
    )


def run(args: argparse.Namespace) -> int:
    """Detaches and says so: 0; 1 if the tables that remain cannot do without. Raises DatabaseError, NotAttached."""
    from replication.database_file import detach
    from replication.engine.refusals import AttachRefused

    try:
        report = detach(args.database, args.tables)
    except AttachRefused as refused:
        lines = [f"litecast: {args.database} was left as it is:"]
        lines += [f"  - {refusal}" for refusal in refused.refusals]
        print("\n".join(lines), file=sys.stderr)
        return EXIT_REFUSED
    if not report.tables:
        print(f"nothing of {args.database} is attached")
        return 0
    print(f"detached {', '.join(report.tables)}; journal mode {report.journal_mode}")
    if report.journal_mode != report.journal_mode_wanted:
        print(
            f"litecast: the journal mode was {report.journal_mode_wanted} before attach, and SQLite cannot change it "
            f"while another program has {args.database} open; when none has: "
            f"sqlite3 {args.database} 'PRAGMA journal_mode = {report.journal_mode_wanted}'",
            file=sys.stderr,
        )
    return 0
