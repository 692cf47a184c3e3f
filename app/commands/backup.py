"""`litecast backup status`, `list` and `verify`: how the backup stands, what is in it, and whether it comes back."""

import argparse
import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.commands import Subparsers, asking, verifying

if TYPE_CHECKING:
    from replication.backup.listing import Listed


def register(subparsers: Subparsers) -> None:
    """Adds `backup`."""
    parser = subparsers.add_parser(
        "backup",
        help="show how the backup stands, and what is in it",
        description="Shows how a node's backup stands, or what a bucket has. `litecast restore` makes a database of "
        "that.",
    )
    parts = parser.add_subparsers(dest="part", metavar="PART", title="parts", required=True)
    status = parts.add_parser(
        "status",
        help="ask a node how its backup stands",
        description="Asks a running node: for each site what is on its disk, what is in the bucket, and what of that "
        "comes back with a restore. Exit status 1 if nothing can be uploaded, or the node has no backup.",
    )
    asking.add_arguments(status)
    listing = parts.add_parser(
        "list",
        help="list what is in the bucket",
        description="Lists snapshots and changesets. Asks the bucket, and no node.",
    )
    listing.add_argument("--from", dest="url", metavar="URL", help="what [backup] url says, if not in FILE")
    listing.add_argument("--config", type=Path, metavar="FILE", help="settings with the url, or with the secret")
    listing.add_argument("--json", action="store_true", help="print JSON")
    verifying.add(parts)


def run(args: argparse.Namespace) -> int:
    """Prints it: 0 if all is well, else 1. Raises ConfigError, NodeUnreachable, BackupError, DatabaseError."""
    match args.part:
        case "status":
            return _status(args)
        case "verify":
            return verifying.run(args)
        case _:
            return _list(args)


def _status(args: argparse.Namespace) -> int:
    from app.errors import ConfigError

    report = asking.ask(args)
    replication = report.cluster.get("replication")
    found = replication.get("backup") if isinstance(replication, dict) else None
    if not isinstance(found, dict):
        raise ConfigError(f"the node at {report.url} has no backup: [backup] url names a place for one")
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        _print_status(found)
    return 1 if found["problem"] else 0


def _print_status(found: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from replication.backup.status import JOURNAL_WARNS_AT

    console = asking.console()
    facts = Table.grid(padding=(0, 2))
    for label, value, style in (
        ("backup", found["url"], ""),
        ("snapshot", found["snapshot"] or "none is complete yet", ""),
        ("lacking", _lacking(found), "yellow" if found["lacking"] else ""),
        *([("journal", _journal(found), "yellow")] if found.get("journal_used", 0) >= JOURNAL_WARNS_AT else []),
        *([("doing", found["doing"], "")] if found["doing"] else []),
        *([("problem", found["problem"], "red")] if found["problem"] else []),
        *([("kept", _kept(found["kept"]), "")] if found.get("kept") else []),
        *([("keeping", found["keeping_problem"], "red")] if found.get("keeping_problem") else []),
    ):
        facts.add_row(Text(label, style="bold"), Text(str(value), style=style))
    console.print(facts)
    table = Table("site", "on this node's disk", "in the bucket", "comes back with a restore", box=None, pad_edge=False)
    for site, one in found["sites"].items():
        own = " (this node's)" if site == found["site"] else ""
        table.add_row(f"{site}{own}", *(_moment(one[key]) for key in ("durable", "uploaded", "restorable")))
    console.print()
    console.print(table)


def _kept(kept: Mapping[str, Any]) -> str:
    at, since = (_moment(kept[key] << 16) for key in ("at_ms", "since_ms"))
    return f"by this node at {at}: {kept['snapshots']:,} snapshot(s), {kept['objects']:,} object(s), from {since} on"


def _lacking(found: Mapping[str, Any]) -> str:
    if not found["lacking"]:
        return "nothing: all that this node has comes back with a restore"
    return f"something of {found['lacking']} site(s), the oldest of it for {found['age_s']:.1f} s"


def _journal(found: Mapping[str, Any]) -> str:
    return f"what is lacking takes {found['journal_used']:.0%} of what the journal keeps"


def _list(args: argparse.Namespace) -> int:
    from app.backing_up import bucket_of, url_of
    from app.config import load_config
    from replication.backup.listing import listed

    config = load_config(args.config, os.environ)
    url = url_of(config, args.url)
    found = asyncio.run(listed(bucket_of(config, url, as_it_is=True)))
    if args.json:
        print(json.dumps(found.as_json(), indent=2))
    else:
        _print_list(url, found)
    return 0


def _print_list(url: str, found: "Listed") -> None:
    from rich.table import Table

    from replication.backup.moments import said
    from replication.backup.names import of_stretch

    console = asking.console()
    console.print(f"{url} is the backup of cluster {found.cluster}." if found.cluster else f"{url} holds nothing.")
    if found.span_ms is not None:
        since, newest = map(said, found.span_ms)
        console.print(f"`litecast restore --at` takes any moment from {since} on. The newest change is of {newest}.")
    for lost in found.missing:
        console.print(f"{of_stretch(lost)} is missing; put it back, if the bucket keeps versions", style="red")
    snapshots = Table("snapshot", "taken", "on", "MB", box=None, pad_edge=False)
    for one in found.snapshots:
        moment = _moment(one.taken_ms << 16)
        snapshots.add_row(str(one.number), moment, one.node, f"{one.size / 1e6:,.1f}")
    sites = Table("site", "objects", "from", "to", box=None, pad_edge=False)
    for site, stretches in sorted(found.sites.items()):
        first, last = min(one.first for one in stretches), max(one.last for one in stretches)
        sites.add_row(site, f"{len(stretches):,}", _moment(first), _moment(last))
    for table in (snapshots, sites):
        if table.row_count:
            console.print()
            console.print(table)


def _moment(stamp: int | None) -> str:
    from datetime import UTC, datetime

    if stamp is None:
        return "-"
    if stamp == 0:
        return "before it was attached"
    return datetime.fromtimestamp((stamp >> 16) / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
